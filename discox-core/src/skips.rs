//! Records that cannot be read are skipped, each with one warning.

use std::collections::HashSet;

use tracing::warn;

use crate::{BackendType, key::Service};

/// How many unreadable records are remembered, so that a hostile registry cannot fill the memory.
const REMEMBERED: usize = 1_000;

/// Remembers which unreadable records of a service have been told.
#[derive(Debug)]
pub struct Skips {
    backend: BackendType,
    service: Service,
    told: HashSet<String>,
}

impl Skips {
    /// None told yet.
    pub fn new(backend: BackendType, service: Service) -> Self {
        Self { backend, service, told: HashSet::new() }
    }

    /// Warns that the record named `name` is skipped, the first time.
    pub fn skip(&mut self, name: &str, reason: &str) {
        if self.told.len() < REMEMBERED && self.told.insert(name.to_owned()) {
            warn!(backend = %self.backend, service = %self.service, record = %name.escape_debug(), "record skipped: {reason}");
        }
    }
}
