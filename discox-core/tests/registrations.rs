//! Registrations on one connection, in virtual time: none harms another.

#![allow(clippy::panic, clippy::unwrap_used)]

mod fixtures;
mod sim;

use std::{sync::Arc, time::Duration};

use discox_core::{ErrorKind, LiteEndpoint, RegisterState, Registry};
use fixtures::{
    KEY, SECOND, attr_of, connection, discover_config, numbered, records, register_config, run, until,
};
use sim::{Net, World};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn one_record_that_is_denied_costs_no_other_one_anything() {
    let world = World::start();
    let shared = connection(&world);
    let (denied_config, denied_key) = numbered(0);
    let denied = shared.register(denied_config).unwrap();
    let healthy = shared.register(numbered(1).0).unwrap();
    denied.start().await.unwrap();
    healthy.start().await.unwrap();
    let since = healthy.status().since;
    world.deny(&denied_key, true);
    until("the denial", || denied.status().state == RegisterState::Retrying).await;
    sleep(60 * SECOND).await;
    let status = denied.status();
    assert_eq!(status.last_error.unwrap().kind(), ErrorKind::Denied);
    assert!(status.attempts <= 12, "{} attempts: a denial is tried again ever more slowly", status.attempts);
    assert_eq!((healthy.status().state, healthy.status().since), (RegisterState::Registered, since));
    world.deny(&denied_key, false);
    let back = until("its return", || denied.status().state == RegisterState::Registered).await;
    assert!(back <= Duration::from_secs(31), "{back:?}");
    assert_eq!(records(&world), 2);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_that_is_denied_delays_no_other_one_and_is_given_up() {
    let world = World::start();
    let shared = connection(&world);
    let mut registers = Vec::new();
    for number in 0..30 {
        let (config, key) = numbered(number);
        let register = shared.register(config).unwrap();
        register.start().await.unwrap();
        world.deny(&key, number < 10);
        registers.push(register);
    }
    let denied = registers.remove(0);
    drop(registers);
    let took = until("the healthy ones to go", || records(&world) == 10).await;
    assert!(took <= SECOND, "{took:?}");
    assert_eq!(denied.stop().await.unwrap_err().kind(), ErrorKind::Denied);
    sleep(200 * SECOND).await;
    let requests = world.requests.load(std::sync::atomic::Ordering::Relaxed);
    let error = denied.stop().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "given up, and said at once");
    sleep(60 * SECOND).await;
    let asked = world.requests.load(std::sync::atomic::Ordering::Relaxed) - requests;
    assert!(asked <= 60, "only probes: {asked} requests in a minute");
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_a_link_that_is_lost() {
    for call in ["start", "update", "stop"] {
        let world = World::start();
        let shared = connection(&world);
        let register = shared.register(register_config("a")).unwrap();
        let other = shared.register(numbered(1).0).unwrap();
        other.start().await.unwrap();
        if call != "start" {
            register.start().await.unwrap();
        }
        // The server swallows requests, and a second later its end is known.
        world.net(Net::Hung);
        let failover = async {
            sleep(SECOND).await;
            world.net(Net::Dead);
            sleep(SECOND).await;
            world.net(Net::Fine);
        };
        let began = Instant::now();
        let calling = async {
            match call {
                "start" => register.start().await,
                "update" => register.update_attr("b").await,
                _ => register.stop().await,
            }
        };
        let (outcome, ()) = tokio::join!(calling, failover);
        outcome.unwrap_or_else(|error| panic!("{call}: {error}"));
        assert!(began.elapsed() <= 4 * SECOND, "{call}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_at_any_moment_of_the_first_connect_is_final() {
    for after in 0..60 {
        let world = World::start();
        let shared = connection(&world);
        let register = shared.register(register_config("a")).unwrap();
        let closing = async {
            sleep(Duration::from_micros(200 * after)).await;
            shared.close().await;
        };
        let _ = tokio::join!(register.start(), closing);
        assert_eq!(shared.trouble().unwrap().kind(), ErrorKind::Stopped);
        assert_eq!(register.start().await.unwrap_err().kind(), ErrorKind::Stopped);
        register.stop().await.unwrap();
        assert_eq!(attr_of(&world), None);
        sleep(2 * sim::SESSION).await;
        assert_eq!(world.sessions(), 0, "closed after {after} steps");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_starts_at_the_same_time_one_is_registered_and_the_other_superseded_at_once() {
    for apart in 0..40 {
        let world = World::start();
        let shared = connection(&world);
        let keeps_it_open = shared.register(numbered(1).0).unwrap();
        keeps_it_open.start().await.unwrap();
        let earlier = shared.register(register_config("earlier")).unwrap();
        let later = shared.register(register_config("later")).unwrap();
        let second = async {
            sleep(Duration::from_micros(200 * apart)).await;
            later.start().await
        };
        let (first, second) = tokio::join!(earlier.start(), second);
        second.unwrap();
        let superseded = match first {
            Ok(()) => earlier.status().state == RegisterState::Superseded,
            Err(error) => error.kind() == ErrorKind::Superseded,
        };
        assert!(superseded, "{apart}: {:?}", earlier.status());
        assert_eq!(later.status().state, RegisterState::Registered);
        assert_eq!(world.attr_at(KEY).as_deref(), Some("later"));
        earlier.stop().await.unwrap();
        assert_eq!(world.attr_at(KEY).as_deref(), Some("later"));
    }
}

#[tokio::test(start_paused = true)]
async fn registrations_do_not_wait_for_lists() {
    let world = World::start();
    world.delay("open", 4 * SECOND);
    let shared = connection(&world);
    let mut watching = Vec::new();
    for _ in 0..500 {
        let discover = shared.discover(discover_config()).unwrap();
        watching.push((run(&discover, Arc::new(LiteEndpoint::new())), discover));
    }
    sleep(SECOND).await;
    let began = Instant::now();
    let register = shared.register(register_config("a")).unwrap();
    register.start().await.unwrap();
    assert!(began.elapsed() <= SECOND / 10, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_status_counts_outages_and_registrations() {
    let world = World::start();
    let shared = connection(&world);
    let register = shared.register(register_config("a")).unwrap();
    register.start().await.unwrap();
    for outages in 1..=3 {
        world.delete_by_hand(KEY);
        until("repair", || world.attr_at(KEY).is_some()).await;
        let status = register.wait_for(RegisterState::Registered).await.unwrap();
        assert_eq!((status.outages, status.registered_again), (outages, outages));
    }
    register.update_attr("b").await.unwrap();
    assert_eq!(register.status().registered_again, 3, "an update is none");
    assert_eq!(register.status().state.to_string(), "registered");
    assert!(format!("{register:?}").contains("10.0.0.1:8000"), "{register:?}");
    let error = register.start().await.unwrap_err();
    assert!(error.to_string().contains(KEY), "{error}");
}

#[cfg(feature = "serde")]
#[tokio::test(start_paused = true)]
async fn a_status_is_serialized_with_ages() {
    let world = World::start();
    let register = connection(&world).register(numbered(0).0).unwrap();
    register.start().await.unwrap();
    sleep(SECOND / 2).await;
    let status = serde_json::to_value(register.status()).unwrap();
    assert_eq!((&status["state"], &status["outages"]), (&"registered".into(), &0.into()));
    assert!((0.4..1.0).contains(&status["since_seconds"].as_f64().unwrap()), "{status}");
    assert!(status["granted_ttl_seconds"].as_f64().unwrap() > 0.0, "{status}");
    register.stop().await.unwrap();
}
