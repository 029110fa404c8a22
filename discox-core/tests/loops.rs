//! The two loops in virtual time, one behaviour a test: backoff, expiry, re-registration, shutdown.

#![allow(clippy::panic, clippy::unwrap_used)]

mod recorder;
mod sim;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use discox_core::{
    Connection, ConnectionConfig, Discover, DiscoverConfig, DiscoverState, EndpointCacher, Error, ErrorKind,
    Event, FreshnessState, LiteEndpoint, Register, RegisterConfig, RegisterState, Registry, Update,
    record::Service,
};
use recorder::Recorder;
use sim::{Net, SimLink, World};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

const SECOND: Duration = Duration::from_secs(1);
const KEY: &str = "/sim/demo/10.0.0.1:8000";

fn settings() -> ConnectionConfig {
    ConnectionConfig { detection: sim::DETECTION, ..Default::default() }
}

fn connection(world: &Arc<World>) -> Connection<SimLink> {
    Connection::new(world.clone(), &settings()).unwrap()
}

fn register_config(attr: &str) -> RegisterConfig {
    RegisterConfig {
        discover_prefix: "/sim".into(),
        service_name: "demo".into(),
        service_endpoint: "10.0.0.1:8000".into(),
        attr: attr.into(),
        heart_beat_period: 2 * SECOND,
        ..Default::default()
    }
}

fn register(world: &Arc<World>, attr: &str) -> Arc<dyn Register> {
    connection(world).single_register(&register_config(attr)).unwrap()
}

fn discover_config() -> DiscoverConfig {
    DiscoverConfig { discover_prefix: "/sim".into(), service_name: "demo".into(), ..Default::default() }
}

fn discover(world: &Arc<World>) -> Arc<dyn Discover> {
    connection(world).single_discover(&discover_config()).unwrap()
}

fn run(discover: &Arc<dyn Discover>, cacher: Arc<dyn EndpointCacher>) -> JoinHandle<discox_core::Result<()>> {
    let discover = discover.clone();
    tokio::spawn(async move { discover.start(cacher).await })
}

fn attr_of(world: &World) -> Option<String> {
    let content = world.content(&Service::parse("/sim", "demo").unwrap());
    content.into_values().next().map(|attr| String::from_utf8(attr.to_vec()).unwrap())
}

/// Waits in virtual time, and returns how long it took.
async fn until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < 120 * SECOND, "{what} did not happen");
        sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_record_deleted_by_hand_is_back_within_a_heart_beat() {
    let world = World::start();
    let register = register(&world, "a");
    register.start().await.unwrap();
    world.delete_by_hand(KEY);
    assert!(until("repair", || attr_of(&world).is_some()).await <= 2 * SECOND + SECOND / 10);
}

#[tokio::test(start_paused = true)]
async fn a_record_altered_by_hand_is_mended_within_a_heart_beat() {
    let world = World::start();
    let register = register(&world, "a");
    register.start().await.unwrap();
    world.put_by_hand(KEY, "altered");
    assert!(until("repair", || attr_of(&world).as_deref() == Some("a")).await <= 2 * SECOND + SECOND / 10);
}

#[tokio::test(start_paused = true)]
async fn an_ended_session_is_replaced_at_once() {
    let world = World::start();
    let register = register(&world, "a");
    register.start().await.unwrap();
    world.end_all_sessions();
    assert_eq!(attr_of(&world), None);
    assert!(until("repair", || attr_of(&world).is_some()).await <= SECOND);
    until("status", || register.status().state == RegisterState::Registered).await;
}

#[tokio::test(start_paused = true)]
async fn a_wiped_registry_is_told_again_within_two_seconds() {
    let world = World::start();
    let register = register(&world, "a");
    register.start().await.unwrap();
    world.net(Net::Dead);
    world.wipe();
    sleep(100 * SECOND).await;
    assert_eq!(register.status().state, RegisterState::Retrying);
    world.net(Net::Fine);
    assert!(until("repair", || attr_of(&world).is_some()).await <= 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_probed_by_one_prober_with_backoff() {
    let world = World::start();
    let shared = connection(&world);
    let registers: Vec<_> = (0..50)
        .map(|port| {
            let config = RegisterConfig {
                service_endpoint: format!("10.0.0.1:{}", 9000 + port),
                ..register_config("a")
            };
            shared.register(config).unwrap()
        })
        .collect();
    for register in &registers {
        register.start().await.unwrap();
    }
    world.net(Net::Dead);
    let (connects, requests) =
        (world.connects.load(Ordering::Relaxed), world.requests.load(Ordering::Relaxed));
    sleep(60 * SECOND).await;
    let connects = world.connects.load(Ordering::Relaxed) - connects;
    assert!((50..=95).contains(&connects), "{connects} attempts in a minute");
    assert!(world.requests.load(Ordering::Relaxed) - requests <= connects + 2, "nobody else asks");
}

#[tokio::test(start_paused = true)]
async fn start_fails_in_time_when_the_registry_is_not_there_and_can_be_tried_again() {
    let world = World::start();
    for net in [Net::Dead, Net::Hung] {
        world.net(net);
        let register = register(&world, "a");
        let began = Instant::now();
        let error = register.start().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut), "{error}");
        assert!(began.elapsed() <= 5 * SECOND + SECOND / 10);
        assert_eq!(register.status().state, RegisterState::New);
        world.net(Net::Fine);
        register.start().await.unwrap();
        assert_eq!(register.start().await.unwrap_err().kind(), ErrorKind::AlreadyStarted);
        register.stop().await.unwrap();
        assert_eq!(register.start().await.unwrap_err().kind(), ErrorKind::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn start_fails_at_once_when_the_registry_does_not_let_us_in() {
    let world = World::start();
    world.net(Net::Closed);
    let shared = connection(&world);
    for register in [register(&world, "a"), shared.register(register_config("a")).unwrap()] {
        let began = Instant::now();
        let error = register.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains(KEY), "{error}");
        assert!(began.elapsed() <= SECOND / 10);
    }
    world.net(Net::Fine);
    let register = register(&world, "a");
    register.start().await.unwrap();

    // One that runs goes on trying, and mends.
    world.net(Net::Closed);
    world.end_all_sessions();
    until("refusal", || register.status().last_error.is_some_and(|error| error.kind() == ErrorKind::Denied))
        .await;
    world.net(Net::Fine);
    until("the record", || attr_of(&world).is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn stop_during_start_ends_it_and_withdraws() {
    let world = World::start();
    world.net(Net::Hung);
    let register = register(&world, "a");
    let starting = tokio::spawn({
        let register = register.clone();
        async move { register.start().await }
    });
    sleep(SECOND).await;
    let stopping = tokio::spawn({
        let register = register.clone();
        async move { register.stop().await }
    });
    sleep(SECOND).await;
    assert_eq!(starting.await.unwrap().unwrap_err().kind(), ErrorKind::Stopped);
    world.net(Net::Fine);
    stopping.await.unwrap().unwrap();
    sleep(2 * sim::SESSION).await;
    assert_eq!(attr_of(&world), None);
    assert_eq!(world.sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn stop_of_a_hung_registry_takes_five_seconds_and_says_so() {
    let world = World::start();
    let register = register(&world, "a");
    register.start().await.unwrap();
    world.net(Net::Hung);
    let began = Instant::now();
    let error = register.stop().await.unwrap_err();
    assert!(began.elapsed() <= 5 * SECOND, "{:?}", began.elapsed());
    assert_eq!(error.operation(), Some("withdraw"));
    assert!(register.stop().await.is_err(), "the outcome stays");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_start_leaves_nothing_on_a_shared_connection() {
    let world = World::start();
    let shared = connection(&world);
    let keeps_it_open =
        shared.discover(DiscoverConfig { service_name: "other".into(), ..Default::default() }).unwrap();
    let _watching = run(&keeps_it_open, Arc::new(LiteEndpoint::new()));
    let register = shared.register(register_config("a")).unwrap();
    assert!(timeout(Duration::from_millis(4), register.start()).await.is_err());
    sleep(SECOND).await;
    assert_eq!(attr_of(&world), None);
    register.start().await.unwrap();
    assert_eq!(attr_of(&world).as_deref(), Some("a"));
    drop(register);
    until("withdrawal of a dropped handle", || attr_of(&world).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_attr_wins_before_and_after_start_and_over_an_outage() {
    let world = World::start();
    let register = register(&world, "a");
    register.update_attr("b").await.unwrap();
    assert_eq!(attr_of(&world), None);
    register.start().await.unwrap();
    assert_eq!(attr_of(&world).as_deref(), Some("b"));
    register.update_attr("c").await.unwrap();
    assert_eq!(attr_of(&world).as_deref(), Some("c"));
    world.net(Net::Dead);
    assert!(register.update_attr("d").await.is_err());
    world.net(Net::Fine);
    until("the wish is granted later", || attr_of(&world).as_deref() == Some("d")).await;
    let error = register.update_attr(&"x".repeat(1025)).await.unwrap_err();
    assert_eq!(error.field(), Some("attr"));
}

#[tokio::test(start_paused = true)]
async fn the_later_start_wins_and_the_earlier_one_returns_when_it_is_gone() {
    let world = World::start();
    let shared = connection(&world);
    let pairs = [
        (register(&world, "old"), register(&world, "new")),
        (shared.register(register_config("old")).unwrap(), shared.register(register_config("new")).unwrap()),
    ];
    for (old, new) in pairs {
        old.start().await.unwrap();
        new.start().await.unwrap();
        until("superseded", || old.status().state == RegisterState::Superseded).await;
        assert_eq!(old.update_attr("older").await.unwrap_err().kind(), ErrorKind::Superseded);
        sleep(10 * SECOND).await;
        assert_eq!(attr_of(&world).as_deref(), Some("new"));
        new.stop().await.unwrap();
        until("the earlier one is back", || attr_of(&world).as_deref() == Some("older")).await;
        old.stop().await.unwrap();
        assert_eq!(attr_of(&world), None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_once_and_keeps_what_was_known() {
    let world = World::start();
    let register = register(&world, "a");
    register.start().await.unwrap();
    let (discover, recorder) = (discover(&world), Arc::new(Recorder::default()));
    let cache = Arc::new(LiteEndpoint::new());
    let watching = run(&discover, recorder.clone());
    let second = self::discover(&world);
    let also_watching = run(&second, cache.clone());
    cache.ready().await;
    let known = BTreeMap::from([("10.0.0.1:8000".to_owned(), "a".into())]);
    until("synced", || recorder.shown() == known).await;
    world.net(Net::Dead);
    world.wipe();
    sleep(60 * SECOND).await;
    assert_eq!((recorder.shown(), cache.list().len()), (known.clone(), 1));
    assert_eq!(cache.freshness().state, FreshnessState::Stale);
    assert_eq!(discover.status().state, DiscoverState::Lost);
    assert!(discover.status().last_error.is_some());
    world.net(Net::Fine);
    until("synced again", || discover.status().state == DiscoverState::Synced).await;
    sleep(60 * SECOND).await;
    assert_eq!((recorder.shown(), recorder.deletes_of("10.0.0.1:8000")), (known, 0));
    discover.stop().await;
    second.stop().await;
    watching.await.unwrap().unwrap();
    also_watching.await.unwrap().unwrap();
    assert_eq!(cache.freshness().state, FreshnessState::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_hung_registry_is_given_up_within_half_of_the_shortest_ttl() {
    let world = World::start();
    // Its records live for 6 s, less than the 15 s that a hang may go unnoticed otherwise.
    let patient = || Connection::<SimLink>::new(world.clone(), &ConnectionConfig::default()).unwrap();
    let register = patient().single_register(&register_config("a")).unwrap();
    register.start().await.unwrap();
    let config =
        DiscoverConfig { discover_prefix: "/sim".into(), service_name: "demo".into(), ..Default::default() };
    let discover = patient().single_discover(&config).unwrap();
    let task = run(&discover, Arc::new(Recorder::default()));
    until("first list", || discover.status().state == DiscoverState::Synced).await;
    world.net(Net::Hung);
    let noticed = until("detection", || register.status().state == RegisterState::Retrying).await;
    assert!(noticed <= 3 * SECOND + SECOND / 10, "after {noticed:?}");
    assert_eq!(discover.status().state, DiscoverState::Synced, "who registers nothing may wait");
    let noticed = noticed + until("detection", || discover.status().state == DiscoverState::Lost).await;
    assert!(noticed <= 15 * SECOND + SECOND / 10, "after {noticed:?}");
    discover.stop().await;
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_status_tells_of_an_outage() {
    let world = World::start();
    let (register, discover) = (register(&world, "a"), discover(&world));
    register.start().await.unwrap();
    let task = run(&discover, Arc::new(Recorder::default()));
    until("first list", || discover.status().state == DiscoverState::Synced).await;
    let began = Instant::now().into_std();
    world.net(Net::Dead);
    sleep(10 * SECOND).await;
    let (registration, discovery) = (register.status(), discover.status());
    assert_eq!((registration.state, discovery.state), (RegisterState::Retrying, DiscoverState::Lost));
    for (since, attempts, error, confirmed) in [
        (registration.since, registration.attempts, registration.last_error, registration.last_confirmed),
        (discovery.since, discovery.attempts, discovery.last_error, discovery.last_confirmed),
    ] {
        assert!(since >= began && since <= began + SECOND);
        assert!((8..=20).contains(&attempts), "{attempts} attempts in 10 s");
        assert_eq!(error.unwrap().kind(), ErrorKind::Unavailable);
        assert!(confirmed.unwrap() <= since);
    }
    world.net(Net::Fine);
    until("recovery", || register.status().state == RegisterState::Registered).await;
    until("recovery", || discover.status().state == DiscoverState::Synced).await;
    assert_eq!((register.status().attempts, discover.status().attempts), (0, 0));
    assert!(discover.status().grace_left > Duration::ZERO, "removals are held now");
    discover.stop().await;
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_died_in_an_outage_is_gone_after_the_grace() {
    let world = World::start();
    let register = register(&world, "a");
    register.start().await.unwrap();
    let (discover, cache) = (discover(&world), Arc::new(LiteEndpoint::new()));
    let _watching = run(&discover, cache.clone());
    cache.ready().await;
    world.net(Net::Partitioned);
    drop(register);
    sleep(60 * SECOND).await;
    world.net(Net::Fine);
    until("synced again", || discover.status().state == DiscoverState::Synced).await;
    assert_eq!((discover.status().held, cache.len()), (1, 1));
    let held = until("removal", || cache.is_empty()).await;
    assert!((14 * SECOND..=16 * SECOND).contains(&held), "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stale_watch_is_no_outage() {
    let world = World::start();
    let register = register(&world, "a");
    register.start().await.unwrap();
    let (discover, cache) = (discover(&world), Arc::new(LiteEndpoint::new()));
    let _watching = run(&discover, cache.clone());
    cache.ready().await;
    world.compact();
    register.stop().await.unwrap();
    assert!(until("removal", || cache.is_empty()).await <= SECOND);
    assert!(cache.last_error().is_none());
}

#[tokio::test(start_paused = true)]
async fn discovery_waits_for_the_registry_and_says_so_once() {
    let world = World::start();
    world.net(Net::Dead);
    let (discover, recorder) = (discover(&world), Arc::new(Recorder::default()));
    let watching = run(&discover, recorder.clone());
    sleep(60 * SECOND).await;
    assert_eq!(discover.status().state, DiscoverState::Connecting);
    world.net(Net::Fine);
    until("synced", || discover.status().state == DiscoverState::Synced).await;
    discover.stop().await;
    watching.await.unwrap().unwrap();
    recorder.close();
    assert!(discover.start(Arc::new(LiteEndpoint::new())).await.is_ok(), "Ok at once after stop");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_of_start_equals_stop() {
    let world = World::start();
    let (discover, cache) = (discover(&world), Arc::new(LiteEndpoint::new()));
    world.net(Net::Dead);
    let watching = run(&discover, cache.clone());
    sleep(SECOND).await;
    watching.abort();
    cache.ready().await;
    assert!(!cache.is_ready());
    assert!(cache.last_error().is_some());
    discover.stop().await;
    assert_eq!(discover.status().state, DiscoverState::Stopped);
}

/// Does what it is told to do in a callback.
struct Inside<F>(F);

impl<F: Fn() + Send + Sync + 'static> EndpointCacher for Inside<F> {
    fn add_or_update(&self, _: &str, _: &[u8]) {}
    fn delete(&self, _: &str) {}
    fn add_error(&self, _: &Error) {}
    fn apply(&self, _: &[Update]) {
        (self.0)();
    }
    fn on_event(&self, _: &Event) {}
}

#[tokio::test(start_paused = true)]
async fn a_panicking_cacher_ends_its_own_discovery_with_an_error() {
    let world = World::start();
    let register = register(&world, "a");
    register.start().await.unwrap();
    let discover = discover(&world);
    let watching = run(&discover, Arc::new(Inside(|| panic!("a cacher's own fault"))));
    assert_eq!(watching.await.unwrap().unwrap_err().kind(), ErrorKind::CacherPanicked);
}

#[tokio::test(start_paused = true)]
async fn stop_from_inside_a_callback_only_signals() {
    use futures_util::FutureExt as _;
    let world = World::start();
    let register = register(&world, "a");
    register.start().await.unwrap();
    let discover = discover(&world);
    let inside = discover.clone();
    let stop = move || assert!(inside.stop().now_or_never().is_some(), "it must not wait for itself");
    let watching = run(&discover, Arc::new(Inside(stop)));
    assert!(watching.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn closing_a_shared_connection_ends_what_was_made_from_it() {
    let world = World::start();
    let shared = connection(&world);
    let config =
        DiscoverConfig { discover_prefix: "/sim".into(), service_name: "demo".into(), ..Default::default() };
    let (discover, cache) = (shared.discover(config).unwrap(), Arc::new(LiteEndpoint::new()));
    let watching = run(&discover, cache.clone());
    let register = shared.register(register_config("a")).unwrap();
    register.start().await.unwrap();
    cache.ready().await;
    shared.close().await;
    assert_eq!(watching.await.unwrap().unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(attr_of(&world), None);
}

#[tokio::test(start_paused = true)]
async fn a_start_repeated_on_a_shared_connection_is_not_undone_by_the_failed_one() {
    let world = World::start();
    let shared = connection(&world);
    let other = RegisterConfig { service_endpoint: "10.0.0.2:1".into(), ..register_config("b") };
    let keeps_it_open = shared.register(other).unwrap();
    keeps_it_open.start().await.unwrap();
    let register = shared.register(register_config("a")).unwrap();
    world.net(Net::Hung);
    // Given up while the connection is not yet known to be lost, so that a withdrawal is under way.
    assert!(timeout(SECOND, register.start()).await.is_err());
    let again = tokio::spawn(async move { register.start().await.map(|()| register) });
    sleep(SECOND / 2).await;
    world.net(Net::Fine);
    let register = again.await.unwrap().unwrap();
    sleep(20 * SECOND).await;
    assert_eq!(world.content(&Service::parse("/sim", "demo").unwrap()).len(), 2);
    assert_eq!(register.status().state, RegisterState::Registered);
    drop(register);
    until("withdrawal", || world.content(&Service::parse("/sim", "demo").unwrap()).len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_watch_itself_confirms_what_the_cache_shows() {
    let world = World::start();
    let shared = connection(&world);
    let keeps_the_session = shared.register(register_config("a")).unwrap();
    keeps_the_session.start().await.unwrap();
    let (discover, cache) = (shared.discover(discover_config()).unwrap(), Arc::new(LiteEndpoint::new()));
    let _watching = run(&discover, cache.clone());
    cache.ready().await;
    sleep(20 * SECOND).await;
    let age = |confirmed: Option<std::time::Instant>| Instant::now().into_std() - confirmed.unwrap();
    assert!(age(discover.status().last_confirmed) <= 2 * SECOND, "a quiet watch is confirmed");
    assert!(age(cache.freshness().last_confirmed) <= 2 * SECOND, "a quiet watch is confirmed");
    world.stick_watches(true);
    sleep(60 * SECOND).await;
    assert_eq!(discover.status().state, DiscoverState::Synced, "the connection is well");
    assert!(age(discover.status().last_confirmed) >= 59 * SECOND, "its connection confirms nothing");
    assert!(age(cache.freshness().last_confirmed) >= 59 * SECOND, "its connection confirms nothing");
    world.stick_watches(false);
    sleep(2 * SECOND).await;
    assert!(age(discover.status().last_confirmed) <= 2 * SECOND);
    assert!(age(cache.freshness().last_confirmed) <= 2 * SECOND);
}
