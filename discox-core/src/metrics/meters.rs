//! Meters: each knows what it has told a recorder, tells only the difference, and takes everything back when it goes.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
    time::Duration,
};

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tokio::time::Instant;

use super::{METRICS, MetricKind};
use crate::{
    BackendType, DiscoverState, DiscoverStatus, Error, RegisterState, RegisterStatus, Result, Snapshot,
    Update, lock::lock, record::Service,
};

/// Describes all metrics to the recorder that is installed. Each connection does so as it begins.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Gauge => describe_gauge!(metric.name, Unit::Count, metric.help),
            MetricKind::Counter => describe_counter!(metric.name, Unit::Count, metric.help),
            MetricKind::Seconds => describe_histogram!(metric.name, Unit::Seconds, metric.help),
        }
    }
}

/// A request is over.
pub(crate) fn request<T>(backend: BackendType, operation: &'static str, began: Instant, answer: &Result<T>) {
    let outcome = outcome(answer.as_ref().err());
    let operation = one_word(operation);
    let seconds = histogram!("discox_request_seconds", "backend" => backend.as_str(), "operation" => operation, "outcome" => outcome);
    seconds.record(began.elapsed());
}

/// Of one connection.
pub(crate) struct ConnectionMeter {
    backend: BackendType,
    is_up: Option<bool>,
}

impl ConnectionMeter {
    /// Of a connection that begins.
    pub(crate) fn new(backend: BackendType) -> Self {
        describe();
        Self { backend, is_up: None }
    }

    /// It is up, after an outage of this length if there was one.
    pub(crate) fn connected(&mut self, after: Option<Duration>) {
        self.connect(None);
        self.enter(Some(true));
        if let Some(after) = after {
            histogram!("discox_outage_seconds", "backend" => self.backend.as_str()).record(after);
        }
    }

    /// It could not be made. `begins` an outage, or goes on with one.
    pub(crate) fn failed(&mut self, error: &Error, begins: bool) {
        self.connect(Some(error));
        if begins {
            self.lost();
        }
    }

    /// It was lost.
    pub(crate) fn lost(&mut self) {
        self.enter(Some(false));
        counter!("discox_outages_total", "backend" => self.backend.as_str()).increment(1);
    }

    fn connect(&self, error: Option<&Error>) {
        let outcome = outcome(error);
        counter!("discox_connects_total", "backend" => self.backend.as_str(), "outcome" => outcome)
            .increment(1);
    }

    fn enter(&mut self, is_up: Option<bool>) {
        let state = |is_up| if is_up { "up" } else { "down" };
        let gauge =
            |is_up| gauge!("discox_connections", "backend" => self.backend.as_str(), "state" => state(is_up));
        if self.is_up != is_up {
            self.is_up.into_iter().for_each(|before| gauge(before).decrement(1));
            is_up.into_iter().for_each(|now| gauge(now).increment(1));
            self.is_up = is_up;
        }
    }
}

impl Drop for ConnectionMeter {
    fn drop(&mut self) {
        self.enter(None);
    }
}

/// What the metrics of one service have in common.
#[derive(Clone)]
struct Labels(BackendType, Arc<str>);

impl Labels {
    fn new(backend: BackendType, service: &Service) -> Self {
        Self(backend, service.name().into())
    }

    fn and(&self, more: &[(&'static str, &'static str)]) -> Vec<Label> {
        let Self(backend, service) = self;
        let mut labels = vec![
            Label::from_static_parts("backend", backend.as_str()),
            Label::new("service", service.clone()),
        ];
        labels.extend(more.iter().map(|(name, value)| Label::from_static_parts(name, value)));
        labels
    }

    fn count(&self, name: &'static str, more: &[(&'static str, &'static str)], by: u64) {
        if by > 0 {
            counter!(name, self.and(more)).increment(by);
        }
    }

    /// Tells how a gauge has changed.
    fn level(&self, name: &'static str, more: &[(&'static str, &'static str)], before: usize, now: usize) {
        if now > before {
            gauge!(name, self.and(more)).increment(number(now - before));
        } else if now < before {
            gauge!(name, self.and(more)).decrement(number(before - now));
        }
    }

    /// Tells in which state something is that was in another one.
    fn enter(&self, name: &'static str, before: Option<&'static str>, now: Option<&'static str>) {
        if before != now {
            before.into_iter().for_each(|before| self.level(name, &[("state", before)], 1, 0));
            now.into_iter().for_each(|now| self.level(name, &[("state", now)], 0, 1));
        }
    }
}

/// Of one discovery.
pub(crate) struct DiscoveryMeter {
    labels: Labels,
    told: Told,
}

/// What was told of a discovery.
#[derive(Clone, Copy, Default)]
struct Told {
    state: Option<&'static str>,
    endpoints: usize,
    held: usize,
    outages: u64,
    resyncs: u64,
}

impl DiscoveryMeter {
    pub(crate) fn new(backend: BackendType, service: &Service) -> Self {
        Self { labels: Labels::new(backend, service), told: Told::default() }
    }

    /// How it stands.
    pub(crate) fn report(&mut self, status: &DiscoverStatus) {
        let state = match status.state {
            DiscoverState::Connecting => Some("connecting"),
            DiscoverState::Synced => Some("synced"),
            DiscoverState::Lost => Some("lost"),
            DiscoverState::New | DiscoverState::Stopped => None,
        };
        let DiscoverStatus { endpoints, held, outages, resyncs, .. } = *status;
        self.tell(Told { state, endpoints, held, outages, resyncs });
    }

    fn tell(&mut self, now: Told) {
        let (labels, before) = (&self.labels, std::mem::replace(&mut self.told, now));
        labels.enter("discox_discoveries", before.state, now.state);
        labels.level("discox_endpoints", &[], before.endpoints, now.endpoints);
        labels.level("discox_endpoints_held", &[], before.held, now.held);
        labels.count("discox_discovery_outages_total", &[], now.outages.saturating_sub(before.outages));
        labels.count("discox_discovery_resyncs_total", &[], now.resyncs.saturating_sub(before.resyncs));
    }

    /// These updates were told, which lead on from `before`.
    pub(crate) fn changed(&self, before: &Snapshot, updates: &[Update]) {
        let (mut added, mut changed, mut removed) = (0, 0, 0);
        for update in updates {
            match update {
                Update::Delete(_) => removed += 1,
                Update::Put(endpoint, _) if before.attr(endpoint).is_some() => changed += 1,
                Update::Put(..) => added += 1,
            }
        }
        for (change, number) in [("added", added), ("changed", changed), ("removed", removed)] {
            self.labels.count("discox_endpoint_changes_total", &[("change", change)], number);
        }
    }
}

impl Drop for DiscoveryMeter {
    fn drop(&mut self) {
        let Told { outages, resyncs, .. } = self.told;
        self.tell(Told { outages, resyncs, ..Told::default() });
    }
}

/// Of one registration.
pub(crate) struct RegistrationMeter {
    labels: Labels,
    told: Mutex<(Option<&'static str>, u64, u64)>,
}

impl RegistrationMeter {
    pub(crate) fn new(backend: BackendType, service: &Service) -> Self {
        Self { labels: Labels::new(backend, service), told: Mutex::default() }
    }

    /// How it stands. A start begins its counts anew.
    pub(crate) fn report(&self, status: &RegisterStatus) {
        let state = match status.state {
            RegisterState::Registered => Some("registered"),
            RegisterState::Retrying => Some("retrying"),
            RegisterState::Superseded => Some("superseded"),
            RegisterState::New | RegisterState::Stopped => None,
        };
        self.tell(state, status.outages, status.registered_again);
    }

    fn tell(&self, state: Option<&'static str>, losses: u64, repairs: u64) {
        let (labels, now) = (&self.labels, (state, losses, repairs));
        let before = std::mem::replace(&mut *lock(&self.told), now);
        labels.enter("discox_registrations", before.0, state);
        labels.count("discox_registration_losses_total", &[], losses.saturating_sub(before.1));
        labels.count("discox_registration_repairs_total", &[], repairs.saturating_sub(before.2));
        let is_superseded = state == Some("superseded") && before.0 != state;
        labels.count("discox_registration_superseded_total", &[], is_superseded.into());
    }
}

impl Drop for RegistrationMeter {
    fn drop(&mut self) {
        let (_, losses, repairs) = *lock(&self.told);
        self.tell(None, losses, repairs);
    }
}

fn outcome(error: Option<&Error>) -> Cow<'static, str> {
    error.map_or(Cow::Borrowed("ok"), |error| one_word(error.kind().as_str()))
}

/// As a label is written.
fn one_word(text: &'static str) -> Cow<'static, str> {
    if text.contains(' ') { text.replace(' ', "_").into() } else { text.into() }
}

/// Gauges are floating: exact for as many endpoints as fit into a memory.
#[allow(clippy::cast_precision_loss)]
fn number(of: usize) -> f64 {
    of as f64
}
