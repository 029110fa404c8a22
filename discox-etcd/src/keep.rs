//! Background work of a live connection: probes, lease renewal, and the removal of records that were written late.

use std::{collections::HashSet, convert::Infallible};

use discox_core::{Error, Result, backend::Liveness};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Duration, Instant, sleep, timeout};
use tracing::debug;

use crate::client::{Etcd, leases::Lease};

/// After a renewal that failed on a connection that is well, the next one comes this soon.
const RETRY: Duration = Duration::from_millis(300);

/// How often withdrawals that may have been overtaken are looked at, while there are any.
const SWEEP: Duration = Duration::from_secs(1);

/// Ends when the connection is lost.
pub(crate) async fn keep(link: &Etcd, liveness: &Liveness) -> Error {
    tokio::select! {
        error = link.ended() => error,
        error = probing(link, liveness) => error,
        error = renewing(link, liveness) => error,
        never = sweeping(link) => match never {},
    }
}

/// Probes at regular times, and when core suspects the connection. The pause and the wait for the
/// answer are together shorter than the time for detection.
async fn probing(link: &Etcd, liveness: &Liveness) -> Error {
    loop {
        liveness.probe_due(liveness.detection() / 3).await;
        // Beside each other: a stuck watch stream is noticed as soon as a hung server.
        let limit = liveness.detection() / 2;
        let (probed, ()) = tokio::join!(probe(link, liveness), link.check_watches(limit));
        if let Err(error) = probed {
            return error;
        }
        liveness.answered();
    }
}

async fn probe(link: &Etcd, liveness: &Liveness) -> Result<()> {
    let limit = liveness.detection() / 2;
    timeout(limit, link.probe()).await.unwrap_or_else(|_| Err(link.too_late("probe", limit)))
}

/// Keeps every lease alive.
async fn renewing(link: &Etcd, liveness: &Liveness) -> Error {
    let mut renewed = FuturesUnordered::new();
    let mut known = HashSet::new();
    loop {
        for lease in link.leases().all() {
            if known.insert(lease.id) {
                renewed.push(async move { (lease.id, renew(link, liveness, lease).await) });
            }
        }
        tokio::select! {
            () = link.leases().granted.notified() => {}
            Some((id, end)) = renewed.next() => match end {
                Ok(Expired) => {
                    debug!(backend = "etcd", lease = id, "lease expired");
                    known.remove(&id);
                    link.leases().forget(id);
                    liveness.verify();
                }
                Err(error) => return error,
            }
        }
    }
}

/// The lease is no more.
struct Expired;

/// Renews a lease three times a TTL, until it is gone or the connection is lost.
async fn renew(link: &Etcd, liveness: &Liveness, lease: Lease) -> Result<Expired> {
    let mut renewed = Instant::now();
    loop {
        let answer = timeout(lease.ttl / 3, link.renew(lease.id)).await;
        let answer = answer.unwrap_or_else(|_| Err(link.too_late("lease renewal", lease.ttl / 3)));
        let pause = match answer {
            Ok(true) => {
                renewed = Instant::now();
                liveness.answered();
                lease.ttl / 3
            }
            Ok(false) => return Ok(Expired),
            Err(error) if renewed.elapsed() > lease.ttl => return Err(error),
            Err(error) => {
                debug!(backend = "etcd", lease = lease.id, %error, "renewal failed");
                probe(link, liveness).await?;
                RETRY
            }
        };
        sleep(pause).await;
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
            link.leases().cleared(&key);
        }
    }
}
