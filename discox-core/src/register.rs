//! The trait by which an endpoint is registered, and what its state looks like.

use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::{Error, Result};

/// Keeps one endpoint registered, from [`start`](Register::start) to [`stop`](Register::stop).
///
/// Dropping the handle without `stop` ends its tasks; the registry forgets the record after its TTL
/// at the latest, and at once where a shared connection can still withdraw it.
#[async_trait]
pub trait Register: Send + Sync + 'static {
    /// Registers the endpoint, and returns when the registry has acknowledged it. From then on it
    /// is kept registered, whatever happens to the registry.
    ///
    /// Takes at most `request_timeout` (5 s by default). Needs a Tokio runtime. Cancelling it is
    /// like a failure: nothing is left that outlives the TTL, and `start` may be called again.
    ///
    /// # Errors
    /// What kept it from being registered within that time; [`Denied`](crate::ErrorKind::Denied) at
    /// once; [`AlreadyStarted`](crate::ErrorKind::AlreadyStarted) after a start that succeeded or is
    /// under way; [`Stopped`](crate::ErrorKind::Stopped) after `stop`.
    async fn start(&self) -> Result<()>;

    /// Changes the attr. Before `start` it only sets what will be registered; after it, it returns
    /// when the registry has acknowledged it, and watchers see one update. The last call wins.
    ///
    /// Takes at most `request_timeout`. Cancelling it leaves the new attr wanted.
    ///
    /// # Errors
    /// Not written yet, and why; it is written with the next registration.
    /// [`Config`](crate::ErrorKind::Config) when it is too long: then it is not wanted.
    /// [`Superseded`](crate::ErrorKind::Superseded) when another incarnation holds the record.
    async fn update_attr(&self, attr: &str) -> Result<()>;

    /// Removes the record at once, unless another incarnation has taken it over, and ends the
    /// registration for good. Idempotent.
    ///
    /// Takes at most `request_timeout`, also when the registry hangs.
    ///
    /// # Errors
    /// The record could not be removed in time; the registry forgets it after its TTL.
    async fn stop(&self) -> Result<()>;

    /// What the registration is doing, for operators. Never blocks.
    fn status(&self) -> RegisterStatus;
}

/// What a registration is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegisterStatus {
    /// What it is doing.
    pub state: RegisterState,
    /// Since when.
    pub since: Instant,
    /// Attempts to connect or to register that failed since it was last registered.
    pub attempts: u32,
    /// What failed last, even when it is long mended.
    pub last_error: Option<Error>,
    /// When the registry last confirmed the record.
    pub last_confirmed: Option<Instant>,
    /// How long the record outlives its process, as the registry granted it.
    pub granted_ttl: Option<Duration>,
}

/// The states of a registration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RegisterState {
    /// Not started. Left by `start` and `stop`.
    New,
    /// In the registry, as of the last heart beat. Left when a heart beat or the connection is lost,
    /// and by `stop`.
    Registered,
    /// Not known to be in the registry, and being worked on. Left by success, by finding the record
    /// in another incarnation's hands, and by `stop`.
    Retrying,
    /// Another incarnation holds the record; nothing is taken back. Left when that record is gone,
    /// and by `stop`.
    Superseded,
    /// Ended for good.
    Stopped,
}

impl RegisterStatus {
    pub(crate) fn new() -> Self {
        Self {
            state: RegisterState::New,
            since: now(),
            attempts: 0,
            last_error: None,
            last_confirmed: None,
            granted_ttl: None,
        }
    }

    pub(crate) fn enter(&mut self, state: RegisterState) {
        if self.state != state {
            self.state = state;
            self.since = now();
        }
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.attempts = self.attempts.saturating_add(1);
        self.last_error = Some(error.clone());
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
