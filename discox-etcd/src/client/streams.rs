//! Places among the HTTP/2 streams that a server, or a proxy before it, allows on one connection.

use std::sync::Once;

use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{info, warn};

/// Streams that stay open for watches, at most: see `watches.rs`.
pub(crate) const WATCH_STREAMS: usize = 3;

/// Streams that calls leave free: those for watches, one for the probe, one for a login and two for renewals.
const RESERVED: usize = WATCH_STREAMS + 4;

/// Renewals under way at once.
const RENEWALS: usize = 2;

/// Calls of one kind under way at once where there is no limit: more than core ever has.
const NO_LIMIT: usize = 1_000;

/// Why a call is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// To list a service: many at once after an outage, and some take long.
    List,
    /// To find out whether the server answers. It always has a place.
    Probe,
    /// To renew a lease.
    Renewal,
    /// To write, to compare and to withdraw.
    Write,
}

/// Calls wait here rather than in the HTTP/2 library, where a probe would wait behind them.
#[derive(Debug)]
pub(crate) struct Streams {
    lists: Semaphore,
    renewals: Semaphore,
    writes: Semaphore,
    limit: usize,
    told: Once,
}

impl Streams {
    /// As long as it is not known what the server allows.
    pub(crate) fn unlimited() -> Self {
        Self::new(None, "")
    }

    /// `most` is what the server allows.
    pub(crate) fn new(most: Option<u32>, address: &str) -> Self {
        let limit = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let calls = limit.saturating_sub(RESERVED);
        if calls < 2 {
            warn!(
                backend = "etcd",
                at = address,
                limit,
                "the server, or a proxy before it, allows fewer HTTP/2 streams on a connection than discox needs ({}): \
                 raise `--max-concurrent-streams` or the proxy's limit",
                RESERVED + 2
            );
        }
        let lists = (calls / 2).clamp(1, NO_LIMIT);
        let writes = calls.saturating_sub(lists).clamp(1, NO_LIMIT);
        Self {
            lists: Semaphore::new(lists),
            renewals: Semaphore::new(RENEWALS),
            writes: Semaphore::new(writes),
            limit,
            told: Once::new(),
        }
    }

    /// Waits for a place. Cancel-safe.
    pub(crate) async fn place(&self, purpose: Purpose) -> Option<SemaphorePermit<'_>> {
        let places = match purpose {
            Purpose::List => &self.lists,
            Purpose::Probe => return None,
            Purpose::Renewal => &self.renewals,
            Purpose::Write => &self.writes,
        };
        if let Ok(place) = places.try_acquire() {
            return Some(place);
        }
        if purpose != Purpose::Renewal {
            let limit = self.limit;
            self.told.call_once(|| {
                info!(backend = "etcd", limit, "the server's limit of HTTP/2 streams makes requests wait")
            });
        }
        places.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lists_leave_a_place_for_all_others() {
        let streams = Streams::new(Some(16), "here");
        let mut lists = Vec::new();
        while let Ok(list) = timeout(Duration::from_secs(1), streams.place(Purpose::List)).await {
            lists.push(list);
        }
        assert_eq!(lists.len(), 4);
        for purpose in [Purpose::Probe, Purpose::Renewal, Purpose::Write] {
            timeout(Duration::from_secs(1), streams.place(purpose)).await.unwrap();
        }
        lists.pop();
        streams.place(Purpose::List).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_too_low_blocks_nothing() {
        for most in 0..10 {
            let streams = Streams::new(Some(most), "here");
            for purpose in [Purpose::List, Purpose::Write, Purpose::Renewal] {
                timeout(Duration::from_secs(1), streams.place(purpose)).await.unwrap();
            }
        }
    }
}
