//! Meters that count nothing, without the feature `metrics`. They take no space and no time.

use std::time::Duration;

use crate::{BackendType, DiscoverStatus, Error, RegisterStatus, Snapshot, Update, record::Service};

/// See `meters.rs`, as all here.
pub(crate) struct ConnectionMeter;

pub(crate) struct DiscoveryMeter;

pub(crate) struct RegistrationMeter;

impl ConnectionMeter {
    pub(crate) fn new(_: BackendType) -> Self {
        Self
    }

    pub(crate) fn connected(&mut self, _: Option<Duration>) {}

    pub(crate) fn failed(&mut self, _: &Error, _: bool) {}

    pub(crate) fn lost(&mut self) {}
}

impl DiscoveryMeter {
    pub(crate) fn new(_: BackendType, _: &Service) -> Self {
        Self
    }

    pub(crate) fn report(&mut self, _: &DiscoverStatus) {}

    pub(crate) fn changed(&self, _: &Snapshot, _: &[Update]) {}
}

impl RegistrationMeter {
    pub(crate) fn new(_: BackendType, _: &Service) -> Self {
        Self
    }

    pub(crate) fn report(&self, _: &RegisterStatus) {}
}

/// A request is over.
pub(crate) fn request<T>(_: BackendType, _: &'static str, _: tokio::time::Instant, _: &crate::Result<T>) {}
