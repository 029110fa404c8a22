//! What goes on as long as a connection lives: probes, and leases kept alive.

use std::{collections::HashSet, convert::Infallible};

use discox_core::{Error, ErrorKind, Result, backend::Pulse};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tracing::debug;

use crate::{Etcd, error, leases::Lease};

/// A stream that breaks sooner than this after it was opened is not opened again: the connection is
/// given up instead, so that core's backoff applies.
const STEADY: Duration = Duration::from_secs(1);

/// How often withdrawals that may have been overtaken are looked at, while there are any.
const SWEEP: Duration = Duration::from_secs(1);

/// Ends when the connection is lost.
pub(crate) async fn keep(link: &Etcd, pulse: &Pulse) -> Error {
    tokio::select! {
        error = probing(link, pulse) => error,
        error = tending(link, pulse) => error,
        never = sweeping(link) => match never {},
    }
}

/// Asks at regular times, and when somebody suspects the connection. The pause and the wait for the
/// answer are together shorter than the time for detection.
async fn probing(link: &Etcd, pulse: &Pulse) -> Error {
    loop {
        pulse.probe_due(pulse.detection() / 3).await;
        if let Err(error) = probe(link, pulse).await {
            return error;
        }
        pulse.beat();
    }
}

async fn probe(link: &Etcd, pulse: &Pulse) -> Result<()> {
    let limit = pulse.detection() / 2;
    timeout(limit, link.probe()).await.unwrap_or_else(|_| Err(link.too_late("probe", limit)))
}

/// Keeps every lease alive.
async fn tending(link: &Etcd, pulse: &Pulse) -> Error {
    let mut tended = FuturesUnordered::new();
    let mut known = HashSet::new();
    loop {
        for lease in link.leases().all() {
            if known.insert(lease.id) {
                tended.push(async move { (lease.id, tend(link, pulse, lease).await) });
            }
        }
        tokio::select! {
            () = link.leases().granted.notified() => {}
            Some((id, end)) = tended.next() => match end {
                Ok(Expired) => {
                    debug!(backend = "etcd", lease = id, "lease expired");
                    link.leases().forget(id);
                    pulse.verify();
                }
                Err(error) => return error,
            }
        }
    }
}

/// The lease is no more.
struct Expired;

/// Keeps one lease alive. A stream that breaks on a connection that is well is opened again.
async fn tend(link: &Etcd, pulse: &Pulse, lease: Lease) -> Result<Expired> {
    loop {
        let opened = Instant::now();
        let error = match renew(link, pulse, lease).await {
            Ok(expired) => return Ok(expired),
            Err(error) => error,
        };
        if opened.elapsed() < STEADY {
            return Err(error);
        }
        probe(link, pulse).await?;
    }
}

/// Renews a lease three times a TTL on a stream of its own, until either ends. The answers are read
/// as they come: a broken connection shows here at once.
async fn renew(link: &Etcd, pulse: &Pulse, lease: Lease) -> Result<Expired> {
    let mut client = link.lease();
    let opened = timeout(lease.ttl, client.keep_alive(lease.id)).await;
    let (mut keeper, mut answers) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) if error::is_lease_gone(&error) => return Ok(Expired),
        Ok(Err(error)) => return Err(link.failed(error)),
        Err(_) => return Err(link.too_late("lease renewal", lease.ttl)),
    };
    let mut heard = Instant::now();
    let mut renewals = ticks(lease.ttl / 3);
    loop {
        tokio::select! {
            answer = answers.message() => match answer.map_err(|error| link.failed(error))? {
                Some(answer) if answer.ttl() > 0 => {
                    heard = Instant::now();
                    pulse.beat();
                }
                Some(_) => return Ok(Expired),
                None => return Err(link.here(Error::new(ErrorKind::Unavailable, "the server has ended the lease stream"))),
            },
            _ = renewals.tick() => {
                if heard.elapsed() > lease.ttl {
                    return Err(link.too_late("lease renewal", lease.ttl));
                }
                keeper.keep_alive().await.map_err(|error| link.failed(error))?;
            }
        }
    }
}

/// Removes records that a request given up has written after their withdrawal.
async fn sweeping(link: &Etcd) -> Infallible {
    loop {
        link.leases().any_doubtful().await;
        sleep(SWEEP).await;
        while let Some(key) = link.leases().settled() {
            if let Err(error) = link.remove_if_ours(&key).await {
                debug!(backend = "etcd", %error, "a withdrawn record could not be looked at yet");
                break;
            }
            link.leases().cleared();
        }
    }
}

/// The first tick comes after one period, and after a delay the next one comes a period later.
fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
