//! What the task that keeps a connection and the users of the connection share.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use super::{claims::Claims, residents::Residents, withdrawals::Withdrawals};
use crate::{
    ConnectionConfig, Error, ErrorKind, Result,
    backend::{Link, Liveness},
};

/// Requests of one kind that are under way at once on one connection, when all its users act after an outage.
const IN_FLIGHT: usize = 64;
/// What is left of the time for an end to close the session or revoke the leases.
const CLOSING: Duration = Duration::from_millis(500);

/// A link that is up, and which one it is.
pub(crate) type Up<L> = (u64, Arc<L>);

/// What the connection is.
pub(super) enum State<L> {
    /// Not yet connected. Left by the first answer.
    Connecting,
    /// Connected, for the n-th time. Left when the link says that it is lost.
    Up(u64, Arc<L>),
    /// Lost, or never made, and how many attempts to connect have failed since. Left when one succeeds.
    Down(Error, u32),
}

/// What the connection should be.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// Connected. Left by the end of those that use it.
    Open,
    /// Nobody uses it: what is to be withdrawn is withdrawn, then it ends. Left by the next start.
    Idle(Ending),
    /// Ended for good, after what is to be withdrawn was withdrawn.
    Closed(Ending),
}

/// How long an end may take: until when records are withdrawn, the link is closed, and callers wait.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    pub(super) withdraw_until: Instant,
    pub(super) close_until: Instant,
    pub(super) over: Instant,
}

impl Ending {
    pub(super) fn within(at_most: Duration) -> Self {
        let over = Instant::now() + at_most;
        // The task itself needs a moment to end.
        Self { withdraw_until: over - CLOSING.min(at_most / 2), close_until: over - at_most / 50, over }
    }
}

/// The whole condition of a connection.
pub(super) struct Condition<L> {
    pub(super) state: State<L>,
    pub(super) wanted: Wanted,
    /// A task keeps the connection, or ends it. Left when it has ended, however it ends.
    pub(super) is_running: bool,
}

impl<L> Condition<L> {
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.wanted, Wanted::Closed(_))
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        match self.wanted {
            Wanted::Open => None,
            Wanted::Idle(ending) | Wanted::Closed(ending) => Some(ending),
        }
    }

    fn failure(&self) -> Option<&Error> {
        if let State::Down(error, _) = &self.state { Some(error) } else { None }
    }
}

/// What the task and the users of a connection share.
pub(crate) struct Shared<L: Link> {
    pub(crate) connector: Arc<L::Connector>,
    pub(crate) settings: ConnectionConfig,
    pub(crate) liveness: Liveness,
    pub(crate) claims: Claims<L::Receipt>,
    pub(crate) withdrawals: Withdrawals<L::Receipt>,
    pub(crate) residents: Residents,
    /// Lists that are read at once. Registrations have their own places: the grace exists so that they come first.
    pub(crate) lists: Semaphore,
    pub(crate) writes: Semaphore,
    pub(super) condition: watch::Sender<Condition<L>>,
    /// How many links there were. It never starts again: an old link is never taken for a new one.
    links: AtomicU64,
    /// A registration has left, or a withdrawal is over.
    pub(super) left: watch::Sender<()>,
}

impl<L: Link> Shared<L> {
    pub(super) fn new(connector: L::Connector, settings: &ConnectionConfig) -> Self {
        let left = watch::Sender::default();
        Self {
            connector: Arc::new(connector),
            settings: settings.clone(),
            liveness: Liveness::new(settings.detection),
            claims: Claims::default(),
            withdrawals: Withdrawals::new(settings, left.clone()),
            residents: Residents::new(left.clone()),
            lists: Semaphore::new(IN_FLIGHT),
            writes: Semaphore::new(IN_FLIGHT),
            condition: watch::Sender::new(Condition {
                state: State::Connecting,
                wanted: Wanted::Open,
                is_running: false,
            }),
            links: AtomicU64::new(0),
            left,
        }
    }

    /// Waits until the connection is up. Cancel-safe.
    ///
    /// # Errors
    /// [`ErrorKind::Stopped`] when the connection has been closed.
    pub(crate) async fn up(&self) -> Result<Up<L>> {
        let mut condition = self.condition.subscribe();
        let settled = |now: &Condition<L>| now.is_closed() || matches!(now.state, State::Up(..));
        match condition.wait_for(settled).await.as_deref() {
            Ok(Condition {
                state: State::Up(generation, link),
                wanted: Wanted::Open | Wanted::Idle(_),
                ..
            }) => Ok((*generation, link.clone())),
            _ => Err(closed()),
        }
    }

    /// Waits until the link of this generation is no longer the one to use, and returns why. Cancel-safe.
    pub(crate) async fn lost(&self, generation: u64) -> Error {
        let mut condition = self.condition.subscribe();
        let is_lost = |now: &Condition<L>| {
            now.is_closed() || !matches!(now.state, State::Up(current, _) if current == generation)
        };
        match condition.wait_for(is_lost).await.as_deref() {
            Ok(now) if now.is_closed() => closed(),
            Ok(Condition { state: State::Down(error, _), .. }) => error.clone(),
            _ => self.place(Error::new(ErrorKind::Unavailable, "the connection was lost")),
        }
    }

    /// Waits until an attempt to connect has failed for a reason that time does not mend, and returns it.
    /// Cancel-safe.
    pub(crate) async fn refused(&self) -> Error {
        self.failed_so(Error::is_refusal).await
    }

    /// Waits until an attempt to connect has failed in this way, and returns why. Cancel-safe.
    pub(crate) async fn failed_so(&self, is_it: impl Fn(&Error) -> bool) -> Error {
        let mut condition = self.condition.subscribe();
        let has_failed = |now: &Condition<L>| now.is_closed() || now.failure().is_some_and(&is_it);
        match condition.wait_for(has_failed).await.as_deref() {
            Ok(now) if !now.is_closed() => now.failure().cloned().unwrap_or_else(closed),
            _ => closed(),
        }
    }

    /// Why the connection is not up, if it is not.
    pub(crate) fn trouble(&self) -> Option<Error> {
        let now = self.condition.borrow();
        if now.is_closed() { Some(closed()) } else { now.failure().cloned() }
    }

    /// Why the last link was lost or none was made, also of a connection that is to end.
    pub(super) fn outage(&self) -> Option<Error> {
        self.condition.borrow().failure().cloned()
    }

    /// Whether the connection was ended for good.
    pub(crate) fn is_closed(&self) -> bool {
        self.condition.borrow().is_closed()
    }

    /// How many attempts to connect have failed since the connection was lost.
    pub(crate) fn attempts(&self) -> u32 {
        if let State::Down(_, attempts) = self.condition.borrow().state { attempts } else { 0 }
    }

    /// Adds backend and address to an error that has none yet.
    pub(crate) fn place(&self, error: Error) -> Error {
        if error.backend().is_some() {
            error
        } else {
            error.with_backend(L::BACKEND).with_address(L::place(&self.connector))
        }
    }

    /// The number of the next link.
    pub(super) fn next_generation(&self) -> u64 {
        self.links.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Changes the state, and returns the former one: what it holds is not dropped under the lock.
    pub(super) fn set(&self, mut state: State<L>) -> State<L> {
        self.condition.send_modify(|now| mem::swap(&mut now.state, &mut state));
        state
    }

    /// Waits until no registration is left and nothing is to be withdrawn. Cancel-safe.
    pub(super) async fn emptied(&self) {
        let mut left = self.left.subscribe();
        while !self.is_empty() {
            // The sender lives as long as self, so that this cannot fail.
            let _ = left.changed().await;
        }
    }

    /// Whether there is nothing of ours in the registry, and nothing that wants to be there.
    pub(super) fn is_empty(&self) -> bool {
        self.residents.is_empty() && self.withdrawals.is_empty()
    }

    /// The longest that connecting may take: backends try members side by side, and may have to talk
    /// to the one that answered.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.settings.connect_timeout + self.settings.request_timeout
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Stopped, "the connection was closed")
}
