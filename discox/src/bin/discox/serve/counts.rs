//! What the server counts of itself.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::Shared;

/// Counters and gauges, see `metrics.rs` for their names.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connections: AtomicU64,
    pub(super) streams: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) refused_connections: AtomicU64,
    pub(super) refused_hosts: AtomicU64,
    pub(super) refused_tokens: AtomicU64,
    pub(super) slow_readers: AtomicU64,
}

/// One more, for ever.
pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// One more, as long as it lives.
pub(super) struct Present {
    shared: Arc<Shared>,
    gauge: fn(&Counts) -> &AtomicU64,
}

impl Present {
    pub(super) fn new(shared: &Arc<Shared>, gauge: fn(&Counts) -> &AtomicU64) -> Self {
        add(gauge(&shared.counts));
        Self { shared: shared.clone(), gauge }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        (self.gauge)(&self.shared.counts).fetch_sub(1, Relaxed);
    }
}
