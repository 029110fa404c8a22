//! One discovered service: the handle, and what `start` and `stop` do.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    callbacks::{Callbacks, inside},
    target::Target,
    watcher::{Plan, Watcher},
};
use crate::{
    Cause, Discover, DiscoverConfig, DiscoverState, DiscoverStatus, EndpointCacher, Error, ErrorKind, Event,
    EventKind, History, Result,
    backend::{Link, SourceOptions},
    connection::{Hub, runtime},
    lock::lock,
    record::{Prefix, Service},
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
    history: History,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    /// Left by `start` and `stop`.
    New,
    /// A `start` runs. Left by its end, and by `stop`.
    Running,
    /// A `start` has ended by itself: its future was dropped, or an error ended it. Left by `stop`.
    Ended,
    /// `stop` was called. For good.
    Stopped,
}

impl<L: Link> Discovery<L> {
    pub(crate) fn new(hub: Arc<Hub<L>>, owns_hub: bool, config: &DiscoverConfig) -> Result<Self> {
        const LONGEST_GRACE: Duration = Duration::from_secs(24 * 3600);
        if config.grace > LONGEST_GRACE {
            let reason = "out of range, use at most 24 h";
            return Err(Error::config("grace", format_args!("{:?}", config.grace), reason));
        }
        let service = Service::of(config, L::BACKEND)?;
        L::check_service(&hub.connector, &service)?;
        let options = SourceOptions { include_warning: config.include_warning };
        let target = Target::Endpoints(service.clone(), options);
        let plan = Plan { service, target, grace: config.grace, host_name: config.host_name.clone() };
        Ok(Self::of(hub, owns_hub, plan))
    }

    /// A discovery of the names of the services under a prefix, each in the place of an endpoint.
    pub(crate) fn of_names(hub: Arc<Hub<L>>, prefix: &str) -> Result<Self> {
        let prefix = Prefix::parse(prefix)?;
        L::check_prefix(&hub.connector, &prefix)?;
        let DiscoverConfig { grace, host_name, .. } = DiscoverConfig::default();
        let plan = Plan { service: prefix.services(), target: Target::Names(prefix), grace, host_name };
        Ok(Self::of(hub, false, plan))
    }

    fn of(hub: Arc<Hub<L>>, owns_hub: bool, plan: Plan) -> Self {
        Self {
            history: History::new(hub.settings.history),
            hub,
            owns_hub,
            plan,
            phase: Mutex::new(Phase::New),
            stopping: watch::Sender::new(false),
            ended: watch::Sender::new(false),
            status: Mutex::new(DiscoverStatus::new()),
        }
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
        runtime()?;
        if !self.enter()? {
            return Ok(());
        }
        let callbacks = Callbacks::new(cacher, self.id(), &self.plan.service);
        let shown = callbacks.call(|cacher| cacher.begin()).and_then(|shown| shown);
        let shown = shown.map_err(|error| self.step_back(error))?;
        let end = End { discovery: self, callbacks };
        lock(&self.status).enter(DiscoverState::Connecting);
        self.hub.open()?;
        let history = self.history.clone();
        let watcher =
            Watcher::new(self.hub.shared(), &self.plan, &end.callbacks, (&self.status, history), shown);
        let outcome = tokio::select! {
            biased;
            () = self.stop_asked() => Ok(()),
            never = self.hub.keep_running() => match never {},
            error = watcher.run() => Err(error),
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
        if !inside(self.id()) {
            let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
        }
    }

    fn again(&self) -> Arc<dyn Discover> {
        Arc::new(Self::of(self.hub.clone(), self.owns_hub, self.plan.clone()))
    }

    fn status(&self) -> DiscoverStatus {
        let mut status = lock(&self.status).clone();
        match status.state {
            DiscoverState::Synced if L::LIVENESS_CONFIRMS_WATCH => {
                status.last_confirmed =
                    status.last_confirmed.max(Some(self.hub.liveness.last_heard().into_std()));
            }
            DiscoverState::Connecting | DiscoverState::Lost => {
                status.attempts = status.attempts.saturating_add(self.hub.attempts());
                status.last_error = self.hub.trouble().or(status.last_error);
            }
            _ => {}
        }
        status
    }

    fn history(&self) -> History {
        self.history.clone()
    }
}

impl<L: Link> Discovery<L> {
    /// Identifies this discovery as long as it lives.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether `start` has something to do: not after `stop`.
    fn enter(&self) -> Result<bool> {
        let mut phase = self.phase();
        let reason = match *phase {
            Phase::New => {
                *phase = Phase::Running;
                return Ok(true);
            }
            Phase::Stopped => return Ok(false),
            Phase::Running => "start was called before, and that call goes on",
            Phase::Ended => "start was called before, and that call has ended; make another discovery",
        };
        let error = Error::new(ErrorKind::AlreadyStarted, reason);
        Err(self.hub.place(error).with_subject(&self.plan.service))
    }

    /// The cacher refuses to be fed: `start` may be called again.
    fn step_back(&self, error: Error) -> Error {
        let mut phase = self.phase();
        match *phase {
            Phase::Stopped => {
                lock(&self.status).enter(DiscoverState::Stopped);
                self.ended.send_replace(true);
            }
            _ => *phase = Phase::New,
        }
        self.hub.place(error).with_subject(&self.plan.service)
    }
}

/// What is done at the end of a discovery, however it ends.
struct End<'a, L: Link> {
    discovery: &'a Discovery<L>,
    callbacks: Callbacks<'a>,
}

impl<L: Link> Drop for End<'_, L> {
    fn drop(&mut self) {
        let Self { discovery, callbacks } = self;
        {
            let mut phase = discovery.phase();
            if *phase == Phase::Running {
                *phase = Phase::Ended;
            }
        }
        if discovery.owns_hub {
            discovery.hub.ask_close(CLOSING);
        }
        lock(&discovery.status).enter(DiscoverState::Stopped);
        discovery.history.note(None, EventKind::Stopped, Cause::None);
        // A panic here would abort the process if another one is under way.
        let _ = callbacks.call(|cacher| cacher.on_event(&Event::Ended));
        discovery.ended.send_replace(true);
    }
}

impl<L: Link> fmt::Debug for Discovery<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = self.plan.service.to_string();
        let state = lock(&self.status).state;
        let mut f = f.debug_struct("Discover");
        f.field("backend", &L::BACKEND).field("service", &service).field("state", &state);
        f.finish_non_exhaustive()
    }
}
