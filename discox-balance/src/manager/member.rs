//! One endpoint, from its first record until it is forgotten.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::AbortHandle;
use tokio::time::{Duration, Instant};

use crate::{
    Target, Traits,
    ready::{Health, Ready},
};

/// The first ejection; each further one in a row takes twice as long.
const SHORTEST_EJECTION: Duration = Duration::from_secs(1);
const LONGEST_EJECTION: Duration = Duration::from_secs(30);

pub(super) struct Member<C> {
    pub(super) target: Arc<Target>,
    pub(super) traits: Traits,
    pub(super) attr: Bytes,
    /// In the cache, and not filtered.
    pub(super) is_listed: bool,
    /// Listed, and in the subset.
    pub(super) is_chosen: bool,
    pub(super) link: Link<C>,
    /// Where it sits in the table, if it is picked.
    pub(super) seat: Option<Seat>,
    pub(super) health: Arc<Health>,
    pub(super) ejection: Ejection,
    /// Attempts to connect in a row that failed.
    pub(super) failed_dials: u32,
    /// Why the last attempt failed, or why the endpoint says that it is not well; none after a success or before the
    /// first.
    pub(super) last_error: Option<Arc<str>>,
    /// Whether it is watched, and has not said over its connection that it is well.
    pub(super) is_unwell: bool,
    /// Counts its connections: what belongs to an earlier one is ignored.
    pub(super) epoch: u64,
}

/// The connection of an endpoint.
pub(super) enum Link<C> {
    /// None is wanted. Left when the endpoint is chosen.
    Idle,
    /// An attempt has failed. Left at that time.
    Backoff(Instant),
    /// Waits until fewer connections are being made. Left then.
    Queued,
    /// Is being made. Left by its success or failure; the handle ends the attempt.
    Dialing(AbortHandle),
    /// Takes requests, since then. Left when it closes or the endpoint is not chosen any more.
    Open(Arc<Ready<C>>, Instant),
    /// Takes no new requests, since then. Left when the endpoint is back, or when it is closed.
    Draining(Arc<Ready<C>>, Instant),
}

/// A place in one of the two sets of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) is_near: bool,
    pub(super) position: usize,
}

/// Whether an endpoint is left out for its failures, and how often it was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ejection {
    pub(super) until: Option<Instant>,
    /// When the last one ends or ended.
    last: Option<Instant>,
    times: u32,
}

impl Ejection {
    /// Begins one and says when it ends. It starts small again when the last one is long over.
    pub(super) fn begin(&mut self, now: Instant) -> Instant {
        if self.remembered_until().is_none_or(|until| until <= now) {
            self.times = 0;
        }
        let length = SHORTEST_EJECTION * 2_u32.pow(self.times.min(10));
        self.times += 1;
        let until = now + length.min(LONGEST_EJECTION);
        (self.until, self.last) = (Some(until), Some(until));
        until
    }

    /// How long it counts that it was ejected.
    pub(super) fn remembered_until(&self) -> Option<Instant> {
        self.last.map(|until| until + 2 * LONGEST_EJECTION)
    }
}

impl<C> Member<C> {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target: Arc::new(target),
            traits: Traits::parse(b""),
            attr: Bytes::new(),
            is_listed: false,
            is_chosen: false,
            link: Link::Idle,
            seat: None,
            health: Arc::default(),
            ejection: Ejection::default(),
            failed_dials: 0,
            last_error: None,
            is_unwell: false,
            epoch: 0,
        }
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.ejection.until.is_some()
    }

    pub(super) fn open(&self) -> Option<&Arc<Ready<C>>> {
        match &self.link {
            Link::Open(ready, _) => Some(ready),
            _ => None,
        }
    }
}
