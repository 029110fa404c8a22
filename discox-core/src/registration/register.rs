//! The trait by which an endpoint is registered.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{History, RegisterState, RegisterStatus, Result};

/// Keeps one endpoint registered, from [`start`](Register::start) to [`stop`](Register::stop).
///
/// Implemented by discox only: methods may be added in any version.
///
/// Every future may be dropped at any time: what it has begun is finished or undone, and a second call has
/// the outcome that the first would have had. All need a Tokio runtime; without one they return an error of
/// kind [`Config`](crate::ErrorKind::Config). The connection runs on the runtime of the first call. When that
/// runtime ends, the status says so, and the next call, or one that is waiting, goes on with everything on its own.
///
/// Dropping the handle without `stop` is worth a warning: the endpoint is withdrawn, by a task that goes on for
/// `request_timeout` at most, or for as long as the shared connection lives.
#[async_trait]
#[must_use = "an endpoint whose handle is dropped is withdrawn"]
pub trait Register: Debug + Send + Sync + 'static {
    /// Registers the endpoint, and returns when the registry has acknowledged it. From then on it
    /// is kept registered, whatever happens to the registry.
    ///
    /// Takes at most `request_timeout` (5 s by default). Cancelling it is like a failure: nothing is left that
    /// outlives the TTL, and `start` may be called again.
    ///
    /// # Errors
    /// What kept it from being registered within that time; [`Denied`](crate::ErrorKind::Denied) at
    /// once; [`AlreadyStarted`](crate::ErrorKind::AlreadyStarted) after a start that succeeded or is
    /// under way; [`Stopped`](crate::ErrorKind::Stopped) after `stop` or the end of a shared connection;
    /// [`Superseded`](crate::ErrorKind::Superseded) when a later `start` of the same endpoint came before it.
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
    /// registration for good. Ok means that the record is gone from the registry. Idempotent: all callers get
    /// the same outcome.
    ///
    /// Takes at most `request_timeout`, also when the registry hangs. Once it has been polled it happens, also
    /// when it is cancelled.
    ///
    /// # Errors
    /// The record could not be removed in time. On a shared connection this is tried further, and a later `stop`
    /// returns Ok when it is gone; otherwise the registry forgets it after its TTL.
    async fn stop(&self) -> Result<()>;

    /// Waits until the registration is in this state, and returns its status then. Cancel-safe; blocks for as
    /// long as that takes.
    ///
    /// # Errors
    /// [`Stopped`](crate::ErrorKind::Stopped) when it has ended for good, which is not what was waited for.
    async fn wait_for(&self, state: RegisterState) -> Result<RegisterStatus>;

    /// What the registration is doing, for operators. Never blocks.
    fn status(&self) -> RegisterStatus;

    /// What happened to the registration lately, and why: see
    /// [`ConnectionConfig::history`](crate::ConnectionConfig::history). Never blocks.
    fn history(&self) -> History;
}
