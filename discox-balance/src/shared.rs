//! What requests and the manager of one balancer share.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::{Endpoints, Options, table::Table};

pub(crate) struct Shared<C> {
    pub(crate) endpoints: Endpoints,
    pub(crate) options: Options,
    pub(crate) table: ArcSwap<Table<C>>,
    /// Counts the tables, for those who wait for the next.
    pub(crate) published: watch::Sender<u64>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) counters: Counters,
    pub(crate) turns: Turns,
}

impl<C> Shared<C> {
    /// The service's name as errors show it.
    pub(crate) fn name(&self) -> &str {
        let name = self.options.name.as_deref().or(self.endpoints.name.as_deref());
        name.unwrap_or("the service")
    }
}

/// What requests tell the manager. The slow way only: each member is in it at most once.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    reported: Mutex<BTreeSet<u64>>,
    pub(crate) wake: Notify,
    /// Picks of connections that are gone.
    pub(crate) picks: AtomicU64,
}

impl Signals {
    pub(crate) fn report(&self, id: u64) {
        lock(&self.reported).insert(id);
        self.wake.notify_one();
    }

    pub(crate) fn take(&self) -> BTreeSet<u64> {
        std::mem::take(&mut *lock(&self.reported))
    }
}

/// What has happened, on the slow ways.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) retries: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) failed_connects: AtomicU64,
    pub(crate) ejections: AtomicU64,
    pub(crate) waits: AtomicU64,
    pub(crate) no_endpoint: AtomicU64,
    pub(crate) skipped: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Whose turn it is, for round robin: a sequence for each of some groups of threads, so that threads
/// do not write to what others read. They begin apart.
pub(crate) struct Turns([Turn; TURNS]);

const TURNS: usize = 16;

/// Alone in its cache line, and in the one that is prefetched with it.
#[repr(align(128))]
#[derive(Default)]
struct Turn(AtomicU64);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Turn(AtomicU64::new(fastrand::u64(..1 << 32)))))
    }
}

impl Turns {
    /// The next number of this thread's sequence.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        thread_local! {
            static GROUP: usize = {
                static THREADS: AtomicU64 = AtomicU64::new(0);
                THREADS.fetch_add(1, Relaxed) as usize % TURNS
            };
        }
        GROUP.with(|group| self.0.get(*group).map_or(0, |turn| turn.0.fetch_add(1, Relaxed)))
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
