//! `discox list`: prints the endpoints of a service once.

use std::{sync::Arc, time::Duration};

use discox::{DiscoverConfig, EndpointCacher, Error, ErrorKind, Event, LiteEndpoint, Update};
use tokio::{sync::Notify, time::timeout};

use crate::{
    failure::Failure,
    output::{Entry, Format, print_list},
};

/// What ending the connection may take once we have what we wanted.
const CLOSING: Duration = Duration::from_millis(500);

/// Reads the list, prints it and ends; gives up after the request timeout, and at once when the
/// registry refuses.
pub(crate) async fn run(config: DiscoverConfig, output: Format) -> Result<u8, Failure> {
    let limit = config.connection.request_timeout;
    let nobody = Error::timed_out("list", limit)
        .with_backend(config.backend_type)
        .with_address(config.backend_endpoints.join(","));
    let discover = discox::new_discover(config)?;
    let list = Arc::new(List::default());
    let reading = tokio::spawn({
        let (discover, list) = (discover.clone(), list.clone());
        async move { discover.start(list).await }
    });
    let _ = timeout(limit, list.answered()).await;
    let last_error = discover.status().last_error;
    let (is_ready, snapshot) = (list.endpoints.is_ready(), list.endpoints.snapshot());
    let _ = timeout(CLOSING, discover.stop()).await;
    reading.abort();
    if !is_ready {
        return Err(last_error.or_else(|| list.endpoints.last_error()).unwrap_or(nobody).into());
    }
    let mut entries: Vec<_> = snapshot.iter().map(|entry| (entry.endpoint(), entry.attr())).collect();
    entries.sort_unstable_by_key(|(endpoint, _)| *endpoint);
    let entries: Vec<_> = entries.iter().map(|(endpoint, attr)| Entry::new(endpoint, attr)).collect();
    print_list(&entries, output).map_err(|error| Failure::output(error.kind()))?;
    Ok(0)
}

/// The usual cache, which also notices a refusal: waiting would not help.
#[derive(Default)]
struct List {
    endpoints: LiteEndpoint,
    refused: Notify,
}

impl List {
    async fn answered(&self) {
        tokio::select! {
            () = self.endpoints.ready() => {}
            () = self.refused.notified() => {}
        }
    }
}

impl EndpointCacher for List {
    fn add_or_update(&self, endpoint: &str, attribute: &[u8]) {
        self.endpoints.add_or_update(endpoint, attribute);
    }

    fn delete(&self, endpoint: &str) {
        self.endpoints.delete(endpoint);
    }

    fn add_error(&self, error: &Error) {
        self.endpoints.add_error(error);
        if error.kind() == ErrorKind::Denied {
            self.refused.notify_one();
        }
    }

    fn apply(&self, batch: &[Update]) {
        self.endpoints.apply(batch);
    }

    fn on_event(&self, event: &Event) {
        self.endpoints.on_event(event);
    }
}
