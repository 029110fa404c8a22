//! The services that are read: each is discovered once, however many read it, and as long as somebody does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use discox::{Discover, DiscoverConfig, DiscoverStatus, Error, History, LiteEndpoint, Registry};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    reply::Refusal,
    view::{Subject, View},
};

/// Services that are watched at once. Each costs the registry a watch, or a blocking query.
const AT_ONCE: usize = 500;
/// A service that nobody has read for so long is not watched any more.
const IDLE: Duration = Duration::from_secs(300);
/// How often the idle ones are looked for.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(30);
/// How long the first list of a service may take before the answer is 503.
const FIRST_LIST: Duration = Duration::from_secs(5);
/// Changes in quick succession make one view.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the status is looked at for what no change tells: what is held, and what is wrong.
const LOOK: Duration = Duration::from_millis(500);

/// What is watched of a registry.
pub(super) struct Watched {
    registry: Arc<dyn Registry>,
    names: Arc<Feed>,
    services: Arc<Mutex<HashMap<Arc<str>, Arc<Feed>>>>,
    sweeping: AbortHandle,
    at_once: usize,
}

/// One discovery and its newest view.
pub(super) struct Feed {
    discover: Arc<dyn Discover>,
    views: Arc<watch::Sender<Arc<View>>>,
    used: Mutex<Instant>,
    task: AbortHandle,
}

impl Watched {
    /// Watches the names of the services.
    pub(super) fn new(registry: Arc<dyn Registry>) -> Result<Self, Error> {
        let names = Feed::start(Subject::Names, registry.discover_services("")?);
        let services = Arc::<Mutex<HashMap<_, _>>>::default();
        let sweeping = tokio::spawn({
            let services = services.clone();
            async move {
                loop {
                    sleep(BETWEEN_SWEEPS).await;
                    drop_idle(&services, IDLE);
                }
            }
        });
        Ok(Self { registry, names, services, sweeping: sweeping.abort_handle(), at_once: AT_ONCE })
    }

    #[cfg(test)]
    pub(super) fn limit(&mut self, at_once: usize) {
        self.at_once = at_once;
    }

    /// The names of the services.
    pub(super) fn names(&self) -> &Arc<Feed> {
        &self.names
    }

    /// A service, which is watched from now on if it was not.
    pub(super) fn service(&self, name: &str) -> Result<Arc<Feed>, Refusal> {
        let mut services = lock(&self.services);
        if let Some(feed) = services.get(name) {
            *lock(&feed.used) = Instant::now();
            return Ok(feed.clone());
        }
        let config = DiscoverConfig { service_name: name.to_owned(), ..DiscoverConfig::default() };
        let discover = self.registry.discover(config);
        let discover = discover.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))?;
        if services.len() >= self.at_once && !make_room(&mut services) {
            let reason = format!("{} services are being read, which is the limit", services.len());
            return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, reason));
        }
        let name = Arc::<str>::from(name);
        let feed = Feed::start(Subject::Service(name.clone()), discover);
        services.insert(name, feed.clone());
        Ok(feed)
    }

    /// All services that are watched, by name.
    pub(super) fn all(&self) -> Vec<(Arc<str>, Arc<Feed>)> {
        let services = lock(&self.services);
        let mut all: Vec<_> = services.iter().map(|(name, feed)| (name.clone(), feed.clone())).collect();
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.sweeping.abort();
    }
}

/// Drops those that nobody reads and nobody has read for so long.
fn drop_idle(services: &Mutex<HashMap<Arc<str>, Arc<Feed>>>, idle: Duration) {
    lock(services).retain(|_, feed| Arc::strong_count(feed) > 1 || lock(&feed.used).elapsed() < idle);
}

/// Drops the one that was read least lately of those that nobody reads, if there is one.
fn make_room(services: &mut HashMap<Arc<str>, Arc<Feed>>) -> bool {
    let unread = services.iter().filter(|(_, feed)| Arc::strong_count(feed) == 1);
    let oldest = unread.min_by_key(|(_, feed)| *lock(&feed.used)).map(|(name, _)| name.clone());
    oldest.is_some_and(|name| services.remove(&name).is_some())
}

impl Feed {
    fn start(subject: Subject, discover: Arc<dyn Discover>) -> Arc<Self> {
        let views = Arc::new(watch::Sender::new(Arc::new(View::first(subject))));
        let task = tokio::spawn({
            let (discover, views) = (discover.clone(), views.clone());
            async move {
                let endpoints = Arc::new(LiteEndpoint::new());
                tokio::select! {
                    _ = discover.start(endpoints.clone()) => {}
                    () = follow(&views, &endpoints, &*discover) => {}
                }
                publish(&views, &endpoints, &*discover);
            }
        });
        Arc::new(Self { discover, views, used: Mutex::new(Instant::now()), task: task.abort_handle() })
    }

    /// The views from now on.
    pub(super) fn views(&self) -> watch::Receiver<Arc<View>> {
        self.views.subscribe()
    }

    /// The newest view.
    pub(super) fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }

    /// The newest view, once there is a list. Without one after a while: why there is none.
    pub(super) async fn known(&self) -> Result<Arc<View>, Refusal> {
        let mut views = self.views();
        if let Ok(Ok(view)) = timeout(FIRST_LIST, views.wait_for(|view| view.is_known())).await {
            return Ok(view.clone());
        }
        let reason = self
            .status()
            .last_error
            .map_or_else(|| "it does not answer".to_owned(), |error| error.to_string());
        Err(Refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("nothing is known of the registry yet: {reason}"),
        ))
    }

    /// What happened lately, and why.
    pub(super) fn history(&self) -> History {
        self.discover.history()
    }

    pub(super) fn status(&self) -> DiscoverStatus {
        self.discover.status()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes a view of each change. Never returns.
async fn follow(views: &watch::Sender<Arc<View>>, endpoints: &LiteEndpoint, discover: &dyn Discover) {
    let mut changes = endpoints.changes();
    loop {
        let state = endpoints.freshness().state;
        tokio::select! {
            Some(_) = changes.next() => {}
            _ = endpoints.freshness_changed(state) => {}
            () = sleep(LOOK) => {}
        }
        if publish(views, endpoints, discover) {
            sleep(PAUSE).await;
        }
    }
}

/// Makes the next view, if it would show anything new.
fn publish(views: &watch::Sender<Arc<View>>, endpoints: &LiteEndpoint, discover: &dyn Discover) -> bool {
    views.send_if_modified(|view| match view.next(endpoints, discover) {
        Some(next) => {
            *view = Arc::new(next);
            true
        }
        None => false,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
