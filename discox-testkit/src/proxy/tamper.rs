//! What a proxy does to the bytes that pass.

use std::time::Duration;

use tokio::time::Instant;

/// What is done to the bytes that come from the target.
#[derive(Clone, Copy, Debug)]
pub enum Tamper {
    /// The n-th connection from now on is reset after n bytes: each ends one byte later than the one before.
    EndLater,
    /// The n-th connection from now on has its n-th byte inverted: lengths, numbers and texts become others.
    SpoilLater,
    /// All bytes after so many are random.
    Garble {
        /// How many pass as they are.
        after: u64,
    },
    /// Bytes pass one by one.
    Drip {
        /// The time between two.
        every: Duration,
    },
}

/// The tampering with one connection.
pub(super) struct Tampering {
    tamper: Tamper,
    /// Which connection it is, since tampering began.
    number: u64,
    passed: u64,
    last: Option<Instant>,
}

impl Tampering {
    pub(super) fn new(tamper: Tamper, number: u64) -> Tampering {
        Tampering { tamper, number, passed: 0, last: None }
    }

    /// What becomes of these bytes, and when each piece is due.
    pub(super) fn applied(&mut self, bytes: &[u8], due: Instant) -> Vec<(Instant, Vec<u8>)> {
        let first = self.passed;
        self.passed += bytes.len() as u64;
        let mut bytes = bytes.to_vec();
        match self.tamper {
            Tamper::EndLater => {
                bytes.truncate(usize::try_from(self.number - first.min(self.number)).unwrap_or(0))
            }
            Tamper::SpoilLater => {
                let spoilt =
                    self.number.checked_sub(first).and_then(|at| bytes.get_mut(usize::try_from(at).ok()?));
                if let Some(byte) = spoilt {
                    *byte = !*byte;
                }
            }
            Tamper::Garble { after } => {
                let kept = usize::try_from(after.saturating_sub(first)).unwrap_or(usize::MAX);
                bytes.iter_mut().skip(kept).for_each(|byte| *byte = fastrand::u8(..));
            }
            Tamper::Drip { every } => {
                let mut due = self.last.map_or(due, |last| due.max(last + every));
                let pieces = bytes.into_iter().map(|byte| {
                    let piece = (due, vec![byte]);
                    self.last = Some(due);
                    due += every;
                    piece
                });
                return pieces.collect();
            }
        }
        vec![(due, bytes)]
    }

    /// Nothing passes any more: the connection is to be reset.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.tamper, Tamper::EndLater) && self.passed >= self.number
    }
}
