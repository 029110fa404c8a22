//! `discox serve`: shows the services of a registry over HTTP. Read-only.
//!
//! ```text
//! connections → access → api ─┬─ services, list, changes (JSON, long poll, server-sent events)
//!                             ├─ prometheus, metrics, page
//!                             └─ watched ← view ← the library's discoveries
//! ```

mod access;
mod api;
mod changes;
mod connections;
mod counts;
mod io;
mod json;
mod metrics;
mod page;
mod prometheus;
mod reply;
mod settings;
mod view;
mod watched;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};

pub(crate) use self::settings::{LISTEN, Settings};
use self::{access::Access, counts::Counts, watched::Watched};
use crate::{
    failure::Failure,
    output::{Format, Line, print_lines},
    signals::Signals,
};

/// What requests need to be answered.
pub(crate) struct Shared {
    access: Access,
    counts: Counts,
    watched: Watched,
    most_connections: usize,
    /// True when the server ends: answers that go on end then.
    ending: watch::Sender<bool>,
}

impl Shared {
    fn new(registry: Arc<dyn discox::Registry>, settings: &Settings) -> Result<Self, discox::Error> {
        Ok(Self {
            access: Access::new(settings),
            counts: Counts::default(),
            watched: Watched::new(registry)?,
            most_connections: connections::AT_ONCE,
            ending: watch::Sender::new(false),
        })
    }
}

/// Serves until a signal comes.
pub(crate) async fn run(settings: Settings, output: Format, log_more: impl FnOnce()) -> Result<u8, Failure> {
    /// What ending the connection to the registry may take.
    const CLOSING: Duration = Duration::from_secs(1);

    connections::raise_limit();
    let mut signals = Signals::catch()?;
    let registry = discox::connect(settings.registry.clone())?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| Failure::new(1, format!("--listen {}: {error}", settings.listen)))?;
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared::new(registry.clone(), &settings)?);
    let line = Line::event("listening", Some(format!("http://{address}/")));
    print_lines(&[line], output).map_err(|error| Failure::output(error.kind()))?;
    log_more();
    tokio::select! {
        () = connections::serve(listener, &shared) => {}
        _ = signals.next() => connections::end(&shared).await,
    }
    let _ = tokio::time::timeout(CLOSING, registry.close()).await;
    Ok(0)
}
