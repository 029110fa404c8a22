//! Heart beats: one round for all records of a connection that share a period.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{call::call, shared::Shared};
use crate::{
    backend::{Link, Loss},
    backoff::jittered,
};

/// After a round that failed, the next one comes this soon, unless the period is shorter: there is
/// time for several before a TTL of three periods is over.
const RETRY: Duration = Duration::from_secs(1);

/// Runs as long as the link is in use.
pub(crate) async fn run<L: Link>(shared: &Shared<L>, link: &L) -> Infallible {
    let mut due: BTreeMap<Duration, Instant> = BTreeMap::new();
    let mut rounds = FuturesUnordered::new();
    let mut running = BTreeSet::new();
    loop {
        let now = Instant::now();
        for period in shared.claims.periods() {
            if !running.contains(&period) {
                due.entry(period).or_insert_with(|| now + jittered(period));
            }
        }
        due.retain(|period, at| {
            if *at > now {
                return true;
            }
            running.insert(*period);
            rounds.push(round(shared, link, *period));
            false
        });
        let next = due.values().min().copied();
        tokio::select! {
            biased;
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            () = shared.claims.new_period.notified() => {}
            () = shared.liveness.verify_asked() => due.extend(shared.claims.periods().into_iter().map(|period| (period, now))),
            Some((period, went_well)) = rounds.next(), if !rounds.is_empty() => {
                running.remove(&period);
                let pause = if went_well { period } else { period.min(RETRY) };
                due.entry(period).or_insert(Instant::now() + jittered(pause));
            }
        }
    }
}

/// Verifies all records of a period; each hears what became of it.
async fn round<L: Link>(shared: &Shared<L>, link: &L, period: Duration) -> (Duration, bool) {
    let claims = shared.claims.of_period(period);
    let held: Vec<_> = claims.iter().map(|claim| claim.held.clone()).collect();
    if held.is_empty() {
        return (period, true);
    }
    // A round that hangs must leave time for another one before a TTL is over.
    let shortest = held.iter().map(|held| held.record.ttl).min().unwrap_or(Duration::MAX);
    let limit = shared.settings.request_timeout.min(shortest / 2).max(period);
    match call::<L, _>("heart beat", limit, link.verify(&held)).await {
        Ok(losses) => {
            shared.liveness.answered();
            let losses: HashMap<usize, Loss> = losses.into_iter().collect();
            for (position, claim) in claims.iter().enumerate() {
                shared.claims.found(claim, losses.get(&position).copied());
            }
            (period, true)
        }
        Err(error) => {
            debug!(backend = %L::BACKEND, %error, records = held.len(), "heart beat failed");
            shared.claims.not_confirmed(&claims);
            shared.liveness.probe_now();
            (period, false)
        }
    }
}
