//! The trait by which a service is discovered, and what its state looks like.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;

use crate::{EndpointCacher, Error, Result};

/// Watches one service and keeps a cacher equal to what the registry holds.
#[async_trait]
pub trait Discover: Send + Sync + 'static {
    /// Feeds `cacher` until [`stop`](Discover::stop): the whole list first, then every change, and
    /// after an outage the difference. Waits for a registry that is not there yet.
    ///
    /// Blocks all that time; run it in a task of its own. Needs a Tokio runtime. Dropping its future
    /// equals `stop`. Returns Ok at once after `stop`.
    ///
    /// # Errors
    /// What no retry can mend: [`AlreadyStarted`](crate::ErrorKind::AlreadyStarted),
    /// [`Config`](crate::ErrorKind::Config), [`CacherPanicked`](crate::ErrorKind::CacherPanicked),
    /// and [`Stopped`](crate::ErrorKind::Stopped) when a shared connection was closed. Everything
    /// else is told to the cacher and retried.
    async fn start(&self, cacher: Arc<dyn EndpointCacher>) -> Result<()>;

    /// Ends the discovery for good, waits for a callback that is running, and returns when none can
    /// follow. Called from inside a callback it only signals. Idempotent and cancel-safe.
    async fn stop(&self);

    /// What the discovery is doing, for operators. Never blocks.
    fn status(&self) -> DiscoverStatus;
}

/// What a discovery is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiscoverStatus {
    /// What it is doing.
    pub state: DiscoverState,
    /// Since when.
    pub since: Instant,
    /// Attempts to connect or to read that failed since it was last synced.
    pub attempts: u32,
    /// What failed last, even when it is long mended.
    pub last_error: Option<Error>,
    /// When the registry last showed that the watch is alive.
    pub last_confirmed: Option<Instant>,
    /// How many endpoints the cacher was told of.
    pub endpoints: usize,
    /// How many of them are missing from the registry and held by the grace after an outage.
    pub held: usize,
    /// How much of the grace is left, counted while the registry can be reached.
    pub grace_left: Duration,
}

/// The states of a discovery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DiscoverState {
    /// Not started. Left by `start` and `stop`.
    New,
    /// No list has been read yet. Left by the first one, and by the end.
    Connecting,
    /// The cacher equals the registry, but for removals held by the grace. Left when the registry is
    /// lost, and by the end.
    Synced,
    /// The registry is lost; the last known endpoints stay. Left when it is back, and by the end.
    Lost,
    /// Ended for good.
    Stopped,
}

impl DiscoverStatus {
    pub(crate) fn new() -> Self {
        Self {
            state: DiscoverState::New,
            since: now(),
            attempts: 0,
            last_error: None,
            last_confirmed: None,
            endpoints: 0,
            held: 0,
            grace_left: Duration::ZERO,
        }
    }

    pub(crate) fn enter(&mut self, state: DiscoverState) {
        if self.state != state {
            self.state = state;
            self.since = now();
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
