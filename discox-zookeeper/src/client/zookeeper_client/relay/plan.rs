//! Where a relay is needed, and how it is made.

use std::{sync::Arc, time::Duration};

use discox_core::{ConnectionConfig, Result, TlsConfig};

use super::Pass;

/// What an answer has besides names and data, for each record.
const AROUND: usize = 128;

/// How relays are made.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) tls: Option<(TlsConfig, Pass)>,
    pub(super) connect_timeout: Duration,
    /// The longest answer, in bytes.
    pub(super) longest: usize,
}

impl Plan {
    /// None where the crate is to speak to the servers itself: in plain text, and without a guard.
    pub(crate) fn of(settings: &ConnectionConfig) -> Result<Option<Arc<Self>>> {
        let tls = match &settings.tls {
            Some(tls) => Some((tls.clone(), Pass::new()?)),
            None if settings.zookeeper.guard => None,
            None => return Ok(None),
        };
        let around = settings.max_endpoints.saturating_mul(AROUND);
        let longest = settings.max_service_bytes.saturating_add(around);
        Ok(Some(Arc::new(Self { tls, connect_timeout: settings.connect_timeout, longest })))
    }

    /// What the crate has to trust and to show, in place of what the servers want.
    pub(crate) fn pass(&self) -> Option<&Pass> {
        self.tls.as_ref().map(|(_, pass)| pass)
    }
}
