//! The names of the services under a prefix, kept up to date.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, StreamExt};

use super::watching::Watching;
use crate::{Changes, DiscoverStatus, Error, Freshness, Registry, Result, Snapshot, Update};

/// The names of the services under a prefix, made by `registry.watch_services(prefix)`: follows the registry until its
/// last clone is dropped or [`Services::stop`] is called.
///
/// A name is there as long as the registry has a record of the service; what else counts is said by each backend. As
/// with endpoints, the last known names stay while the registry is lost, and after an outage a name goes when the
/// grace of 15 s is over.
///
/// It runs one task, as [`Watching`] does.
#[derive(Clone)]
pub struct Services(Watching);

/// A change of the services that there are.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ServiceChange {
    /// There is a service of this name now.
    Added(Arc<str>),
    /// There is none any more.
    Removed(Arc<str>),
}

/// A stream of changes, made by [`Services::changes`]. It begins with an addition for each service that is known,
/// and ends when the discovery has ended. A slow reader misses a service that comes and goes between two reads.
pub struct ServiceChanges {
    snapshots: Changes,
    seen: Arc<Snapshot>,
    waiting: VecDeque<ServiceChange>,
}

impl dyn Registry {
    /// Follows the names of the services under a prefix, until the last clone of the result is dropped. The empty
    /// prefix is that of the registry's configuration. No I/O; it connects by itself.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field, or where no Tokio runtime runs.
    pub fn watch_services(&self, prefix: &str) -> Result<Services> {
        Watching::start("*".into(), self.discover_services(prefix)?).map(Services)
    }
}

impl Services {
    /// The names, sorted. Allocates.
    pub fn names(&self) -> Vec<String> {
        self.0.list()
    }

    /// Whether there is a service of this name. Never waits.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the first full list, for at most `limit`. Cancel-safe.
    ///
    /// # Errors
    /// As [`Watching::ready_within`].
    pub async fn ready_within(&self, limit: Duration) -> Result<()> {
        self.0.ready_within(limit).await
    }

    /// Whether there is a full list and a task that keeps it, also while the registry is lost.
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    /// How far the names can be trusted.
    pub fn freshness(&self) -> Freshness {
        self.0.freshness()
    }

    /// What the discovery is doing, for operators; its endpoints are the names. Never blocks.
    pub fn status(&self) -> DiscoverStatus {
        self.0.status()
    }

    /// The last thing that went wrong, even when it is long mended.
    pub fn last_error(&self) -> Option<Error> {
        self.0.last_error()
    }

    /// The changes from now on, behind an addition for each service that is known.
    pub fn changes(&self) -> ServiceChanges {
        ServiceChanges { snapshots: self.0.changes(), seen: Arc::default(), waiting: VecDeque::new() }
    }

    /// Ends it for good, for all clones. The last names stay. Idempotent and cancel-safe.
    pub async fn stop(&self) {
        self.0.stop().await;
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Services").field(&self.0).finish()
    }
}

impl ServiceChanges {
    /// Waits for the next change. None when the discovery has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<ServiceChange> {
        StreamExt::next(self).await
    }
}

impl Stream for ServiceChanges {
    type Item = ServiceChange;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ServiceChange>> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return Poll::Ready(Some(change));
            }
            let Some(now) = ready!(self.snapshots.poll_next_unpin(context)) else { return Poll::Ready(None) };
            let changes = now.changes_since(&self.seen).into_iter().map(|update| match update {
                Update::Put(name, _) => ServiceChange::Added(name),
                Update::Delete(name) => ServiceChange::Removed(name),
            });
            self.waiting = changes.collect();
            self.seen = now;
        }
    }
}

impl fmt::Debug for ServiceChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceChanges").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}
