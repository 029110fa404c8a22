//! A connection that is ready, and the guard of a request over it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::{Connection, Target, shared::Signals};

/// What is remembered of an endpoint's answers, across its connections.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Failures since the last success.
    pub(crate) failures: AtomicU32,
    /// The manager has been told of them and has not looked yet.
    pub(crate) reported: AtomicBool,
}

/// A connection that is ready, with the counters that only its own requests write. In this order: what each pick reads
/// and writes lies together, beside the counters of its `Arc`.
#[repr(C)]
pub(crate) struct Ready<C> {
    pub(crate) picked: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) id: u64,
    pub(crate) is_draining: AtomicBool,
    /// Whether a request over it has succeeded.
    pub(crate) has_served: AtomicBool,
    pub(crate) eject_after: u32,
    pub(crate) connection: C,
    pub(crate) health: Arc<Health>,
    pub(crate) target: Arc<Target>,
    pub(crate) attr: ArcSwap<Bytes>,
    /// The endpoint's hash, for rendezvous.
    pub(crate) hash: u64,
    pub(crate) signals: Arc<Signals>,
}

impl<C> Ready<C> {
    /// Requests in flight.
    #[inline]
    pub(crate) fn load(&self) -> u32 {
        let ended = self.ended.load(Relaxed);
        self.picked.load(Relaxed).saturating_sub(ended) as u32
    }

    /// Whether no request is in flight, for good if nothing is picked any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.ended.load(SeqCst) == self.picked.load(SeqCst)
    }
}

impl<C> Drop for Ready<C> {
    fn drop(&mut self) {
        self.signals.picks.fetch_add(*self.picked.get_mut(), Relaxed);
    }
}

/// One request's endpoint. It counts as in flight until this guard is dropped.
///
/// Tell it how the request ended: [`Pick::success`] or [`Pick::failure`]. Without a word the request
/// counts as neither.
pub struct Pick<C>(Arc<Ready<C>>);

impl<C> Pick<C> {
    pub(crate) fn new(ready: Arc<Ready<C>>) -> Self {
        ready.picked.fetch_add(1, SeqCst);
        Self(ready)
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    /// The endpoint, `host:port`.
    pub fn endpoint(&self) -> &str {
        self.0.target.endpoint()
    }

    /// The endpoint, parsed.
    pub fn target(&self) -> &Arc<Target> {
        &self.0.target
    }

    /// The endpoint's attr, as of now.
    pub fn attr(&self) -> Bytes {
        Bytes::clone(&self.0.attr.load())
    }

    /// The connection to the endpoint.
    pub fn connection(&self) -> &C {
        &self.0.connection
    }

    /// The endpoint has answered: its failures in a row are over.
    pub fn success(&self) {
        // Reading first: a healthy endpoint's line is written by its counters only.
        if self.0.health.failures.load(Relaxed) != 0 {
            self.0.health.failures.store(0, Relaxed);
        }
        if !self.0.has_served.load(Relaxed) {
            self.0.has_served.store(true, Relaxed);
        }
    }

    /// The endpoint has not answered, or has answered that it cannot. Enough of these in a row eject
    /// it for a while: see [`Options::eject_after`](crate::Options::eject_after).
    pub fn failure(&self) {
        let health = &self.0.health;
        let failures = health.failures.fetch_add(1, Relaxed).saturating_add(1);
        let is_enough = self.0.eject_after != 0 && failures >= self.0.eject_after;
        if is_enough && !health.reported.swap(true, SeqCst) {
            self.0.signals.report(self.0.id);
        }
    }
}

impl<C> Drop for Pick<C> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
        if self.0.is_draining.load(SeqCst) && self.0.is_idle() {
            self.0.signals.report(self.0.id);
        }
    }
}

impl<C: Connection> fmt::Debug for Pick<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pick").field(&self.endpoint()).finish()
    }
}
