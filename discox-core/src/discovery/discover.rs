//! The trait by which a service is discovered, and what its state looks like.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;

#[cfg(feature = "serde")]
use crate::ages;
use crate::{EndpointCacher, Error, History, Result};

/// Watches one service and keeps a cacher equal to what the registry holds.
///
/// A handle discovers once: after an end, make another one. [`LiteEndpoint`](crate::LiteEndpoint) may be fed again.
///
/// Implemented by discox only: methods may be added in any version.
#[async_trait]
pub trait Discover: fmt::Debug + Send + Sync + 'static {
    /// Feeds `cacher` until [`stop`](Discover::stop): the whole list first, then every change, and
    /// after an outage the difference. Waits for a registry that is not there yet.
    ///
    /// Blocks all that time; run it in a task of its own. Needs a Tokio runtime. Dropping its future
    /// ends the discovery. Returns Ok at once after `stop`.
    ///
    /// # Errors
    /// What no retry can mend: [`AlreadyStarted`](crate::ErrorKind::AlreadyStarted) when it was called before,
    /// also when that call has ended; [`CacherInUse`](crate::ErrorKind::CacherInUse) while another discovery feeds
    /// the cacher (call it again with another cacher); [`Config`](crate::ErrorKind::Config);
    /// [`CacherPanicked`](crate::ErrorKind::CacherPanicked); and [`Stopped`](crate::ErrorKind::Stopped) when a
    /// shared connection was closed. Everything else is told to the cacher and retried.
    async fn start(&self, cacher: Arc<dyn EndpointCacher>) -> Result<()>;

    /// Ends the discovery for good, waits for a callback that is running, and returns when none can
    /// follow. Called from inside a callback it only signals. Idempotent and cancel-safe.
    async fn stop(&self);

    /// Another discovery of the same service over the same connection, not started yet. No I/O.
    fn again(&self) -> Arc<dyn Discover>;

    /// What the discovery is doing, for operators. Never blocks.
    fn status(&self) -> DiscoverStatus;

    /// What happened to the service lately, and why: see [`ConnectionConfig::history`](crate::ConnectionConfig::history).
    /// Never blocks.
    fn history(&self) -> History;
}

/// What a discovery is doing.
///
/// A readiness probe asks [`LiteEndpoint::is_ready`](crate::LiteEndpoint::is_ready): there is a list, perhaps an old one. It should not ask
/// for [`DiscoverState::Synced`]: an outage of the registry would take every instance of every service out of
/// service at once, although each still has a good list. Alert on [`DiscoverState::Lost`] instead.
///
/// With feature `serde` it is serialized with ages in seconds instead of instants.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DiscoverStatus {
    /// What it is doing.
    pub state: DiscoverState,
    /// Since when.
    #[cfg_attr(feature = "serde", serde(rename = "since_seconds", serialize_with = "ages::age"))]
    pub since: Instant,
    /// Attempts to connect or to read that failed since it was last synced.
    pub attempts: u32,
    /// Times that the registry was lost.
    pub outages: u64,
    /// Times that a watch lost its position and the list was read again, while the registry was well.
    pub resyncs: u64,
    /// What failed last, even when it is long mended.
    #[cfg_attr(feature = "serde", serde(serialize_with = "ages::text"))]
    pub last_error: Option<Error>,
    /// When the watch itself last reported: a list, a change, or word that nothing has changed.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "last_confirmed_seconds", serialize_with = "ages::age_of_some")
    )]
    pub last_confirmed: Option<Instant>,
    /// How many endpoints the cacher was told of.
    pub endpoints: usize,
    /// How many of them are missing from the registry and held by the grace after an outage.
    pub held: usize,
    /// How much of the grace is left, counted while the registry can be reached.
    #[cfg_attr(feature = "serde", serde(rename = "grace_left_seconds", serialize_with = "ages::seconds"))]
    pub grace_left: Duration,
}

/// The states of a discovery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
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

impl fmt::Display for DiscoverState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::New => "new",
            Self::Connecting => "connecting",
            Self::Synced => "synced",
            Self::Lost => "lost",
            Self::Stopped => "stopped",
        })
    }
}

impl DiscoverStatus {
    pub(crate) fn new() -> Self {
        Self {
            state: DiscoverState::New,
            since: now(),
            attempts: 0,
            outages: 0,
            resyncs: 0,
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
