//! Discovery in virtual time: what a cache shows, what is told and logged, and how it ends.

#![allow(clippy::panic, clippy::unwrap_used)]

mod log;
mod sim;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use discox_core::{
    Connection, ConnectionConfig, Discover, DiscoverConfig, DiscoverState, EndpointCacher, Error, ErrorKind,
    Event, FreshnessState, LiteEndpoint, Register, RegisterConfig, Registry, Update,
};
use futures_util::StreamExt;
use log::Log;
use sim::{Fault, Net, SimLink, World};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tracing::Level;

const SECOND: Duration = Duration::from_secs(1);
const A: &str = "10.0.0.1:1";
const B: &str = "10.0.0.2:1";

/// A registry, one connection to it, and a registration that keeps its session alive.
struct Site {
    world: Arc<World>,
    shared: Connection<SimLink>,
    _keeps_the_session: Arc<dyn Register>,
}

impl Site {
    async fn start() -> Self {
        let world = World::start();
        let settings = ConnectionConfig { detection: sim::DETECTION, ..Default::default() };
        let shared = Connection::new(world.clone(), &settings).unwrap();
        let config = RegisterConfig {
            discover_prefix: "/sim".into(),
            service_name: "other".into(),
            service_endpoint: "10.0.0.9:9".into(),
            heart_beat_period: 2 * SECOND,
            ..Default::default()
        };
        let register = shared.register(config).unwrap();
        register.start().await.unwrap();
        Self { world, shared, _keeps_the_session: register }
    }

    fn put(&self, endpoint: &str) {
        self.world.put_by_hand(&format!("/sim/demo/{endpoint}"), "x");
    }

    fn delete(&self, endpoint: &str) {
        self.world.delete_by_hand(&format!("/sim/demo/{endpoint}"));
    }

    fn discover(&self, service: &str) -> Arc<dyn Discover> {
        let config = DiscoverConfig {
            discover_prefix: "/sim".into(),
            service_name: service.into(),
            ..Default::default()
        };
        self.shared.discover(config).unwrap()
    }

    fn feed(&self, service: &str, cacher: Arc<dyn EndpointCacher>) -> Feed {
        let discover = self.discover(service);
        let task = tokio::spawn({
            let discover = discover.clone();
            async move { discover.start(cacher).await }
        });
        Feed { discover, task }
    }
}

struct Feed {
    discover: Arc<dyn Discover>,
    task: JoinHandle<discox_core::Result<()>>,
}

impl Feed {
    async fn stop(self) {
        self.discover.stop().await;
        self.task.await.unwrap().unwrap();
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < 120 * SECOND, "{what} did not happen");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What a cacher of the user's own was told.
#[derive(Default)]
struct Told {
    calls: Mutex<Vec<String>>,
    errors: Mutex<Vec<ErrorKind>>,
    panics_at: &'static str,
}

impl Told {
    fn note(&self, call: &str) {
        self.calls.lock().unwrap().push(call.to_owned());
        assert!(self.panics_at.is_empty() || !call.starts_with(self.panics_at), "a cacher's own fault");
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn errors(&self, kind: ErrorKind) -> usize {
        self.errors.lock().unwrap().iter().filter(|told| **told == kind).count()
    }
}

impl EndpointCacher for Told {
    fn add_or_update(&self, endpoint: &str, _: &[u8]) {
        self.note(&format!("put {endpoint}"));
    }

    fn delete(&self, endpoint: &str) {
        self.note(&format!("delete {endpoint}"));
    }

    fn add_error(&self, error: &Error) {
        self.note("error");
        self.errors.lock().unwrap().push(error.kind());
    }

    fn on_event(&self, event: &Event) {
        match event {
            Event::Confirmed => {}
            event => self.note(&format!("{event:?}").split('(').next().unwrap().to_lowercase()),
        }
    }
}

/// Passes on what cachers of earlier versions knew of.
struct Wrapped(LiteEndpoint);

impl EndpointCacher for Wrapped {
    fn add_or_update(&self, endpoint: &str, attr: &[u8]) {
        self.0.add_or_update(endpoint, attr);
    }
    fn delete(&self, endpoint: &str) {
        self.0.delete(endpoint);
    }
    fn add_error(&self, error: &Error) {
        self.0.add_error(error);
    }
    fn apply(&self, batch: &[Update]) {
        self.0.apply(batch);
    }
    fn on_event(&self, event: &Event) {
        self.0.on_event(event);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_fed_again_shows_the_new_list_only() {
    let site = Site::start().await;
    let cache = Arc::new(LiteEndpoint::new());
    site.put(A);
    let first = site.feed("demo", cache.clone());
    cache.ready().await;
    first.stop().await;
    assert_eq!((cache.list(), cache.is_ready()), (vec![A.to_owned()], false));
    site.delete(A);
    site.put(B);
    site.world.net(Net::Dead);
    let second = site.feed("demo", cache.clone());
    sleep(10 * SECOND).await;
    assert!(!cache.is_ready() && timeout(SECOND, cache.ready()).await.is_err(), "the new list is not there");
    assert_eq!(cache.list(), [A], "the old one stays until then");
    site.world.net(Net::Fine);
    cache.ready().await;
    assert_eq!((cache.list(), cache.is_ready()), (vec![B.to_owned()], true));
    second.stop().await;

    let empty = site.feed("empty", cache.clone());
    cache.ready().await;
    assert!(cache.is_empty() && cache.is_ready());
    empty.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cache_inside_a_cacher_that_does_not_know_begin_is_right_too() {
    let site = Site::start().await;
    let cache = Arc::new(Wrapped(LiteEndpoint::new()));
    site.put(A);
    let mut before = None;
    for (service, expected) in [("demo", vec![A]), ("demo", vec![B]), ("empty", vec![])] {
        let feed = site.feed(service, cache.clone());
        until("first list", || feed.discover.status().state == DiscoverState::Synced).await;
        assert!(cache.0.is_ready());
        assert_eq!(cache.0.list(), expected, "after {before:?}");
        feed.stop().await;
        before = Some(service);
        site.delete(A);
        site.put(B);
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_discovery_beside_a_live_one_is_refused_and_may_feed_another_cache() {
    let site = Site::start().await;
    let (cache, other) = (Arc::new(LiteEndpoint::new()), Arc::new(LiteEndpoint::new()));
    site.put(A);
    let first = site.feed("demo", cache.clone());
    cache.ready().await;
    let second = site.discover("other");
    let error = second.start(cache.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CacherInUse, "{error}");
    assert_eq!(second.status().state, DiscoverState::New);
    assert_eq!((cache.list(), cache.freshness().state), (vec![A.to_owned()], FreshnessState::Synced));
    let running = tokio::spawn({
        let (second, other) = (second.clone(), other.clone());
        async move { second.start(other).await }
    });
    other.ready().await;
    assert_eq!(other.len(), 1);
    second.stop().await;
    running.await.unwrap().unwrap();
    first.stop().await;
    site.feed("demo", cache).stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_denial_that_begins_during_an_outage_is_told_once() {
    let site = Site::start().await;
    let told = Arc::new(Told::default());
    let feed = site.feed("demo", told.clone());
    until("first list", || feed.discover.status().state == DiscoverState::Synced).await;
    site.world.net(Net::Dead);
    sleep(10 * SECOND).await;
    assert_eq!((told.errors(ErrorKind::Unavailable), told.errors(ErrorKind::Denied)), (1, 0));
    site.world.net(Net::Closed);
    sleep(60 * SECOND).await;
    site.world.net(Net::Dead);
    sleep(40 * SECOND).await;
    site.world.net(Net::Closed);
    sleep(60 * SECOND).await;
    assert_eq!((told.errors(ErrorKind::Unavailable), told.errors(ErrorKind::Denied)), (1, 1));
    assert_eq!(feed.discover.status().outages, 1);
    site.world.net(Net::Fine);
    until("recovery", || feed.discover.status().state == DiscoverState::Synced).await;
    assert_eq!(told.calls(), ["synced", "error", "lost", "error", "recovered"]);
    feed.stop().await;
}

#[tokio::test(start_paused = true)]
async fn streams_and_waits_end_with_the_discovery() {
    let site = Site::start().await;
    let cache = Arc::new(LiteEndpoint::new());
    site.put(A);
    let mut early = cache.changes();
    let feed = site.feed("demo", cache.clone());
    cache.ready().await;
    assert_eq!(cache.wait_for(1).await.unwrap().len(), 1);
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.wait_for(2).await.is_none() }
    });
    let fresh = cache.freshness_changed(FreshnessState::Empty).await;
    assert_eq!((fresh.state, fresh), (FreshnessState::Synced, cache.wait_fresh().await));
    sleep(SECOND).await;
    feed.stop().await;
    assert!(waiting.await.unwrap(), "it cannot be fulfilled any more");
    assert!(!cache.is_ready());
    assert_eq!(StreamExt::next(&mut early).await.unwrap().endpoints(), [A]);
    assert!(early.next().await.is_none() && early.next().await.is_none());
    let all: Vec<_> = cache.changes().collect().await;
    assert_eq!(all.len(), 1, "the last list, then the end");
}

#[tokio::test(start_paused = true)]
async fn a_first_list_that_is_empty_is_warned_of_once() {
    let log = Log::start();
    let site = Site::start().await;
    let cache = Arc::new(LiteEndpoint::new());
    let feed = site.feed("typo", cache.clone());
    cache.ready().await;
    site.world.net(Net::Dead);
    sleep(5 * SECOND).await;
    site.world.net(Net::Fine);
    sleep(20 * SECOND).await;
    let lines = log.lines(Level::WARN, "nothing is registered");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("prefix=\"/sim\"") && lines[0].contains("service=\"typo\""), "{lines:?}");
    feed.stop().await;
}

#[tokio::test(start_paused = true)]
async fn each_endpoint_that_comes_changes_or_goes_has_a_line_and_a_second_has_one_summary() {
    let log = Log::start();
    let site = Site::start().await;
    site.put(A);
    let cache = Arc::new(LiteEndpoint::new());
    let feed = site.feed("demo", cache.clone());
    cache.ready().await;
    site.put(B);
    until("b", || cache.len() == 2).await;
    site.world.put_by_hand(&format!("/sim/demo/{B}"), "y");
    until("an attr", || cache.attr(B).is_some_and(|attr| attr == "y")).await;
    site.delete(A);
    sleep(5 * SECOND).await;
    for (what, count) in [("endpoint added", 2), ("endpoint changed", 1), ("endpoint removed", 1)] {
        let lines = log.lines(Level::DEBUG, what);
        assert_eq!(lines.len(), count, "{lines:?}");
        assert!(lines[0].contains("service=/sim/demo") && lines[0].contains("endpoint=10.0.0."), "{lines:?}");
    }
    let summaries = log.lines(Level::INFO, "endpoints changed");
    assert_eq!(summaries.len(), 2, "{summaries:?}");
    assert!(summaries[0].contains("added=1 changed=0 removed=0 endpoints=2"), "{summaries:?}");
    assert!(summaries[1].contains("added=0 changed=1 removed=1 endpoints=1"), "{summaries:?}");
    feed.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cacher_that_panicked_is_never_called_again() {
    let log = Log::start();
    for panics_at in ["put", "synced", "error"] {
        let site = Site::start().await;
        site.put(A);
        let told = Arc::new(Told { panics_at, ..Default::default() });
        let feed = site.feed("demo", told.clone());
        sleep(SECOND).await;
        site.world.net(Net::Dead);
        sleep(SECOND).await;
        site.world.net(Net::Fine);
        assert_eq!(feed.task.await.unwrap().unwrap_err().kind(), ErrorKind::CacherPanicked);
        let calls = told.calls();
        assert!(calls.last().unwrap().starts_with(panics_at), "{calls:?}");
        let outages = u64::from(panics_at == "error");
        assert_eq!(feed.discover.status().outages, outages, "the registry was not lost");
    }
    let lines = log.lines(Level::ERROR, "the cacher panicked");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("/sim/demo") && lines[0].contains("a cacher's own fault"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_client_crate_is_an_error_and_tried_again() {
    let site = Site::start().await;
    site.put(A);
    site.world.fault(Fault::OpenPanics);
    let cache = Arc::new(LiteEndpoint::new());
    let feed = site.feed("demo", cache.clone());
    cache.ready().await;
    let error = cache.last_error().unwrap();
    assert!(error.to_string().contains("a client crate's fault"), "{error}");
    site.world.fault(Fault::WatchPanics);
    site.put(B);
    until("the next list", || cache.len() == 2).await;
    assert_eq!(feed.discover.status().outages, 2);
    feed.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_after_a_watch_that_failed_is_held_although_the_connection_is_well() {
    let site = Site::start().await;
    site.put(A);
    let cache = Arc::new(LiteEndpoint::new());
    let feed = site.feed("demo", cache.clone());
    cache.ready().await;
    // A snapshot from before the registration is restored: its index goes back.
    site.world.fault(Fault::WatchFails);
    site.delete(A);
    sleep(4 * SECOND).await;
    assert_eq!((cache.list(), feed.discover.status().held), (vec![A.to_owned()], 1));
    site.put(A);
    sleep(60 * SECOND).await;
    assert_eq!((cache.list(), feed.discover.status().held), (vec![A.to_owned()], 0));
    feed.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_after_one_that_was_dropped_says_so() {
    let site = Site::start().await;
    let (discover, cache) = (site.discover("demo"), Arc::new(LiteEndpoint::new()));
    assert!(timeout(SECOND, discover.start(cache.clone())).await.is_err());
    assert_eq!(cache.freshness().state, FreshnessState::Ended);
    let error = discover.start(cache.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyStarted);
    assert!(error.to_string().contains("make another discovery"), "{error}");
    discover.stop().await;
    discover.start(cache).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wanted_end_is_no_loss() {
    let site = Site::start().await;
    let told = Arc::new(Told::default());
    let feed = site.feed("demo", told.clone());
    until("first list", || feed.discover.status().state == DiscoverState::Synced).await;
    site.shared.close().await;
    assert_eq!(feed.task.await.unwrap().unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(told.calls(), ["synced", "error", "ended"]);
    assert_eq!(feed.discover.status().outages, 0);
}

#[cfg(feature = "serde")]
#[tokio::test(start_paused = true)]
async fn a_status_is_serialized_with_ages() {
    let site = Site::start().await;
    let cache = Arc::new(LiteEndpoint::new());
    let feed = site.feed("demo", cache.clone());
    cache.ready().await;
    sleep(SECOND / 2).await;
    let status = serde_json::to_value(feed.discover.status()).unwrap();
    assert_eq!((&status["state"], &status["outages"]), (&"synced".into(), &0.into()));
    assert!((0.4..1.0).contains(&status["since_seconds"].as_f64().unwrap()), "{status}");
    let freshness = serde_json::to_value(cache.freshness()).unwrap();
    assert!((0.4..1.0).contains(&freshness["last_confirmed_seconds"].as_f64().unwrap()), "{freshness}");
    feed.stop().await;
}
