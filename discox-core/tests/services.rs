//! The names of services under a prefix.

#![allow(clippy::panic, clippy::unwrap_used)]

mod sim;

use std::{sync::Arc, time::Duration};

use discox_core::{Connection, ConnectionConfig, ErrorKind, FreshnessState, Registry, ServiceChange};
use sim::{Net, SimLink, World};
use tokio::time::{Instant, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn registry(world: &Arc<World>) -> Arc<dyn Registry> {
    let settings = ConnectionConfig { detection: sim::DETECTION, ..Default::default() };
    Arc::new(Connection::<SimLink>::new(world.clone(), &settings).unwrap().with_prefix("/sim"))
}

fn added(name: &str) -> Option<ServiceChange> {
    Some(ServiceChange::Added(name.into()))
}

fn removed(name: &str) -> Option<ServiceChange> {
    Some(ServiceChange::Removed(name.into()))
}

#[tokio::test(start_paused = true)]
async fn names_are_listed_once_and_followed() {
    let world = World::start();
    world.put_by_hand("/sim/orders/a:1", "x");
    world.put_by_hand("/sim/orders/b:1", "x");
    world.put_by_hand("/other/users/a:1", "x");
    let registry = registry(&world);
    assert_eq!(registry.services("").await.unwrap(), ["orders"]);
    assert_eq!(registry.services("other/").await.unwrap(), ["users"]);
    assert_eq!(registry.services("/none").await.unwrap(), Vec::<String>::new());
    let services = registry.watch_services("").unwrap();
    let mut changes = services.changes();
    assert_eq!(changes.next().await, added("orders"));
    world.put_by_hand("/sim/users/a:1", "x");
    assert_eq!(changes.next().await, added("users"));
    world.delete_by_hand("/sim/orders/a:1");
    world.delete_by_hand("/sim/orders/b:1");
    assert_eq!(changes.next().await, removed("orders"));
    assert_eq!((services.names(), services.len()), (vec!["users".to_owned()], 1));
    services.stop().await;
    assert_eq!(changes.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_a_missing_name_is_held_by_the_grace() {
    let world = World::start();
    world.put_by_hand("/sim/orders/a:1", "x");
    let services = registry(&world).watch_services("/sim").unwrap();
    services.ready_within(SECOND).await.unwrap();
    let mut changes = services.changes();
    assert_eq!(changes.next().await, added("orders"));
    world.net(Net::Dead);
    timeout(30 * SECOND, async {
        while services.freshness().state != FreshnessState::Stale {
            tokio::time::sleep(SECOND / 10).await;
        }
    })
    .await
    .unwrap();
    world.delete_by_hand("/sim/orders/a:1");
    world.put_by_hand("/sim/users/a:1", "x");
    world.net(Net::Fine);
    assert_eq!(changes.next().await, added("users"));
    let recovered = Instant::now();
    assert_eq!(services.status().held, 1);
    assert_eq!(changes.next().await, removed("orders"));
    assert!(recovered.elapsed() >= 10 * SECOND, "held for {:?} only", recovered.elapsed());
}

#[tokio::test(start_paused = true)]
async fn why_names_cannot_be_listed_is_said_in_time() {
    let world = World::start();
    let registry = registry(&world);
    assert_eq!(registry.services("/a/../b").await.unwrap_err().field(), Some("discover_prefix"));
    world.net(Net::Dead);
    let began = Instant::now();
    let error = registry.services("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(began.elapsed() <= 6 * SECOND);
    world.net(Net::Closed);
    tokio::time::sleep(5 * SECOND).await;
    let began = Instant::now();
    assert_eq!(registry.services("").await.unwrap_err().kind(), ErrorKind::Denied);
    assert!(began.elapsed() < 4 * SECOND, "waits although it was refused");
    registry.close().await;
    assert_eq!(registry.services("").await.unwrap_err().kind(), ErrorKind::Stopped);
}
