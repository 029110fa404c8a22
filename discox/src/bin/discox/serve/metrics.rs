//! `GET /metrics`: what the discoveries are doing and what the server counts, in Prometheus' text format.

use std::{fmt::Write, sync::Arc, sync::atomic::Ordering::Relaxed};

use axum::{extract::State, http::HeaderValue, response::Response};
use discox::{DiscoverState, DiscoverStatus};

use super::{Shared, reply, view::age};

const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// A metric of each service.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&DiscoverStatus) -> Option<f64>,
}

const OF_A_SERVICE: [Metric; 7] = [
    Metric {
        name: "discox_discovery_endpoints",
        kind: "gauge",
        help: "Endpoints that are shown.",
        value: |status| Some(status.endpoints as f64),
    },
    Metric {
        name: "discox_discovery_held",
        kind: "gauge",
        help: "Endpoints that are missing in the registry and held by the grace after an outage.",
        value: |status| Some(status.held as f64),
    },
    Metric {
        name: "discox_discovery_synced",
        kind: "gauge",
        help: "1 when the list is what the registry holds, 0 when the registry is lost or was never reached.",
        value: |status| Some(f64::from(status.state == DiscoverState::Synced)),
    },
    Metric {
        name: "discox_discovery_confirmed_age_seconds",
        kind: "gauge",
        help: "How long ago the registry has last confirmed the list.",
        value: |status| Some(age(status.last_confirmed?).as_secs_f64()),
    },
    Metric {
        name: "discox_discovery_failed_attempts",
        kind: "gauge",
        help: "Failed attempts to connect or to read since the list was last in sync.",
        value: |status| Some(f64::from(status.attempts)),
    },
    Metric {
        name: "discox_discovery_outages_total",
        kind: "counter",
        help: "Times that the registry was lost.",
        value: |status| Some(status.outages as f64),
    },
    Metric {
        name: "discox_discovery_resyncs_total",
        kind: "counter",
        help: "Times that a watch lost its position and the list was read again.",
        value: |status| Some(status.resyncs as f64),
    },
];

pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    reply::with_type(FORMAT, text(&shared))
}

fn text(shared: &Shared) -> String {
    let mut text = String::new();
    let services: Vec<_> =
        shared.watched.all().into_iter().map(|(name, feed)| (escaped(&name), feed.status())).collect();
    for Metric { name, kind, help, value } in OF_A_SERVICE {
        head(&mut text, name, kind, help);
        for (service, status) in &services {
            if let Some(value) = value(status) {
                let _ = writeln!(text, "{name}{{service=\"{service}\"}} {value}");
            }
        }
    }
    let mut plain = |name, kind, help, value: f64| {
        head(&mut text, name, kind, help);
        let _ = writeln!(text, "{name} {value}");
    };
    let (names, counts) = (shared.watched.names().status(), &shared.counts);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed) as f64;
    plain("discox_services", "gauge", "Services in the registry.", names.endpoints as f64);
    let synced = f64::from(names.state == DiscoverState::Synced);
    plain("discox_services_synced", "gauge", "1 when the names are what the registry holds.", synced);
    plain("discox_serve_connections", "gauge", "Connections.", count(&counts.connections));
    plain("discox_serve_streams", "gauge", "Readers of server-sent events.", count(&counts.streams));
    plain("discox_serve_requests_total", "counter", "Requests.", count(&counts.requests));
    let slow = count(&counts.slow_readers);
    plain(
        "discox_serve_slow_readers_total",
        "counter",
        "Readers that were dropped because they took nothing.",
        slow,
    );
    let name = "discox_serve_refused_total";
    head(&mut text, name, "counter", "Connections and requests that were refused.");
    for (reason, counter) in [
        ("connections", &counts.refused_connections),
        ("host", &counts.refused_hosts),
        ("token", &counts.refused_tokens),
    ] {
        let _ = writeln!(text, "{name}{{reason=\"{reason}\"}} {}", count(counter));
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
