//! What the policies pick.

#![allow(clippy::panic, clippy::unwrap_used)]

mod world;

use std::collections::HashMap;

use bytes::Bytes;
use discox_balance::{Options, Picker, Policy, hash_key};
use discox_core::{EndpointCacher, Event, LiteEndpoint, Update};
use std::sync::Arc;
use world::settle;

/// A picker over endpoints `a:1`, `a:2`, ... with these attrs.
async fn picker(attrs: &[&str], options: Options) -> (Arc<LiteEndpoint>, Picker) {
    // Chance is the same each time: a bound of 1 in 10,000 is met by one run of 10,000 otherwise.
    fastrand::seed(7);
    let cache = Arc::new(LiteEndpoint::new());
    let puts: Vec<_> = attrs
        .iter()
        .enumerate()
        .map(|(i, attr)| Update::Put(format!("a:{}", i + 1).into(), Bytes::copy_from_slice(attr.as_bytes())))
        .collect();
    cache.apply(&puts);
    cache.on_event(&Event::Synced);
    let picker = Picker::new(&cache, options);
    picker.ready(attrs.len()).await;
    (cache, picker)
}

fn histogram(picker: &Picker, picks: usize) -> HashMap<String, usize> {
    let mut hits = HashMap::new();
    for _ in 0..picks {
        *hits.entry(picker.pick().unwrap().endpoint().to_owned()).or_default() += 1;
    }
    hits
}

/// Chi-squared of what was picked against the shares that were meant.
fn chi_squared(hits: &HashMap<String, usize>, shares: &[f64]) -> f64 {
    let (picks, all): (usize, f64) = (hits.values().sum(), shares.iter().sum());
    let deviation = |(i, share): (usize, &f64)| {
        let meant = picks as f64 * share / all;
        (hits.get(&format!("a:{}", i + 1)).copied().unwrap_or(0) as f64 - meant).powi(2) / meant
    };
    shares.iter().enumerate().map(deviation).sum()
}

#[tokio::test(start_paused = true)]
async fn weights_show_in_the_distribution() {
    let attrs = [r#"{"weight":1}"#, r#"{"weight":2}"#, r#"{"weight":3}"#, r#"{"weight":0.5}"#];
    for policy in [Policy::Random, Policy::RoundRobin, Policy::LeastRequest, Policy::Hash] {
        let (_cache, picker) = picker(&attrs, Options::default().policy(policy)).await;
        let chi_squared = chi_squared(&histogram(&picker, 26_000), &[1.0, 2.0, 3.0, 0.5]);
        // Three degrees of freedom: 1 in 10,000 is beyond 21.
        assert!(chi_squared < 21.1, "{policy:?}: {chi_squared}");
    }
}

#[tokio::test(start_paused = true)]
async fn round_robin_is_even_and_in_turn() {
    let (_cache, even) = picker(&["", "", ""], Options::default().policy(Policy::RoundRobin)).await;
    assert!(histogram(&even, 300).values().all(|hits| *hits == 100));
    let attrs = [r#"{"weight":1}"#, r#"{"weight":3}"#];
    let (_cache, weighted) = picker(&attrs, Options::default().policy(Policy::RoundRobin)).await;
    let hits = histogram(&weighted, 400);
    assert!((95..=105).contains(&hits["a:1"]), "{hits:?}");
}

#[tokio::test(start_paused = true)]
async fn one_of_much_weight_among_many_does_not_starve_them() {
    let mut attrs = vec![r#"{"weight":1}"#; 1_000];
    attrs[500] = r#"{"weight":1000}"#;
    let (_cache, picker) = picker(&attrs, Options::default().policy(Policy::RoundRobin)).await;
    let hits = histogram(&picker, 20_000);
    assert!((9_000..11_000).contains(&hits["a:501"]), "{}", hits["a:501"]);
    assert!(hits.len() > 990, "{}", hits.len());
}

#[tokio::test(start_paused = true)]
async fn least_request_evens_out_what_is_in_flight_by_weight() {
    let attrs = [r#"{"weight":1}"#, r#"{"weight":3}"#];
    let (_cache, picker) = picker(&attrs, Options::default()).await;
    let held: Vec<_> = (0..400).map(|_| picker.pick().unwrap()).collect();
    let light = held.iter().filter(|pick| pick.endpoint() == "a:1").count();
    assert!((95..=105).contains(&light), "{light}");
    assert_eq!(picker.status().in_flight, 400);
    drop(held);
    assert_eq!((picker.status().in_flight, picker.status().picks), (0, 400));
}

#[tokio::test(start_paused = true)]
async fn a_key_moves_only_with_its_endpoint() {
    let attrs = [""; 10];
    let (cache, picker) = picker(&attrs, Options::default().policy(Policy::Hash)).await;
    let place = |picker: &Picker| -> Vec<String> {
        let of = |key: u64| picker.pick_by(hash_key(&key.to_le_bytes())).unwrap().endpoint().to_owned();
        (0..5_000).map(of).collect()
    };
    let before = place(&picker);
    cache.delete("a:3");
    let without = place(&picker);
    for (before, without) in before.iter().zip(&without) {
        assert!(before == without || before == "a:3");
    }
    cache.add_or_update("a:3", b"");
    settle().await;
    assert_eq!(place(&picker), before);
    cache.add_or_update("a:11", b"");
    settle().await;
    let moved = place(&picker).iter().zip(&before).filter(|(now, before)| now != before).count();
    // An eleventh of 5,000 keys
    assert!((350..560).contains(&moved), "{moved}");
}

#[tokio::test(start_paused = true)]
async fn filters_and_weights_of_the_users_own() {
    let options = Options::default()
        .filter(|entry| !entry.attr().is_empty())
        .weight(|entry| if entry.attr() == "heavy" { 9.0 } else { 1.0 });
    fastrand::seed(7);
    let cache = world::cache(&["a:3"]);
    cache.add_or_update("a:1", b"heavy");
    cache.add_or_update("a:2", b"light");
    let picker = Picker::new(&cache, options);
    picker.ready(2).await;
    let chi_squared = chi_squared(&histogram(&picker, 10_000), &[9.0, 1.0]);
    assert!(chi_squared < 15.2, "{chi_squared}");
    cache.add_or_update("a:2", b"");
    settle().await;
    assert_eq!(histogram(&picker, 100).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn our_own_zone_comes_first_and_spills_what_it_lacks() {
    let (own, other) = (r#"{"zone":"a"}"#, r#"{"zone":"b"}"#);
    let attrs = [own, own, own, own, other, other];
    let (cache, picker) = picker(&attrs, Options::default().zone("a").eject_after(1)).await;
    let share = || {
        let hits = histogram(&picker, 10_000);
        (1..=4).map(|i| hits.get(&format!("a:{i}")).copied().unwrap_or(0)).sum::<usize>()
    };
    assert_eq!(share(), 10_000);
    // Two of four fail: 1.4 x 2 / 4 of the picks stay.
    for endpoint in ["a:1", "a:2"] {
        while picker.status().ejected < usize::from(endpoint == "a:2") + 1 {
            let pick = picker.pick().unwrap();
            if pick.endpoint() == endpoint {
                pick.failure();
            }
            drop(pick);
            tokio::task::yield_now().await;
        }
    }
    let near = share();
    assert!((6_700..7_300).contains(&near), "{near}");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(share(), 10_000);
    for i in 1..=4 {
        cache.add_or_update(&format!("a:{i}"), other.as_bytes());
    }
    settle().await;
    assert_eq!(histogram(&picker, 10_000).len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_full_zone_spills() {
    let attrs = [r#"{"zone":"a"}"#, r#"{"zone":"b"}"#];
    let (_cache, picker) = picker(&attrs, Options::default().zone("a").zone_full(10)).await;
    let held: Vec<_> = (0..16).map(|_| picker.pick().unwrap()).collect();
    let near = held.iter().filter(|pick| pick.endpoint() == "a:1").count();
    assert_eq!(near, 10, "then those of the other zone, while it is less loaded");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_endpoints_are_picked_evenly() {
    let attrs = vec![""; 10_000];
    let (_cache, picker) = picker(&attrs, Options::default().policy(Policy::RoundRobin)).await;
    assert!(histogram(&picker, 20_000).values().all(|hits| *hits == 2));
    assert_eq!(picker.status().ready, 10_000);
}
