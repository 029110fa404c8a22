//! How long core waits before it tries again. A backend has pauses of its own only within one call or one `keep`.

use std::time::Duration;

use crate::{ConnectionConfig, ErrorKind};

/// The part of a pause that is random, so that clients that failed together do not return together.
const JITTER: f64 = 0.3;

/// Pauses that double from the first to the longest, with jitter. Waiting is the caller's.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    initial: Duration,
    longest: Duration,
    longest_denied: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(settings: &ConnectionConfig) -> Self {
        Self {
            initial: settings.backoff_initial,
            longest: settings.backoff_max,
            longest_denied: settings.denied_backoff_max,
            next: settings.backoff_initial,
        }
    }

    /// The pause after a failure of this kind. Between 70 % and 100 % of the nominal one.
    pub(crate) fn pause(&mut self, kind: ErrorKind) -> Duration {
        let longest = if kind.needs_a_person() { self.longest_denied } else { self.longest };
        let nominal = self.next.min(longest);
        self.next = (nominal * 2).min(longest);
        jittered(nominal)
    }

    /// To be called when things have gone well for a while, not at the first success: a connection
    /// that dies as soon as it is made must back off too.
    pub(crate) fn reset(&mut self) {
        self.next = self.initial;
    }
}

/// 70 % to 100 % of a duration, so that those who began together do not go on together.
pub fn jittered(nominal: Duration) -> Duration {
    nominal.mul_f64(1.0 - JITTER * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_longest_and_starts_again_after_a_reset() {
        let mut backoff = Backoff::new(&ConnectionConfig::default());
        let pauses: Vec<_> = (0..6).map(|_| backoff.pause(ErrorKind::Unavailable).as_millis()).collect();
        for (pause, nominal) in pauses.iter().zip([100, 200, 400, 800, 1000, 1000]) {
            assert!((nominal * 7 / 10..=nominal).contains(pause), "{pause} of {nominal}");
        }
        backoff.reset();
        assert!(backoff.pause(ErrorKind::Unavailable) <= Duration::from_millis(100));
    }

    #[test]
    fn refusals_are_tried_more_slowly() {
        let mut backoff = Backoff::new(&ConnectionConfig::default());
        let last = (0..12).map(|_| backoff.pause(ErrorKind::Denied)).last();
        assert!(last > Some(Duration::from_secs(20)));
    }

    #[test]
    fn pauses_are_spread() {
        let distinct: std::collections::HashSet<_> =
            (0..100).map(|_| jittered(Duration::from_secs(1)).as_millis()).collect();
        assert!(distinct.len() > 20);
    }
}
