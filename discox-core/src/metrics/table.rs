//! Which metrics there are.

/// A metric, as it is described to a recorder.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, such as `discox_connections`.
    pub name: &'static str,
    /// How it is to be read.
    pub kind: MetricKind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// How a metric is to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MetricKind {
    /// How many there are now.
    Gauge,
    /// How many there have been.
    Counter,
    /// How long something took, in seconds.
    Seconds,
}

/// The metrics of connections, registrations, discoveries and requests.
pub const METRICS: &[Metric] = &[
    gauge("discox_connections", &["backend", "state"], "Connections to registries, by state: up, down"),
    counter(
        "discox_connects_total",
        &["backend", "outcome"],
        "Attempts to connect, by outcome: ok, or the kind of the error",
    ),
    counter(
        "discox_outages_total",
        &["backend"],
        "Connections that were lost, or could not be made at first",
    ),
    seconds("discox_outage_seconds", &["backend"], "How long connections were lost, told when they are back"),
    seconds(
        "discox_request_seconds",
        &["backend", "operation", "outcome"],
        "Requests to registries, by operation and outcome: ok, or the kind of the error",
    ),
    gauge(
        "discox_registrations",
        &["backend", "service", "state"],
        "Registrations, by state: registered, retrying, superseded",
    ),
    counter(
        "discox_registration_losses_total",
        &["backend", "service"],
        "Records that were lost, or whose connection was",
    ),
    counter(
        "discox_registration_repairs_total",
        &["backend", "service"],
        "Records that were registered again after a loss",
    ),
    counter(
        "discox_registration_superseded_total",
        &["backend", "service"],
        "Records that another incarnation has taken over",
    ),
    gauge(
        "discox_discoveries",
        &["backend", "service", "state"],
        "Discoveries, by state: connecting, synced, lost",
    ),
    gauge("discox_endpoints", &["backend", "service"], "Endpoints in the caches"),
    gauge(
        "discox_endpoints_held",
        &["backend", "service"],
        "Endpoints in the caches that are missing from the registry and held by the grace after an outage",
    ),
    counter(
        "discox_endpoint_changes_total",
        &["backend", "service", "change"],
        "Changes of the caches, by change: added, changed, removed",
    ),
    counter(
        "discox_discovery_outages_total",
        &["backend", "service"],
        "Times that a discovery lost the registry",
    ),
    counter(
        "discox_discovery_resyncs_total",
        &["backend", "service"],
        "Times that a watch lost its position and the list was read again",
    ),
];

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, labels, help }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, labels, help }
}

const fn seconds(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Seconds, labels, help }
}
