//! Blocking queries take turns: an agent allows 200 connections per client.

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
pub(crate) const PLACES: usize = 150;

/// When there are more services than places, each gets its turn about this often.
const ROUND: Duration = Duration::from_secs(2);
/// The shortest wait of a query that others wait for.
const SHORTEST: Duration = Duration::from_millis(250);

/// The places for blocking queries on one agent.
#[derive(Debug)]
pub(crate) struct Turns {
    places: Arc<Semaphore>,
    /// Places of abandoned queries: the agent holds them until their wait ends.
    abandoned: Mutex<Vec<(Instant, OwnedSemaphorePermit)>>,
    watches: AtomicUsize,
    told: AtomicBool,
    longest: Duration,
}

/// A place. Dropped before [`Turn::over`], it is free again when the agent has given the query up.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    place: Option<OwnedSemaphorePermit>,
    until: Instant,
}

/// A watch that needs turns, as long as it lives.
#[derive(Debug)]
pub(crate) struct Watching(Arc<Turns>);

impl Turns {
    /// All places free. `longest` is the wait of a query that nobody waits for.
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            abandoned: Mutex::default(),
            watches: AtomicUsize::new(0),
            told: AtomicBool::new(false),
            longest,
        }
    }

    /// Counts a watch in.
    pub(crate) fn watching(self: &Arc<Self>) -> Watching {
        let watches = self.watches.fetch_add(1, Ordering::Relaxed) + 1;
        if watches > PLACES && !self.told.swap(true, Ordering::Relaxed) {
            warn!(
                backend = %BackendType::Consul,
                "more than {PLACES} services watched over one agent: their queries take turns, changes are seen later"
            );
        }
        Watching(self.clone())
    }

    /// How long a query may be held.
    pub(crate) fn wait(&self) -> Duration {
        let watches = self.watches.load(Ordering::Relaxed);
        if watches <= PLACES {
            return self.longest;
        }
        let share = ROUND.mul_f64(PLACES as f64 / watches as f64);
        share.max(SHORTEST).min(self.longest)
    }

    /// Waits for a place, for a query that is held for at most `wait`.
    ///
    /// # Errors
    /// None while the link lives.
    pub(crate) async fn take(self: &Arc<Self>, wait: Duration) -> Result<Turn> {
        let mut place = std::pin::pin!(self.places.clone().acquire_owned());
        loop {
            let next_free = self.release_abandoned();
            tokio::select! {
                biased;
                place = &mut place => {
                    let place = place.map_err(|_| Error::new(ErrorKind::Unavailable, "the connection was closed"))?;
                    let until = Instant::now() + wait + wait / 8;
                    return Ok(Turn { turns: self.clone(), place: Some(place), until });
                }
                () = sleep_until(next_free.unwrap_or_else(Instant::now)), if next_free.is_some() => {}
            }
        }
    }

    /// Frees the places of queries that have ended by now; when the next one will be.
    fn release_abandoned(&self) -> Option<Instant> {
        let mut abandoned = lock(&self.abandoned);
        let now = Instant::now();
        abandoned.retain(|(until, _)| *until > now);
        abandoned.iter().map(|(until, _)| *until).min()
    }
}

impl Turn {
    /// The agent has answered.
    pub(crate) fn over(mut self) {
        self.place = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let mut abandoned = lock(&self.turns.abandoned);
            abandoned.push((self.until, place));
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
        let turns = Arc::new(Turns::new(Duration::from_secs(10)));
        let wait = Duration::from_secs(8);
        let mut held = Vec::new();
        for _ in 0..PLACES {
            held.push(turns.take(wait).await.unwrap());
        }
        let began = Instant::now();
        held.pop().unwrap().over();
        held.push(turns.take(wait).await.unwrap());
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(held.pop());
        let _next = turns.take(wait).await.unwrap();
        assert!(began.elapsed() >= wait);
    }

    #[test]
    fn waits_are_shorter_when_others_wait() {
        let turns = Arc::new(Turns::new(Duration::from_secs(10)));
        let mut watching: Vec<_> = (0..PLACES).map(|_| turns.watching()).collect();
        assert_eq!(turns.wait(), Duration::from_secs(10));
        watching.extend((0..PLACES).map(|_| turns.watching()));
        assert_eq!(turns.wait(), Duration::from_secs(1));
        drop(watching);
        assert_eq!(turns.wait(), Duration::from_secs(10));
    }
}
