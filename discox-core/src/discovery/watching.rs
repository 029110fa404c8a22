//! A discovery and its cache in one handle, which runs its own task.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, task::JoinHandle, time::timeout};
use tracing::{debug, warn};

use super::derived::{Derived, Feeder};
use crate::{
    Discover, DiscoverConfig, DiscoverStatus, Error, ErrorKind, History, LiteEndpoint, Registry, Result,
    Snapshot, lock::lock,
};

/// A [`LiteEndpoint`] that feeds itself: made by `registry.watch("orders")`, it discovers until its last clone is
/// dropped or [`Watching::stop`] is called.
///
/// It runs one task on the runtime where it was made. When that runtime ends, or the task dies by a panic, the next
/// use inside a runtime starts the discovery anew there; the last list stays until then.
///
/// A readiness probe asks [`LiteEndpoint::is_ready`]; an alert looks at [`Watching::status`].
#[derive(Clone)]
pub struct Watching(Arc<Inner>);

struct Inner {
    service: Box<str>,
    feeder: Arc<Feeder>,
    running: Mutex<Running>,
    /// The task has ended although nobody wanted it to.
    has_died: Arc<AtomicBool>,
}

struct Running {
    discover: Arc<dyn Discover>,
    task: JoinHandle<()>,
    /// `stop` was called: nothing is started any more.
    is_stopped: bool,
}

impl dyn Registry {
    /// Discovers a service until the last clone of the result is dropped. A name is enough where the registry's
    /// configuration has the prefix; a [`DiscoverConfig`] says more. No I/O; it connects by itself.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config), naming the field, or where no Tokio runtime runs.
    pub fn watch(&self, config: impl Into<DiscoverConfig>) -> Result<Watching> {
        let config = config.into();
        let service = config.service_name.clone();
        Watching::start(service.into(), self.discover(config)?)
    }
}

impl Watching {
    pub(super) fn start(service: Box<str>, discover: Arc<dyn Discover>) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|_| {
            let reason = "no Tokio runtime runs here: call it inside of one, such as under #[tokio::main]";
            Error::new(ErrorKind::Config, reason).with_operation("watch")
        })?;
        let (feeder, has_died) = (Arc::<Feeder>::default(), Arc::default());
        let task = spawn(&runtime, discover.clone(), feeder.clone(), Arc::clone(&has_died));
        let running = Mutex::new(Running { discover, task, is_stopped: false });
        Ok(Self(Arc::new(Inner { service, feeder, running, has_died })))
    }

    /// The service's name, as configured.
    pub fn service(&self) -> &str {
        &self.0.service
    }

    /// What the discovery is doing, for operators. Never blocks.
    pub fn status(&self) -> DiscoverStatus {
        self.0.revive();
        lock(&self.0.running).discover.status()
    }

    /// What happened to the service lately, and why. Begins anew where the discovery was started anew. Never blocks.
    pub fn history(&self) -> History {
        self.0.revive();
        lock(&self.0.running).discover.history()
    }

    /// Waits for the first full list, for at most `limit`. Cancel-safe.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut) when there is none by then; what ended the discovery when it has ended. The
    /// discovery's last error is in the message, and the [`source`](std::error::Error::source).
    pub async fn ready_within(&self, limit: Duration) -> Result<()> {
        let in_time = timeout(limit, self.ready()).await.is_ok();
        if in_time && self.is_ready() {
            return Ok(());
        }
        let last = self.status().last_error.or_else(|| self.last_error());
        let (kind, reason) = if in_time {
            (last.as_ref().map_or(ErrorKind::Stopped, Error::kind), "the discovery has ended".to_owned())
        } else {
            (ErrorKind::TimedOut, format!("no list within {limit:?}"))
        };
        Err(match last {
            Some(last) => {
                Error::new(kind, format!("{reason}: {last}")).with_operation("watch").caused_by(last)
            }
            None => Error::new(kind, reason).with_operation("watch"),
        })
    }

    /// A table of your own, made of each new list by the watching task, and read without a lock: weights, zones,
    /// clients. `make` runs once before this returns. It should be quick: the discovery waits for it. Where it panics
    /// later, the last table stays and a warning is logged.
    pub fn derive<T: Send + Sync + 'static>(
        &self,
        make: impl Fn(&Snapshot) -> T + Send + Sync + 'static,
    ) -> Derived<T> {
        self.0.feeder.derive(make)
    }

    /// The cache itself, which stays when this handle and its clones are gone, but is not fed any more then.
    pub fn endpoints(&self) -> Arc<LiteEndpoint> {
        self.0.revive();
        self.0.feeder.endpoints.clone()
    }

    /// Ends the discovery for good, for all clones. The last list stays. Idempotent and cancel-safe.
    pub async fn stop(&self) {
        let discover = {
            let mut running = lock(&self.0.running);
            running.is_stopped = true;
            running.discover.clone()
        };
        discover.stop().await;
    }
}

impl Deref for Watching {
    type Target = LiteEndpoint;

    #[inline]
    fn deref(&self) -> &LiteEndpoint {
        self.0.revive();
        &self.0.feeder.endpoints
    }
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = &self.0.feeder.endpoints;
        let mut f = f.debug_struct("Watching");
        f.field("discover", &lock(&self.0.running).discover).field("endpoints", &endpoints.len());
        f.finish_non_exhaustive()
    }
}

impl Inner {
    /// Starts the discovery anew where its task has died, if that can be done here.
    #[inline]
    fn revive(&self) {
        if self.has_died.load(Ordering::Acquire) {
            self.start_again();
        }
    }

    #[cold]
    fn start_again(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut running = lock(&self.running);
        if running.is_stopped || !self.has_died.swap(false, Ordering::AcqRel) {
            return;
        }
        warn!(discover = ?running.discover, "the task of a discovery has died with its runtime or by a panic: started anew");
        running.discover = running.discover.again();
        let (discover, feeder) = (running.discover.clone(), self.feeder.clone());
        running.task = spawn(&runtime, discover, feeder, self.has_died.clone());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.running).task.abort();
    }
}

fn spawn(
    runtime: &Handle,
    discover: Arc<dyn Discover>,
    feeder: Arc<Feeder>,
    has_died: Arc<AtomicBool>,
) -> JoinHandle<()> {
    let mut death = Death(Some(has_died));
    runtime.spawn(async move {
        let outcome = discover.start(feeder).await;
        if let Err(error) = outcome {
            debug!(?discover, %error, "a discovery has ended");
        }
        // What ended it would end it again.
        death.prevent();
    })
}

/// Notes the end of a task that did not come to its end.
struct Death(Option<Arc<AtomicBool>>);

impl Death {
    fn prevent(&mut self) {
        self.0 = None;
    }
}

impl Drop for Death {
    fn drop(&mut self) {
        if let Some(has_died) = self.0.take() {
            has_died.store(true, Ordering::Release);
        }
    }
}
