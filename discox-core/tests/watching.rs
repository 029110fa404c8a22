//! A discovery and its cache in one handle.

#![allow(clippy::panic, clippy::unwrap_used)]

mod log;
mod sim;

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use discox_core::{
    Connection, ConnectionConfig, DiscoverConfig, DiscoverState, ErrorKind, FreshnessState, Registry,
    Snapshot, Watching,
};
use futures_util::StreamExt;
use log::Log;
use sim::{Net, SimLink, World};
use tokio::{
    runtime::Runtime,
    time::{Instant, sleep},
};
use tracing::Level;

const SECOND: Duration = Duration::from_secs(1);

fn registry(world: &Arc<World>) -> Arc<dyn Registry> {
    let settings = ConnectionConfig { detection: sim::DETECTION, ..Default::default() };
    Arc::new(Connection::<SimLink>::new(world.clone(), &settings).unwrap().with_prefix("/sim"))
}

fn put(world: &World, endpoint: &str, attr: &str) {
    world.put_by_hand(&format!("/sim/demo/{endpoint}"), attr);
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < 120 * SECOND, "{what} did not happen");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_follows_the_registry_until_its_last_clone_is_dropped() {
    let log = Log::start();
    let world = World::start();
    put(&world, "a:1", "x");
    let orders = registry(&world).watch("demo").unwrap();
    orders.ready_within(SECOND).await.unwrap();
    assert_eq!((orders.list(), orders.status().state), (vec!["a:1".to_owned()], DiscoverState::Synced));
    put(&world, "b:1", "y");
    assert_eq!(orders.wait_for(2).await.unwrap().len(), 2);
    let (clone, cache) = (orders.clone(), orders.endpoints());
    let lists: tokio::task::JoinHandle<Vec<Arc<Snapshot>>> = tokio::spawn(orders.changes().collect());
    drop(orders);
    put(&world, "c:1", "z");
    assert_eq!(clone.wait_for(3).await.unwrap().len(), 3);
    drop(clone);
    let lists = lists.await.unwrap();
    assert_eq!(lists.last().unwrap().len(), 3, "the stream ends with the discovery");
    assert_eq!(cache.freshness().state, FreshnessState::Ended);
    assert_eq!(log.lines(Level::WARN, "started anew"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn stop_ends_it_for_all_clones() {
    let world = World::start();
    let orders = registry(&world).watch("demo").unwrap();
    orders.ready_within(SECOND).await.unwrap();
    orders.clone().stop().await;
    assert_eq!((orders.status().state, orders.is_ready()), (DiscoverState::Stopped, false));
    let error = orders.ready_within(SECOND * 5).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
    orders.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ready_within_carries_the_last_error() {
    let world = World::start();
    world.net(Net::Dead);
    let orders = registry(&world).watch("demo").unwrap();
    let error = orders.ready_within(3 * SECOND).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(
        error.to_string().contains("no list within 3s") && error.to_string().contains("refused"),
        "{error}"
    );
    assert!(error.source().unwrap().to_string().contains("refused"), "{error}");
    world.net(Net::Fine);
    orders.ready_within(3 * SECOND).await.unwrap();
}

#[test]
fn without_a_runtime_it_says_so() {
    let world = Runtime::new().unwrap().block_on(async { World::start() });
    let error = registry(&world).watch("demo").unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("#[tokio::main]"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_name_is_rejected_and_a_whole_configuration_is_taken() {
    let registry = registry(&World::start());
    assert_eq!(registry.watch("a/b").unwrap_err().field(), Some("service_name"));
    let config = DiscoverConfig {
        discover_prefix: "/elsewhere".into(),
        service_name: "demo".into(),
        ..Default::default()
    };
    let orders = registry.watch(config).unwrap();
    orders.ready_within(SECOND).await.unwrap();
    assert!(format!("{orders:?}").contains("/elsewhere/demo"), "{orders:?}");
}

#[tokio::test(start_paused = true)]
async fn a_derived_table_follows_and_survives_a_panic_of_its_maker() {
    let log = Log::start();
    let world = World::start();
    put(&world, "a:1", "3");
    let orders = registry(&world).watch("demo").unwrap();
    let breaks = Arc::new(AtomicBool::new(false));
    let total = orders.derive({
        let breaks = breaks.clone();
        move |snapshot| {
            assert!(!breaks.load(Ordering::Relaxed), "a maker's own fault");
            let weight = |attr: &[u8]| std::str::from_utf8(attr).unwrap().parse::<u32>().unwrap();
            snapshot.iter().map(|entry| weight(entry.attr())).sum::<u32>()
        }
    });
    assert_eq!(*total.load(), 0, "it is there before the first list");
    orders.ready().await;
    assert_eq!(*total.load(), 3);
    assert_eq!(*orders.derive(Snapshot::len).load(), 1);
    breaks.store(true, Ordering::Relaxed);
    put(&world, "b:1", "4");
    orders.wait_for(2).await.unwrap();
    sleep(SECOND).await;
    assert_eq!((*total.load(), orders.status().state), (3, DiscoverState::Synced));
    assert_eq!(log.lines(Level::WARN, "a derived table panicked").len(), 1);
    breaks.store(false, Ordering::Relaxed);
    put(&world, "c:1", "5");
    until("the next table", || *total.load() == 12).await;
}

#[test]
fn it_goes_on_when_its_runtime_has_ended() {
    let runtime = || Runtime::new().unwrap();
    let (first, second) = (runtime(), runtime());
    let world = second.block_on(async { World::start() });
    put(&world, "a:1", "x");
    let orders: Watching = first.block_on(async {
        let orders = registry(&world).watch("demo").unwrap();
        orders.ready_within(5 * SECOND).await.unwrap();
        orders
    });
    drop(first);
    assert_eq!(orders.list(), ["a:1"], "the last list stays, and without a runtime nothing more is done");
    put(&world, "b:1", "y");
    second.block_on(async {
        orders.ready_within(5 * SECOND).await.unwrap();
        assert_eq!(orders.wait_for(2).await.unwrap().len(), 2);
        assert_eq!(orders.status().state, DiscoverState::Synced);
    });
}
