//! Notices that an earlier state of the catalogue was restored (`consul snapshot restore`).
//!
//! A restore takes live records out of the catalogue as if they had been deregistered, and the next write hides it: its
//! index is ahead again. But Consul lets go of every query that it holds, also where nothing has changed. So one is
//! always held for something that hardly ever changes. (`state.AbandonCh` in Consul's `agent/consul/rpc.go`.)

use std::time::Duration;

use discox_core::{Error, ErrorKind};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::{agent::Consul, client::Fault};

/// A server that answers sooner than this does not hold queries: nothing follows from its answers.
const HELD: Duration = Duration::from_millis(20);
/// Between the beginnings of two queries.
const PAUSE: Duration = Duration::from_secs(1);
/// Before the next query when the agent refused one, such as a Consul before 1.5.
const WHEN_REFUSED: Duration = Duration::from_secs(10);

/// Resolves when an earlier state was restored: whoever is missing from the catalogue may be alive.
pub(crate) async fn restored(link: &Consul) -> Error {
    let datacenter = link.connector.settings.consul.datacenter.as_deref();
    let hold = link.connector.hold();
    let mut last = 0;
    loop {
        let began = Instant::now();
        let pause = match link.client.quiet_index(datacenter, last, hold).await {
            Ok(index) if is_restored(last, index, began.elapsed(), hold.wait) => {
                let message =
                    "Consul has let go of its queries: an earlier state of the catalogue was restored";
                return link.here(Error::new(ErrorKind::Unavailable, message).answered());
            }
            Ok(index) => {
                // The first query is not held.
                let is_first = last == 0 && index != 0;
                last = index;
                if is_first { Duration::ZERO } else { PAUSE }
            }
            Err(fault) => {
                last = 0;
                let is_refused = matches!(fault, Fault::Status(..) | Fault::Denied(..));
                debug!(backend = "consul", error = %link.failed(fault), "a query that notices restores failed");
                if is_refused { WHEN_REFUSED } else { PAUSE }
            }
        };
        sleep_until(began + pause).await;
    }
}

fn is_restored(last: u64, index: u64, took: Duration, wait: Duration) -> bool {
    let is_let_go = index == last && took >= HELD && took < wait;
    last != 0 && (index < last || is_let_go)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_let_go_before_its_wait_ends_tells_of_a_restore() {
        let wait = Duration::from_secs(10);
        let after = |last, index, seconds| is_restored(last, index, Duration::from_secs(seconds), wait);
        assert!(after(5, 5, 3), "let go without news");
        assert!(after(5, 4, 3), "the index went back");
        assert!(!after(5, 5, 10), "held to its end");
        assert!(!after(5, 6, 3), "something changed");
        assert!(!after(0, 5, 3), "the first answer");
        assert!(!after(5, 5, 0), "a server that holds nothing");
    }
}
