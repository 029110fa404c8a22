//! One discovered service: the handle, and what `start` and `stop` do.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    Discover, DiscoverConfig, DiscoverState, DiscoverStatus, EndpointCacher, Error, ErrorKind, Event, Result,
    backend::{Link, SourceOptions},
    key::Service,
    link::Hub,
    lock::lock,
    watcher::Watcher,
};

/// How long the end of a connection of our own may take.
const CLOSING: Duration = Duration::from_secs(1);

/// The handle of one discovered service.
pub(crate) struct Discovery<L: Link> {
    hub: Arc<Hub<L>>,
    /// The connection serves this discovery only, and ends with it.
    owns_hub: bool,
    plan: Plan,
    phase: Mutex<Phase>,
    stopping: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    status: Mutex<DiscoverStatus>,
}

/// What is to be watched, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) service: Service,
    pub(crate) grace: Duration,
    pub(crate) host_name: String,
    pub(crate) options: SourceOptions,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    New,
    Running,
    Stopped,
}

impl<L: Link> Discovery<L> {
    pub(crate) fn new(hub: Arc<Hub<L>>, owns_hub: bool, config: &DiscoverConfig) -> Result<Self> {
        const LONGEST_GRACE: Duration = Duration::from_secs(24 * 3600);
        if config.grace > LONGEST_GRACE {
            let reason = "out of range, use at most 24 h";
            return Err(Error::config("grace", format_args!("{:?}", config.grace), reason));
        }
        let service = Service::of(config)?;
        L::check_service(&hub.connector, &service)?;
        let options = SourceOptions { include_warning: config.include_warning };
        let plan = Plan { service, grace: config.grace, host_name: config.host_name.clone(), options };
        Ok(Self {
            hub,
            owns_hub,
            plan,
            phase: Mutex::new(Phase::New),
            stopping: watch::Sender::new(false),
            ended: watch::Sender::new(false),
            status: Mutex::new(DiscoverStatus::new()),
        })
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        lock(&self.phase)
    }

    async fn stop_asked(&self) {
        // The sender lives as long as self, so that this cannot fail.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }
}

#[async_trait]
impl<L: Link> Discover for Discovery<L> {
    async fn start(&self, cacher: Arc<dyn EndpointCacher>) -> Result<()> {
        let before = {
            let mut phase = self.phase();
            let before = *phase;
            if before == Phase::New {
                *phase = Phase::Running;
            }
            before
        };
        match before {
            Phase::New => {}
            Phase::Stopped => return Ok(()),
            Phase::Running => {
                let error = Error::new(ErrorKind::AlreadyStarted, "start was called before");
                return Err(self.hub.place(error).of(&self.plan.service));
            }
        }
        let _end = End { discovery: self, cacher: &*cacher };
        lock(&self.status).enter(DiscoverState::Connecting);
        self.hub.ensure_running();
        let callbacks = Callbacks { cacher: &*cacher, discovery: self.id() };
        let outcome = tokio::select! {
            biased;
            () = self.stop_asked() => Ok(()),
            error = Watcher::new(self.hub.shared(), &self.plan, callbacks, &self.status).run() => Err(error),
        };
        if self.owns_hub {
            self.hub.close(CLOSING).await;
        }
        outcome
    }

    async fn stop(&self) {
        let before = std::mem::replace(&mut *self.phase(), Phase::Stopped);
        self.stopping.send_replace(true);
        if before == Phase::New {
            lock(&self.status).enter(DiscoverState::Stopped);
            self.ended.send_replace(true);
        }
        if INSIDE.get() != Some(self.id()) {
            let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
        }
    }

    fn status(&self) -> DiscoverStatus {
        let mut status = lock(&self.status).clone();
        match status.state {
            DiscoverState::Synced => {
                status.last_confirmed =
                    status.last_confirmed.max(Some(self.hub.pulse.last_heard().into_std()));
            }
            DiscoverState::Connecting | DiscoverState::Lost => {
                status.attempts = status.attempts.saturating_add(self.hub.attempts());
                status.last_error = self.hub.trouble().or(status.last_error);
            }
            _ => {}
        }
        status
    }
}

impl<L: Link> Discovery<L> {
    /// Tells this discovery from all others as long as it lives.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

/// What is done at the end of a discovery, however it ends.
struct End<'a, L: Link> {
    discovery: &'a Discovery<L>,
    cacher: &'a dyn EndpointCacher,
}

impl<L: Link> Drop for End<'_, L> {
    fn drop(&mut self) {
        let Self { discovery, cacher } = self;
        *discovery.phase() = Phase::Stopped;
        if discovery.owns_hub {
            discovery.hub.halt();
        }
        lock(&discovery.status).enter(DiscoverState::Stopped);
        // A panic here would abort the process if another one is under way.
        let _ = Callbacks { cacher: *cacher, discovery: discovery.id() }
            .call(|cacher| cacher.on_event(&Event::Ended));
        discovery.ended.send_replace(true);
    }
}

thread_local! {
    /// The discovery that is calling back on this thread, if one is.
    static INSIDE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Calls the cacher, so that its panics end this discovery only and `stop` knows when it is called
/// from inside.
#[derive(Clone, Copy)]
pub(crate) struct Callbacks<'a> {
    cacher: &'a dyn EndpointCacher,
    discovery: usize,
}

impl Callbacks<'_> {
    pub(crate) fn call(&self, callback: impl FnOnce(&dyn EndpointCacher)) -> Result<()> {
        let outer = INSIDE.replace(Some(self.discovery));
        let outcome = catch_unwind(AssertUnwindSafe(|| callback(self.cacher)));
        INSIDE.set(outer);
        outcome.map_err(|_| {
            Error::new(ErrorKind::CacherPanicked, "the cacher panicked; its discovery has ended")
        })
    }
}
