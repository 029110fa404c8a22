//! Leaving a service without a failed request.

use std::{sync::Arc, time::Duration};

use discox_core::{Error, LiteEndpoint, Register};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::Traffic;

/// How to leave. Every setting has a default.
///
/// ```
/// use std::time::Duration;
/// use discox_http::Leaving;
///
/// let leaving = Leaving::default().quiet(Duration::from_secs(3)).limit(Duration::from_secs(20));
/// assert!(format!("{leaving:?}").contains("3s"));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Leaving {
    announce: Option<String>,
    seen_by: Option<(Arc<LiteEndpoint>, String)>,
    settle: Duration,
    quiet: Duration,
    limit: Duration,
}

impl Default for Leaving {
    fn default() -> Self {
        Self {
            announce: Some(r#"{"weight":0}"#.to_owned()),
            seen_by: None,
            settle: Duration::from_millis(500),
            quiet: Duration::from_secs(1),
            limit: Duration::from_secs(30),
        }
    }
}

impl Leaving {
    /// The attr by which clients are told to send no more: `{"weight":0}` by default. `None` tells them nothing
    /// before the record is gone.
    pub fn announce(mut self, attr: Option<String>) -> Self {
        self.announce = attr;
        self
    }

    /// A cache of the service that is left, and our endpoint in it: the announcement is waited for there, rather than
    /// taken for seen when it is written.
    pub fn seen_by(mut self, endpoints: Arc<LiteEndpoint>, endpoint: &str) -> Self {
        self.seen_by = Some((endpoints, endpoint.to_owned()));
        self
    }

    /// How long other clients may take to hear what was announced, and then that the record is gone: 500 ms each by
    /// default.
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// For how long no request must have come: 1 s by default.
    pub fn quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// How long all of it may take: 30 s by default. A record is withdrawn within it whatever happens.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// What was seen while leaving.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Left {
    /// Why the record could not be registered or withdrawn, if so. It is gone with its TTL.
    pub error: Option<Error>,
    /// Requests that came after the record was gone.
    pub late: u64,
    /// Requests that were still under way at the end: 0 unless the limit was reached.
    pub in_flight: u64,
    /// Nothing came any more at the end.
    pub is_quiet: bool,
    /// How long it took.
    pub took: Duration,
}

/// Takes an instance out of service: announces that it leaves, waits until that was heard, withdraws the record, and
/// waits until no request comes any more and none is under way. After it, the server may shut down.
///
/// It ends by [`Leaving::limit`] at the latest, also while the registry is away. When it is dropped, the handle
/// withdraws the record as it does by itself.
///
/// ```
/// # use discox_core::Register;
/// # async fn example(register: &dyn Register, traffic: &discox_http::Traffic) {
/// use discox_http::{Leaving, leave};
///
/// let left = leave(register, traffic, Leaving::default()).await;
/// println!("{} requests came late", left.late);
/// # }
/// ```
pub async fn leave(register: &dyn Register, traffic: &Traffic, leaving: Leaving) -> Left {
    let began = Instant::now();
    let end = began + leaving.limit;
    announced(register, &leaving).await;
    let stopped = match timeout_at(end, register.stop()).await {
        Ok(stopped) => stopped,
        // Once it was polled, it happens.
        Err(_) => Err(Error::timed_out("stop", leaving.limit)),
    };
    drained(stopped, traffic, &leaving, began).await
}

/// The record is gone, or not: waits until nothing comes any more.
pub(crate) async fn drained(
    stopped: Result<(), Error>,
    traffic: &Traffic,
    leaving: &Leaving,
    began: Instant,
) -> Left {
    if let Err(error) = &stopped {
        tracing::warn!(%error, "leaving, though the record may be there until its TTL has passed");
    }
    let before = traffic.requests();
    let settled = async {
        sleep(leaving.settle).await;
        traffic.quiet(leaving.quiet).await;
    };
    let is_quiet = timeout_at(began + leaving.limit, settled).await.is_ok();
    let (late, in_flight) = (traffic.requests() - before, traffic.in_flight());
    let left = Left { error: stopped.err(), late, in_flight, is_quiet, took: began.elapsed() };
    tracing::info!(late, in_flight, took = ?left.took, "left");
    left
}

/// Says that we leave, and waits until that was heard, for a third of the limit at most.
pub(crate) async fn announced(register: &dyn Register, leaving: &Leaving) {
    if let Some(attr) = &leaving.announce {
        let _ = timeout(leaving.limit / 3, announce(register, attr, leaving)).await;
    }
}

async fn announce(register: &dyn Register, attr: &str, leaving: &Leaving) {
    if let Err(error) = register.update_attr(attr).await {
        tracing::debug!(%error, "the leave is not announced");
        return;
    }
    if let Some((endpoints, endpoint)) = &leaving.seen_by {
        let mut changes = endpoints.changes();
        changes.wait_for(|list| list.attr(endpoint).is_none_or(|seen| &seen[..] == attr.as_bytes())).await;
    }
    sleep(leaving.settle).await;
}
