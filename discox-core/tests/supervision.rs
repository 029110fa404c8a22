//! Tasks that end without their owner: with their runtime, or by a panic in a client crate. Nothing lies, and all goes on.

#![allow(clippy::panic, clippy::unwrap_used)]

mod fixtures;
mod sim;

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use discox_core::{DiscoverState, EndpointCacher, Error, ErrorKind, LiteEndpoint, RegisterState, Registry};
use fixtures::{SECOND, attr_of, connection, discover_config, numbered, records, register, run, until};
use sim::{SESSION, World};
use tokio::{runtime::Runtime, time::sleep};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn a_connection_whose_runtime_has_ended_says_so_and_goes_on_with_the_next_call() {
    for call in ["start", "update", "stop", "discover", "wait"] {
        let first = runtime();
        let (world, shared, old) = first.block_on(async {
            let world = World::start();
            let shared = connection(&world);
            let old = shared.register(numbered(0).0).unwrap();
            old.start().await.unwrap();
            (world, shared, old)
        });
        drop(first);
        assert_eq!(old.status().state, RegisterState::Retrying, "known at once");
        assert!(old.status().last_error.unwrap().to_string().contains("runtime"), "{:?}", old.status());
        assert_eq!(shared.trouble().unwrap().kind(), ErrorKind::Unavailable);
        runtime().block_on(async {
            world.run();
            let other = shared.register(numbered(1).0).unwrap();
            let mut expected = 1;
            match call {
                "start" => {
                    other.start().await.unwrap();
                    expected = 2;
                }
                "update" => old.update_attr("a").await.unwrap(),
                "stop" => {
                    old.stop().await.unwrap();
                    assert_eq!(records(&world), 0, "stop said that it is gone");
                    expected = 0;
                }
                "wait" => drop(old.wait_for(RegisterState::Registered).await.unwrap()),
                _ => {
                    let cache = Arc::new(LiteEndpoint::new());
                    let discover = shared.discover(discover_config()).unwrap();
                    let watching = run(&discover, cache.clone());
                    until("the list", || cache.len() == 1).await;
                    discover.stop().await;
                    watching.await.unwrap().unwrap();
                }
            }
            if expected > 0 {
                until("the old one", || old.status().state == RegisterState::Registered).await;
            }
            for _ in 0..10 {
                sleep(SESSION / 2).await;
                assert_eq!(records(&world), expected, "after {call}");
            }
            shared.close().await;
            assert_eq!(records(&world), 0);
        });
    }
}

#[test]
fn a_discovery_on_a_runtime_that_lives_takes_the_connection_over() {
    let first = runtime();
    let (world, shared, old) = first.block_on(async {
        let world = World::start();
        let shared = Arc::new(connection(&world));
        let old = shared.register(numbered(0).0).unwrap();
        old.start().await.unwrap();
        (world, shared, old)
    });
    runtime().block_on(async {
        world.run();
        let cache = Arc::new(LiteEndpoint::new());
        let discover = shared.discover(discover_config()).unwrap();
        let watching = run(&discover, cache.clone());
        cache.ready().await;
        drop(std::thread::spawn(move || drop(first)).join());
        until("the takeover", || old.status().state == RegisterState::Registered).await;
        until("the watch", || discover.status().state == DiscoverState::Synced).await;
        sleep(3 * SESSION).await;
        assert_eq!((records(&world), cache.len()), (1, 1));
        discover.stop().await;
        watching.await.unwrap().unwrap();
        old.stop().await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_client_that_panics_in_any_call_is_a_failure_of_that_call() {
    for call in ["connect", "keep", "verify", "register", "withdraw", "close", "open", "next"] {
        let world = World::start();
        let shared = connection(&world);
        let steady = shared.register(numbered(0).0).unwrap();
        steady.start().await.unwrap();
        let leaving = shared.register(numbered(1).0).unwrap();
        leaving.start().await.unwrap();
        world.panic_in(Some(call));
        match call {
            "connect" => world.end_all_sessions(),
            "register" => world.delete_by_hand(&numbered(0).1),
            "withdraw" => assert!(leaving.stop().await.is_err()),
            _ => {}
        }
        sleep(20 * SECOND).await;
        let is_there = world.attr_at(&numbered(0).1).is_some();
        let is_registered = steady.status().state == RegisterState::Registered;
        assert!(is_there || !is_registered, "{call}: {:?}", steady.status());
        world.panic_in(None);
        until(call, || steady.status().state == RegisterState::Registered).await;
        leaving.stop().await.unwrap();
        sleep(3 * SESSION).await;
        assert_eq!(records(&world), 1, "{call}");
        assert_eq!(steady.status().state, RegisterState::Registered, "{call}");
        world.panic_in((call == "close").then_some(call));
        shared.close().await;
        assert_eq!(records(&world), 0, "{call}");
        steady.stop().await.unwrap();
    }
}

#[test]
fn without_a_runtime_there_is_an_error_that_says_what_to_do() {
    let inside = runtime();
    let world = inside.block_on(async { World::start() });
    let register = register(&world, "a");
    let error = futures_now(register.start());
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("tokio::main"), "{error}");
    assert_eq!(register.status().state, RegisterState::New);
    inside.block_on(register.start()).unwrap();
    assert_eq!(futures_now(register.update_attr("b")).kind(), ErrorKind::Config);
    // Asked for is asked for.
    assert_eq!(futures_now(register.stop()).kind(), ErrorKind::Config);
    inside.block_on(async {
        register.stop().await.unwrap();
        assert_eq!(attr_of(&world), None);
    });
    // Neither does dropping it need one.
    let dropped = fixtures::register(&world, "a");
    inside.block_on(dropped.start()).unwrap();
    drop(dropped);
    inside.block_on(until("the withdrawal", || attr_of(&world).is_none()));
}

fn futures_now<T: std::fmt::Debug>(future: impl Future<Output = Result<T, Error>>) -> Error {
    futures_util::FutureExt::now_or_never(future).unwrap().unwrap_err()
}

/// Blocks its thread in the first callback.
struct Blocking(std::sync::Mutex<mpsc::Receiver<()>>);

impl EndpointCacher for Blocking {
    fn add_or_update(&self, _: &str, _: &[u8]) {
        let _ = self.0.lock().unwrap().recv();
    }
    fn delete(&self, _: &str) {}
    fn add_error(&self, _: &Error) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_callback_that_blocks_blocks_no_registration_of_its_connection() {
    let world = World::start();
    let shared = connection(&world);
    let registered = shared.register(numbered(0).0).unwrap();
    registered.start().await.unwrap();
    let (unblock, blocked) = mpsc::channel();
    let discover = shared.discover(discover_config()).unwrap();
    let watching = run(&discover, Arc::new(Blocking(std::sync::Mutex::new(blocked))));
    let other = shared.register(numbered(1).0).unwrap();
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, other.start()).await.unwrap().unwrap();
    tokio::time::timeout(limit, other.stop()).await.unwrap().unwrap();
    assert_eq!(registered.status().state, RegisterState::Registered);
    let stopping = tokio::spawn(async move { discover.stop().await });
    drop(unblock);
    tokio::time::timeout(limit, stopping).await.unwrap().unwrap();
    watching.await.unwrap().unwrap();
    registered.stop().await.unwrap();
}
