//! What a discovery shows at one moment, numbered, and written once for all who read it.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use discox::{Discover, DiscoverStatus, FreshnessState, LiteEndpoint, Snapshot};

use super::json;

/// What is shown of a service, or of the names of services.
pub(super) struct View {
    pub(super) subject: Subject,
    /// Names this view. A later one has a higher index, also after a restart: it begins with the time.
    pub(super) index: u64,
    /// The index of the view before.
    pub(super) follows: u64,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) before: Arc<Snapshot>,
    pub(super) state: FreshnessState,
    pub(super) since: SystemTime,
    /// How many endpoints are held by the grace.
    pub(super) held: usize,
    /// What is wrong, where something is.
    pub(super) error: Option<String>,
    list: OnceLock<Event>,
    change: OnceLock<Bytes>,
}

/// A server-sent event, and its data.
pub(super) struct Event {
    pub(super) all: Bytes,
    data: Bytes,
}

/// What it is a view of.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// The names of services.
    Names,
    /// The endpoints of this service.
    Service(Arc<str>),
}

impl View {
    /// The first one, of a discovery that has told nothing yet.
    pub(super) fn first(subject: Subject) -> Self {
        let now = SystemTime::now();
        let index = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            subject,
            index: u64::try_from(index).unwrap_or(0),
            follows: 0,
            snapshot: Arc::default(),
            before: Arc::default(),
            state: FreshnessState::Empty,
            since: now,
            held: 0,
            error: None,
            list: OnceLock::new(),
            change: OnceLock::new(),
        }
    }

    /// The next one; none when it would show the same.
    pub(super) fn next(&self, endpoints: &LiteEndpoint, discover: &dyn Discover) -> Option<Self> {
        let (freshness, status) = (endpoints.freshness(), discover.status());
        let (snapshot, error) = (endpoints.snapshot(), trouble(freshness.state, &status));
        let is_same = Arc::ptr_eq(&snapshot, &self.snapshot)
            && freshness.state == self.state
            && status.held == self.held
            && error == self.error;
        (!is_same).then(|| Self {
            subject: self.subject.clone(),
            index: self.index + 1,
            follows: self.index,
            snapshot,
            before: self.snapshot.clone(),
            state: freshness.state,
            since: if freshness.state == self.state {
                self.since
            } else {
                SystemTime::now() - age(freshness.since)
            },
            held: status.held,
            error,
            list: OnceLock::new(),
            change: OnceLock::new(),
        })
    }

    /// Whether there has been a list.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.state, FreshnessState::Synced | FreshnessState::Stale)
    }

    /// All of it, as JSON.
    pub(super) fn list(&self) -> Bytes {
        self.listed().data.clone()
    }

    /// All of it, as an event.
    pub(super) fn list_event(&self) -> Bytes {
        self.listed().all.clone()
    }

    /// What has changed since the view before, as an event.
    pub(super) fn change_event(&self) -> Bytes {
        self.change.get_or_init(|| event("change", self.index, &json::change(self)).all).clone()
    }

    fn listed(&self) -> &Event {
        self.list.get_or_init(|| event("list", self.index, &json::list(self)))
    }
}

/// The data is on one line: JSON without white space.
pub(super) fn event(name: &str, index: u64, data: &[u8]) -> Event {
    let head = format!("event: {name}\nid: {index}\ndata: ");
    let all: Bytes = [head.as_bytes(), data, b"\n\n"].concat().into();
    let data = all.slice(head.len()..head.len() + data.len());
    Event { all, data }
}

/// What is wrong now.
fn trouble(state: FreshnessState, status: &DiscoverStatus) -> Option<String> {
    let error = status.last_error.as_ref().filter(|_| state != FreshnessState::Synced)?;
    Some(error.to_string())
}

/// How long ago this was.
pub(super) fn age(instant: Instant) -> Duration {
    tokio::time::Instant::now().into_std().saturating_duration_since(instant)
}
