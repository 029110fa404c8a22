//! The table of behaviours, row by row, in virtual time.

#![allow(clippy::panic, clippy::unwrap_used)]

mod world;

use std::{collections::HashSet, sync::Arc, time::Duration};

use discox_balance::{Balanced, Cause, Failed, How, Options, Unavailable};
use discox_core::{EndpointCacher, Error, ErrorKind, Event, LiteEndpoint};
use tokio::time::Instant;
use world::{Server, World, balanced, cache, options, settle};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const C: &str = "10.0.0.3:80";

async fn refusal(balanced: &Balanced<World>) -> (Unavailable, Duration) {
    let begun = Instant::now();
    (balanced.wait().await.unwrap_err(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn before_the_first_list_a_request_waits_and_then_says_so() {
    let cache = Arc::new(LiteEndpoint::new());
    let balanced = Balanced::new(&cache, World::default(), options());
    let lost = Error::new(ErrorKind::Unavailable, "no route to the registry");
    cache.add_error(&lost);
    let (error, took) = refusal(&balanced).await;
    assert_eq!(error.to_string(), format!("orders is not discovered yet; discovery: {lost}"));
    assert_eq!(took, Duration::from_secs(5));

    let waiting = tokio::spawn({
        let balanced = balanced.clone();
        async move { balanced.wait().await.map(|pick| pick.endpoint().to_owned()) }
    });
    settle().await;
    cache.add_or_update(A, b"");
    cache.on_event(&Event::Synced);
    assert_eq!(waiting.await.unwrap().unwrap(), A);
}

#[tokio::test(start_paused = true)]
async fn no_wait_at_all_is_possible() {
    let balanced =
        Balanced::new(Arc::new(LiteEndpoint::new()), World::default(), options().wait(Duration::ZERO));
    let (error, took) = refusal(&balanced).await;
    assert_eq!((error.to_string().as_str(), took), ("orders is not discovered yet", Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_is_told_at_once_unless_the_request_waits() {
    let (_, cache, balanced) = balanced(&[], 0).await;
    settle().await;
    let (error, took) = refusal(&balanced).await;
    assert_eq!((error.to_string().as_str(), took), ("no endpoint of orders is registered", Duration::ZERO));

    let patient = How { wait_for_ready: true, ..How::default() };
    let begun = Instant::now();
    let error = balanced.acquire(patient).await.unwrap_err();
    assert_eq!((error.cause(), begun.elapsed()), (&Cause::NoEndpoint, Duration::from_secs(5)));

    let deadline = Some(Instant::now() + Duration::from_secs(60));
    let waiting = tokio::spawn({
        let balanced = balanced.clone();
        async move { balanced.acquire(How { deadline, ..patient }).await.map(drop) }
    });
    tokio::time::sleep(Duration::from_secs(50)).await;
    cache.add_or_update(A, b"");
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_holds_while_waiting() {
    let balanced = Balanced::new(Arc::new(LiteEndpoint::new()), World::default(), options());
    let begun = Instant::now();
    let deadline = Some(begun + Duration::from_millis(300));
    let error = balanced.acquire(How { deadline, ..How::default() }).await.unwrap_err();
    assert_eq!((error.cause(), begun.elapsed()), (&Cause::Deadline, Duration::from_millis(300)));
}

#[tokio::test(start_paused = true)]
async fn when_all_refuse_each_reason_is_told_at_once() {
    let (world, cache) = (World::default(), cache(&[A, B]));
    world.set(A, Server::Refuses);
    world.set(B, Server::Hangs);
    let balanced = Balanced::new(&cache, world.clone(), options());
    let (error, took) = refusal(&balanced).await;
    // Both have been tried when the one that hangs is given up, which is when the wait is over, too.
    assert_eq!(took, Duration::from_secs(5));
    assert!(error.to_string().contains("10.0.0.1:80: connection refused"), "{error}");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (error, took) = refusal(&balanced).await;
    assert_eq!(
        (error.to_string().as_str(), took),
        (
            "no endpoint of orders can be reached: 10.0.0.1:80: connection refused; \
             10.0.0.2:80: no connection within 5s",
            Duration::ZERO
        )
    );
    world.set(A, Server::Accepts);
    let patient =
        How { wait_for_ready: true, deadline: Some(Instant::now() + Duration::from_secs(30)), key: None };
    assert_eq!(balanced.acquire(patient).await.unwrap().endpoint(), A);
}

#[tokio::test(start_paused = true)]
async fn a_lost_registry_changes_nothing_and_the_dead_leave_by_their_connections() {
    let (world, cache, balanced) = balanced(&[A, B], 2).await;
    cache.on_event(&Event::Lost(Error::new(ErrorKind::Unavailable, "gone")));
    world.set(A, Server::Refuses);
    world.cut(A);
    // At once: not even the manager has heard of it.
    assert!((0..100).all(|_| balanced.pick().unwrap().endpoint() == B));
    settle().await;
    assert_eq!((balanced.status().ready, balanced.status().connecting), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn dials_back_off() {
    let (world, cache) = (World::default(), cache(&[A]));
    world.set(A, Server::Refuses);
    let _balanced = Balanced::new(&cache, world.clone(), options());
    tokio::time::sleep(Duration::from_secs(600)).await;
    // Full jitter: on average every 5 s at the end. Without a pause it would be 600,000.
    assert!((60..400).contains(&world.dials(A)), "{}", world.dials(A));
}

#[tokio::test(start_paused = true)]
async fn one_that_accepts_and_hangs_up_is_dialed_with_backoff_too() {
    let (world, _cache, _balanced) = balanced(&[A], 1).await;
    for _ in 0..10_000 {
        world.cut(A);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(world.dials(A) < 100, "{}", world.dials(A));
}

#[tokio::test(start_paused = true)]
async fn at_most_sixteen_handshakes_and_no_connection_outside_the_subset() {
    let endpoints: Vec<_> = (1..=250).map(|i| format!("10.0.0.{i}:80")).collect();
    let names: Vec<_> = endpoints.iter().map(String::as_str).collect();
    let (world, cache) = (World::default(), cache(&names));
    let balanced = Balanced::new(&cache, world.clone(), options().subset(100));
    balanced.ready(100).await;
    settle().await;
    assert_eq!((world.most_dialing(), world.live(), world.all_dials()), (16, 100, 100));
    let status = balanced.status();
    assert_eq!((status.discovered, status.in_subset, status.ready), (250, 100, 100));
}

/// 1,024 is where tonic's `balance_list` ends.
#[tokio::test(start_paused = true)]
async fn thousands_of_endpoints_are_connected_and_a_change_touches_one() {
    for count in [1_025, 10_000] {
        let endpoints: Vec<_> = (0..count).map(|i| format!("10.1.{}.{}:80", i / 250, i % 250 + 1)).collect();
        let names: Vec<_> = endpoints.iter().map(String::as_str).collect();
        let (world, cache, balanced) = balanced(&names, count).await;
        assert_eq!((world.live(), world.most_dialing(), world.all_dials()), (count, 16, count));
        let picked: HashSet<_> = (0..count).map(|_| balanced.pick().unwrap().endpoint().to_owned()).collect();
        assert!(picked.len() > count / 2, "{} of {count}", picked.len());
        cache.delete(&endpoints[7]);
        cache.add_or_update(&endpoints[8], br#"{"weight":0}"#);
        cache.add_or_update(A, b"");
        balanced.ready(count).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let status = balanced.status();
        assert_eq!((status.ready, status.draining, world.all_dials()), (count, 0, count + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_eject_at_most_half_and_longer_each_time() {
    let (_world, _cache, balanced) = balanced(&[A, B, C], 3).await;
    let fail = |endpoint: &str, times: usize| {
        let mut left = times;
        while left > 0 {
            let pick = balanced.pick().unwrap();
            if pick.endpoint() == endpoint {
                pick.failure();
                left -= 1;
            }
        }
    };
    fail(A, 4);
    settle().await;
    assert_eq!(balanced.status().ejected, 0);
    fail(A, 1);
    settle().await;
    assert_eq!((balanced.status().ejected, balanced.status().ready), (1, 2));
    assert!((0..200).all(|_| balanced.pick().unwrap().endpoint() != A));
    fail(B, 10);
    settle().await;
    assert_eq!(balanced.status().ejected, 1, "at most half");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(balanced.status().ejected, 0);
    fail(A, 1);
    settle().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(balanced.status().ejected, 1, "two seconds, the second time");
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert_eq!((balanced.status().ejected, balanced.status().ejections), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn the_last_one_is_never_ejected_and_comes_back_when_it_is_the_last() {
    let (world, _cache, balanced) = balanced(&[A, B], 2).await;
    for _ in 0..200 {
        let pick = balanced.pick().unwrap();
        if pick.endpoint() == A {
            pick.failure();
        }
    }
    settle().await;
    assert_eq!(balanced.status().ejected, 1);
    for _ in 0..50 {
        balanced.pick().unwrap().failure();
        settle().await;
    }
    world.set(B, Server::Refuses);
    world.cut(B);
    assert_eq!(balanced.wait().await.unwrap().endpoint(), A);
}

#[tokio::test(start_paused = true)]
async fn an_ejection_survives_a_flap_of_the_record() {
    let (_world, cache, balanced) = balanced(&[A, B], 2).await;
    for _ in 0..200 {
        let pick = balanced.pick().unwrap();
        if pick.endpoint() == A {
            pick.failure();
        }
    }
    settle().await;
    cache.delete(A);
    settle().await;
    cache.add_or_update(A, b"");
    settle().await;
    assert_eq!(balanced.status().ejected, 1);
    assert!((0..100).all(|_| balanced.pick().unwrap().endpoint() == B));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_watched_is_picked_while_it_says_that_it_is_well() {
    let (world, cache) = (World::default(), cache(&[A, B]));
    world.says(A, None);
    let balanced = Balanced::new(&cache, world.clone(), options());
    balanced.ready(1).await;
    settle().await;
    let only_b = || (0..50).all(|_| balanced.pick().unwrap().endpoint() == B);
    assert!(only_b(), "it has said nothing yet");
    assert_eq!((balanced.status().ready, balanced.status().connecting, world.live()), (1, 1, 2));
    world.says(A, Some(Ok(())));
    balanced.ready(2).await;
    world.says(A, Some(Err("NOT_SERVING".into())));
    settle().await;
    assert!(only_b());
    // A flap of the record, a new weight and an ejection that ends do not make it well.
    cache.delete(A);
    settle().await;
    cache.add_or_update(A, br#"{"weight":7}"#);
    settle().await;
    assert!(only_b());
    cache.delete(B);
    settle().await;
    let (error, took) = refusal(&balanced).await;
    assert_eq!(error.to_string(), "no endpoint of orders can be reached: 10.0.0.1:80: NOT_SERVING");
    assert_eq!((took, world.dials(A)), (Duration::ZERO, 1));
    world.says(A, Some(Ok(())));
    balanced.ready(1).await;
    // Over a new connection it says so anew.
    world.says(A, None);
    world.cut(A);
    settle().await;
    assert!(balanced.pick().is_none());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(balanced.pick().is_none());
    world.says(A, Some(Ok(())));
    balanced.ready(1).await;
    assert_eq!(balanced.pick().unwrap().endpoint(), A);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_attrs_make_no_connection() {
    let (world, cache, balanced) = balanced(&[A, B], 2).await;
    for i in 0..1_000 {
        cache.add_or_update(A, format!("{{\"weight\":{}}}", i % 7).as_bytes());
        tokio::task::yield_now().await;
    }
    cache.add_or_update(A, br#"{"weight":0}"#);
    settle().await;
    assert_eq!((world.all_dials(), balanced.status().connects), (2, 2));
    assert!((0..100).all(|_| balanced.pick().unwrap().endpoint() == B));
    cache.add_or_update(B, br#"{"weight":0}"#);
    settle().await;
    let picked: HashSet<_> = (0..100).map(|_| balanced.pick().unwrap().endpoint().to_owned()).collect();
    assert_eq!(picked.len(), 2, "all are 0: all are picked");
    assert_eq!(balanced.pick().unwrap().attr(), &br#"{"weight":0}"#[..]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_endpoint_gets_no_new_request_and_ends_those_it_has() {
    let (world, cache, balanced) = balanced(&[A, B], 2).await;
    let held = loop {
        let pick = balanced.pick().unwrap();
        if pick.endpoint() == A {
            break pick;
        }
    };
    cache.delete(A);
    // At once: the manager has not run since.
    assert!((0..200).all(|_| balanced.pick().unwrap().endpoint() == B));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((world.live(), balanced.status().draining, balanced.status().in_flight), (2, 1, 1));
    drop(held);
    settle().await;
    assert_eq!((world.live(), balanced.status().draining, balanced.status().in_flight), (1, 0, 0));
    assert!(!world.was_cut_by_us(A));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlives_the_drain_is_cut() {
    let (world, cache, balanced) = balanced(&[A], 1).await;
    let held = balanced.pick().unwrap();
    cache.delete(A);
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(!world.was_cut_by_us(A));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(world.was_cut_by_us(A));
    drop(held);
    settle().await;
    assert_eq!(world.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_back_within_a_second_keeps_its_connection() {
    let (world, cache, balanced) = balanced(&[A], 1).await;
    cache.delete(A);
    settle().await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    cache.add_or_update(A, b"");
    assert_eq!(balanced.wait().await.unwrap().endpoint(), A);
    cache.delete(A);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(world.live(), 0);
    cache.add_or_update(A, b"");
    balanced.wait().await.unwrap();
    assert_eq!(world.dials(A), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_target_is_skipped_and_counted() {
    let (world, cache) = (World::default(), cache(&["garbage", "a b:80", "host:0", A]));
    let balanced = Balanced::new(&cache, world.clone(), options());
    balanced.ready(1).await;
    for _ in 0..3 {
        cache.add_or_update("garbage", b"again");
        settle().await;
    }
    let status = balanced.status();
    assert_eq!((status.discovered, status.in_subset, status.ready, status.skipped), (4, 1, 1, 3));
    cache.delete(A);
    settle().await;
    let error = balanced.wait().await.unwrap_err();
    assert_eq!(error.to_string(), "none of the 3 endpoints of orders may be used");
}

#[tokio::test(start_paused = true)]
async fn the_last_clone_ends_everything() {
    let (world, cache, balanced) = balanced(&[A, B], 2).await;
    let clone = balanced.clone();
    drop(balanced);
    settle().await;
    assert_eq!(world.live(), 2);
    drop(clone);
    settle().await;
    assert_eq!((world.live(), Arc::strong_count(&cache)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_leaves_no_request_waiting() {
    let options = Options::default().filter(|_| panic!("a fault of the user's own"));
    let balanced = Balanced::new(cache(&[A]), World::default(), options);
    let (error, _) = refusal(&balanced).await;
    assert_eq!(error.cause(), &Cause::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_goes_to_another_at_most_twice_more() {
    let (_world, _cache, balanced) = balanced(&[A, B, C], 3).await;
    let mut seen = Vec::new();
    let answer: Result<(), Unavailable> = balanced
        .call(How::default(), "request", |pick, request| {
            seen.push(pick.endpoint().to_owned());
            let error = Unavailable::clone(&not_sent());
            async move { Err(Failed { error, request: Some(request) }) }
        })
        .await;
    assert!(answer.is_err());
    let distinct: HashSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len(), balanced.status().retries), (3, 3, 2));

    let mut sends = 0;
    let answer: Result<(), Unavailable> = balanced
        .call(How::default(), "request", |_pick, _request| {
            sends += 1;
            async { Err(Failed { error: not_sent(), request: None }) }
        })
        .await;
    assert!(answer.is_err() && sends == 1, "what may have been processed is never repeated");
    assert_eq!(balanced.status().in_flight, 0);
}

fn not_sent() -> Unavailable {
    // Any error will do.
    futures_util::FutureExt::now_or_never(async {
        Balanced::new(cache(&[]), World::default(), options().wait(Duration::ZERO)).wait().await.unwrap_err()
    })
    .unwrap()
}

/// tower#856: a balancer that remembers the index of the endpoint it is about to use, over the removal
/// of another one. Nothing here remembers an index.
#[tokio::test(start_paused = true)]
async fn the_sequence_of_tower_856() {
    let (world, cache, balanced) = balanced(&[A, B], 2).await;
    let waiting = balanced.wait();
    cache.delete(A);
    world.cut(A);
    cache.delete(B);
    world.cut(B);
    cache.add_or_update(C, b"");
    assert_eq!(waiting.await.unwrap().endpoint(), C);
}

#[tokio::test(start_paused = true)]
async fn an_idle_balancer_follows_and_does_not_grow() {
    let (world, cache, balanced) = balanced(&[A], 1).await;
    for i in 0..5_000 {
        cache.add_or_update(&format!("10.1.{}.{}:80", i / 250, i % 250 + 1), b"");
        cache.delete(&format!("10.1.{}.{}:80", i / 250, i % 250 + 1));
        tokio::task::yield_now().await;
    }
    cache.add_or_update(B, b"");
    cache.delete(A);
    assert_eq!(balanced.wait().await.unwrap().endpoint(), B);
    tokio::time::sleep(Duration::from_secs(40)).await;
    let status = balanced.status();
    assert_eq!((status.discovered, status.ready, status.draining, world.live()), (1, 1, 0, 1));
}
