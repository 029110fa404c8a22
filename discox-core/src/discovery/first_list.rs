//! One list, and no watch behind it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::sleep};

use crate::{Discover, EndpointCacher, Error, Event, LiteEndpoint, Result, Snapshot, Update};

/// Waits for the first list of a discovery that was not started, for at most `limit`, and ends the discovery. Returns
/// at once when the registry refuses: waiting would not help. Cancel-safe.
///
/// # Errors
/// Why there is no list.
pub(crate) async fn first_list(discover: &dyn Discover, limit: Duration) -> Result<Arc<Snapshot>> {
    let first = Arc::new(FirstList::default());
    let ended = tokio::select! {
        biased;
        ended = discover.start(first.clone()) => ended.err(),
        () = first.answered() => None,
        () = sleep(limit) => None,
    };
    let (is_known, snapshot) = (first.is_known(), first.endpoints.snapshot());
    if is_known {
        return Ok(snapshot);
    }
    let last_error = ended.or_else(|| discover.status().last_error).or_else(|| first.endpoints.last_error());
    Err(last_error.unwrap_or_else(|| Error::timed_out("list", limit)))
}

/// The usual cache, which also notices a refusal.
#[derive(Default)]
struct FirstList {
    endpoints: LiteEndpoint,
    refused: Notify,
}

impl FirstList {
    async fn answered(&self) {
        tokio::select! {
            () = self.endpoints.ready() => {}
            () = self.refused.notified() => {}
        }
    }

    /// Also when the discovery has ended behind it.
    fn is_known(&self) -> bool {
        self.endpoints.freshness().last_confirmed.is_some()
    }
}

impl EndpointCacher for FirstList {
    fn begin(&self) -> Result<Arc<Snapshot>> {
        self.endpoints.begin()
    }

    fn add_or_update(&self, _: &str, _: &[u8]) {}

    fn delete(&self, _: &str) {}

    fn add_error(&self, error: &Error) {
        self.endpoints.add_error(error);
        if error.kind().needs_a_person() {
            self.refused.notify_one();
        }
    }

    fn advance(&self, from: &Arc<Snapshot>, to: &Arc<Snapshot>, batch: &[Update]) {
        self.endpoints.advance(from, to, batch);
    }

    fn on_event(&self, event: &Event) {
        self.endpoints.on_event(event);
    }
}
