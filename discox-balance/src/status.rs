//! What a balancer says of itself.

/// Endpoints by what they are, as the manager counts them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Census {
    pub(crate) discovered: usize,
    pub(crate) in_subset: usize,
    pub(crate) connecting: usize,
    pub(crate) ready: usize,
    pub(crate) ejected: usize,
    pub(crate) draining: usize,
}

/// A balancer's state, and what it has done since it began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Endpoints in the cache.
    pub discovered: usize,
    /// Of these, those that this process uses: valid, not filtered, in the subset.
    pub in_subset: usize,
    /// Of these, those without a connection: being made, or waiting for the next attempt.
    pub connecting: usize,
    /// Of these, those that are picked.
    pub ready: usize,
    /// Of these, those that have failed too often of late and are not picked for a while.
    pub ejected: usize,
    /// Removed endpoints whose connections still are there.
    pub draining: usize,
    /// Requests in flight, those on draining connections included.
    pub in_flight: u64,
    /// Picks so far.
    pub picks: u64,
    /// Requests that were sent once more.
    pub retries: u64,
    /// Connections made.
    pub connects: u64,
    /// Attempts to connect that failed.
    pub failed_connects: u64,
    /// How often an endpoint was ejected.
    pub ejections: u64,
    /// Requests that had to wait for an endpoint.
    pub waits: u64,
    /// Requests that got none.
    pub no_endpoint: u64,
    /// Records that are no valid target.
    pub skipped: u64,
}
