//! Slots for blocking queries: an agent allows 200 connections per client.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use discox_core::{BackendType, Error, ErrorKind, Result, backend::lock};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use tracing::warn;

/// Blocking queries that an agent holds for us at once: 200 less what ordinary requests need
/// (`http_max_conns_per_client`).
pub(crate) const SLOTS: usize = 150;

/// When there are more services than slots, each gets its turn about this often.
const ROUND: Duration = Duration::from_secs(2);
/// The shortest wait of a query that others wait for.
const SHORTEST: Duration = Duration::from_millis(250);

/// The slots for blocking queries on one agent.
#[derive(Debug)]
pub(crate) struct QuerySlots {
    free: Arc<Semaphore>,
    /// Places of abandoned queries: the agent holds them until their wait ends.
    abandoned: Mutex<Vec<(Instant, OwnedSemaphorePermit)>>,
    watches: AtomicUsize,
    has_warned: AtomicBool,
    longest: Duration,
}

/// A slot. Dropped before [`QuerySlot::over`], it is free again when the agent has given the query up.
#[derive(Debug)]
pub(crate) struct QuerySlot {
    slots: Arc<QuerySlots>,
    permit: Option<OwnedSemaphorePermit>,
    until: Instant,
}

/// A watch that needs a slot, as long as it lives.
#[derive(Debug)]
pub(crate) struct Watching(Arc<QuerySlots>);

impl QuerySlots {
    /// All slots free. `longest` is the wait of a query that nobody waits for.
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            free: Arc::new(Semaphore::new(SLOTS)),
            abandoned: Mutex::default(),
            watches: AtomicUsize::new(0),
            has_warned: AtomicBool::new(false),
            longest,
        }
    }

    /// Counts a watch in.
    pub(crate) fn watching(self: &Arc<Self>) -> Watching {
        let watches = self.watches.fetch_add(1, Ordering::Relaxed) + 1;
        if watches > SLOTS && !self.has_warned.swap(true, Ordering::Relaxed) {
            warn!(
                backend = %BackendType::Consul,
                "more than {SLOTS} services watched over one agent: their queries take turns, changes are seen later"
            );
        }
        Watching(self.clone())
    }

    /// How long a query may be held.
    pub(crate) fn wait(&self) -> Duration {
        let watches = self.watches.load(Ordering::Relaxed);
        if watches <= SLOTS {
            return self.longest;
        }
        let share = ROUND.mul_f64(SLOTS as f64 / watches as f64);
        share.max(SHORTEST).min(self.longest)
    }

    /// Waits for a slot, for a query that is held for at most `wait`.
    ///
    /// # Errors
    /// None while the link lives.
    pub(crate) async fn take(self: &Arc<Self>, wait: Duration) -> Result<QuerySlot> {
        let mut permit = std::pin::pin!(self.free.clone().acquire_owned());
        loop {
            let next_free = self.release_abandoned();
            tokio::select! {
                biased;
                permit = &mut permit => {
                    let permit = permit.map_err(|_| Error::new(ErrorKind::Unavailable, "the connection was closed"))?;
                    let until = Instant::now() + wait + wait / 8;
                    return Ok(QuerySlot { slots: self.clone(), permit: Some(permit), until });
                }
                () = sleep_until(next_free.unwrap_or_else(Instant::now)), if next_free.is_some() => {}
            }
        }
    }

    /// Frees the slots of queries that have ended by now; when the next one will be.
    fn release_abandoned(&self) -> Option<Instant> {
        let mut abandoned = lock(&self.abandoned);
        let now = Instant::now();
        abandoned.retain(|(until, _)| *until > now);
        abandoned.iter().map(|(until, _)| *until).min()
    }
}

impl QuerySlot {
    /// The agent has answered.
    pub(crate) fn over(mut self) {
        self.permit = None;
    }
}

impl Drop for QuerySlot {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            let mut abandoned = lock(&self.slots.abandoned);
            abandoned.push((self.until, permit));
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_query_keeps_its_place_until_its_wait_ends() {
        let slots = Arc::new(QuerySlots::new(Duration::from_secs(10)));
        let wait = Duration::from_secs(8);
        let mut held = Vec::new();
        for _ in 0..SLOTS {
            held.push(slots.take(wait).await.unwrap());
        }
        let began = Instant::now();
        held.pop().unwrap().over();
        held.push(slots.take(wait).await.unwrap());
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(held.pop());
        let _next = slots.take(wait).await.unwrap();
        assert!(began.elapsed() >= wait);
    }

    #[test]
    fn waits_are_shorter_when_others_wait() {
        let slots = Arc::new(QuerySlots::new(Duration::from_secs(10)));
        let mut watching: Vec<_> = (0..SLOTS).map(|_| slots.watching()).collect();
        assert_eq!(slots.wait(), Duration::from_secs(10));
        watching.extend((0..SLOTS).map(|_| slots.watching()));
        assert_eq!(slots.wait(), Duration::from_secs(1));
        drop(watching);
        assert_eq!(slots.wait(), Duration::from_secs(10));
    }
}
