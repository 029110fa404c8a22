//! Metrics in virtual time: each is moved by the fault that it is there for, and taken back at the end.

#![allow(clippy::panic, clippy::unwrap_used)]

mod fixtures;
mod recorder;
mod sim;

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    sync::{Arc, Mutex},
};

use discox_core::{
    EndpointCacher, LiteEndpoint, RegisterState, Registry as _,
    metrics::{METRICS, MetricKind},
};
use fixtures::{KEY, SECOND, connection, discover_config, register_config, run, until};
use metrics_util::{
    MetricKind as Seen,
    debugging::{DebugValue, DebuggingRecorder, Snapshotter},
};
use sim::{Net, World};
use tokio::time::sleep;

const HANDS: [&str; 2] = ["/sim/demo/10.0.0.2:1", "/sim/demo/10.0.0.3:1"];

/// Reads what was recorded. A snapshot takes everything out of the recorder, so that sums are kept here.
#[derive(Clone)]
struct Meters(Snapshotter, Arc<Mutex<HashMap<metrics::Key, f64>>>);

/// A metric with these labels, among others.
type Which<'a> = (&'a str, &'a [(&'a str, &'a str)]);

impl Meters {
    /// The sum of all series that fit: the value of gauges and counters, the number of recorded times.
    fn read(&self, (name, labels): Which<'_>) -> f64 {
        let fits = |key: &metrics::Key| {
            let has = |(label, value): &(&str, &str)| {
                key.labels().any(|l| l.key() == *label && l.value() == *value)
            };
            key.name() == name && labels.iter().all(has)
        };
        let mut sums = self.1.lock().unwrap();
        for (key, _, _, value) in self.0.snapshot().into_vec() {
            *sums.entry(key.key().clone()).or_default() += match value {
                DebugValue::Counter(count) => f64::from(u32::try_from(count).unwrap()),
                DebugValue::Gauge(change) => change.into_inner(),
                DebugValue::Histogram(times) => f64::from(u32::try_from(times.len()).unwrap()),
            };
        }
        sums.iter().filter(|(key, _)| fits(key)).map(|(_, sum)| sum).sum()
    }

    async fn reach(&self, which: Which<'_>, wanted: f64) {
        until(&format!("{which:?} = {wanted}"), || (self.read(which) - wanted).abs() < 0.5).await;
    }

    /// Waits until a counter is above zero, or a time was recorded.
    async fn moved(&self, which: Which<'_>) {
        until(&format!("{which:?}"), || self.read(which) > 0.5).await;
    }
}

/// Runs in virtual time, with a recorder of its own.
fn recorded<F: Future<Output = ()>>(test: impl FnOnce(Meters) -> F) -> Meters {
    let recorder = DebuggingRecorder::new();
    let meters = Meters(recorder.snapshotter(), Arc::default());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(test(meters.clone())));
    meters
}

#[test]
fn an_outage_moves_what_is_said_of_connections_requests_and_discoveries() {
    recorded(|meters| async move {
        let world = World::start();
        let cache = Arc::new(LiteEndpoint::new());
        let shared = connection(&world);
        let discover = shared.discover(discover_config()).unwrap();
        let running = run(&discover, cache.clone() as Arc<dyn EndpointCacher>);
        HANDS.iter().for_each(|key| world.put_by_hand(key, "1"));
        let (up, down) = (
            ("discox_connections", &[("state", "up")][..]),
            ("discox_connections", &[("state", "down")][..]),
        );
        let of_demo: &[_] = &[("backend", "memory"), ("service", "demo")];
        meters.reach(up, 1.0).await;
        meters.reach(("discox_endpoints", of_demo), 2.0).await;
        meters.reach(("discox_discoveries", &[("state", "synced")]), 1.0).await;
        meters.moved(("discox_connects_total", &[("outcome", "ok")])).await;
        meters.moved(("discox_request_seconds", &[("operation", "discover"), ("outcome", "ok")])).await;

        world.net(Net::Dead);
        meters.reach(down, 1.0).await;
        meters.reach(up, 0.0).await;
        meters.reach(("discox_discoveries", &[("state", "lost")]), 1.0).await;
        meters.reach(("discox_discovery_outages_total", of_demo), 1.0).await;
        meters.reach(("discox_outages_total", &[]), 1.0).await;
        meters.moved(("discox_connects_total", &[("outcome", "unavailable")])).await;
        assert!(meters.read(("discox_outage_seconds", &[])) < 0.5);

        world.wipe();
        world.net(Net::Fine);
        meters.moved(("discox_outage_seconds", &[])).await;
        meters.reach(("discox_endpoints_held", of_demo), 2.0).await;
        meters.reach(("discox_endpoint_changes_total", &[("change", "removed")]), 2.0).await;
        meters.reach(("discox_endpoints_held", of_demo), 0.0).await;
        world.compact();
        meters.moved(("discox_discovery_resyncs_total", of_demo)).await;
        discover.stop().await;
        running.await.unwrap().unwrap();
        shared.close().await;
        for gauge in METRICS.iter().filter(|metric| metric.kind == MetricKind::Gauge) {
            meters.reach((gauge.name, &[]), 0.0).await;
        }
    });
}

#[test]
fn losses_and_a_take_over_move_what_is_said_of_registrations() {
    recorded(|meters| async move {
        let world = World::start();
        let shared = connection(&world);
        let register = shared.register(register_config("1")).unwrap();
        register.start().await.unwrap();
        let registered = ("discox_registrations", &[("service", "demo"), ("state", "registered")][..]);
        meters.reach(registered, 1.0).await;
        world.delete_by_hand(KEY);
        meters.reach(("discox_registration_losses_total", &[("service", "demo")]), 1.0).await;
        meters.reach(("discox_registration_repairs_total", &[("service", "demo")]), 1.0).await;
        world.net(Net::Hung);
        meters.reach(("discox_registrations", &[("state", "retrying")]), 1.0).await;
        meters.moved(("discox_request_seconds", &[("outcome", "timed_out")])).await;
        world.net(Net::Fine);
        meters.reach(registered, 1.0).await;
        meters.moved(("discox_request_seconds", &[("operation", "heart_beat"), ("outcome", "ok")])).await;

        let other = connection(&world);
        let rival = other.register(register_config("2")).unwrap();
        rival.start().await.unwrap();
        meters.reach(("discox_registrations", &[("state", "superseded")]), 1.0).await;
        meters.reach(("discox_registration_superseded_total", &[("service", "demo")]), 1.0).await;
        rival.stop().await.unwrap();
        register.wait_for(RegisterState::Registered).await.unwrap();
        meters.moved(("discox_request_seconds", &[("operation", "withdraw")])).await;
        register.stop().await.unwrap();
        shared.close().await;
        other.close().await;
        meters.reach(("discox_registrations", &[]), 0.0).await;
        meters.reach(("discox_connections", &[]), 0.0).await;
    });
}

/// What a recorder hears is what the table says, and no more.
#[test]
fn all_metrics_are_in_the_table_described_with_their_units_and_labels() {
    let meters = recorded(|_| async {
        let world = World::start();
        let cache = Arc::new(LiteEndpoint::new());
        let shared = connection(&world);
        let discover = shared.discover(discover_config()).unwrap();
        run(&discover, cache.clone() as Arc<dyn EndpointCacher>);
        let register = shared.register(register_config("1")).unwrap();
        register.start().await.unwrap();
        world.put_by_hand(HANDS[0], "1");
        world.compact();
        world.delete_by_hand(KEY);
        sleep(5 * SECOND).await;
        world.net(Net::Dead);
        sleep(5 * SECOND).await;
        world.wipe();
        world.net(Net::Fine);
        sleep(5 * SECOND).await;
        let other = connection(&world);
        let rival = other.register(register_config("2")).unwrap();
        rival.start().await.unwrap();
        register.wait_for(RegisterState::Superseded).await.unwrap();
        rival.stop().await.unwrap();
        register.stop().await.unwrap();
        discover.stop().await;
    });
    let mut heard = BTreeSet::new();
    for (key, unit, description, _) in meters.0.snapshot().into_vec() {
        let (kind, key) = (key.kind(), key.key());
        let metric = METRICS.iter().find(|metric| metric.name == key.name());
        let metric = metric.unwrap_or_else(|| panic!("{key:?} is not in the table"));
        let labels: Vec<_> = key.labels().map(metrics::Label::key).collect();
        assert_eq!(labels, metric.labels, "{}", metric.name);
        let (expected, expected_unit) = match metric.kind {
            MetricKind::Gauge => (Seen::Gauge, metrics::Unit::Count),
            MetricKind::Counter => (Seen::Counter, metrics::Unit::Count),
            MetricKind::Seconds => (Seen::Histogram, metrics::Unit::Seconds),
            other => panic!("{other:?}"),
        };
        assert_eq!((kind, unit, description.as_deref()), (expected, Some(expected_unit), Some(metric.help)));
        heard.insert(metric.name);
    }
    let all: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(heard, all);
}

/// What the dashboard and the alerts ask for is counted, with the labels that they look at.
#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_exist() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics/");
    let dashboard = std::fs::read_to_string(format!("{docs}dashboard.json")).unwrap();
    let alerts = std::fs::read_to_string(format!("{docs}alerts.yml")).unwrap();
    let table = std::fs::read_to_string(format!("{docs}README.md")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let targets =
        json["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    assert!(targets.clone().count() >= 12 && targets.clone().all(|target| target["expr"].is_string()));
    let mut named = BTreeSet::new();
    for text in [&dashboard, &alerts] {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("discox_")) {
            let word = word.strip_suffix("_sum").or(word.strip_suffix("_count")).unwrap_or(word);
            assert!(METRICS.iter().any(|metric| metric.name == word), "there is no metric {word}");
            named.insert(word.to_owned());
        }
    }
    for metric in METRICS {
        assert!(named.contains(metric.name), "nothing shows {}", metric.name);
        let row = format!("| `{}` |", metric.name);
        let row = table.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("no {row}"));
        assert!(row.contains(&metric.labels.join(", ")), "{row}");
    }
}
