//! What a discovery tells: the cacher that it feeds, and what it is fed with.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, Snapshot};

/// One difference between what the cacher was last told and what the registry holds.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Update {
    /// The endpoint is new, or its attr changed.
    Put(Arc<str>, Bytes),
    /// The endpoint is gone.
    Delete(Arc<str>),
}

/// What happens to a discovery as a whole.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The first full list has been applied.
    Synced,
    /// The registry was lost, told once an outage. The last known endpoints stay.
    Lost(Error),
    /// The registry is back and the difference has been applied; removals may still be held.
    Recovered,
    /// The registry has confirmed that the watch is alive; nothing changed.
    Confirmed,
    /// Discovery has ended: stopped, dropped, or by an error told before. Nothing follows.
    Ended,
}

/// Receives what a discovery finds. [`LiteEndpoint`](crate::LiteEndpoint) is the ready-made one.
///
/// Calls come one at a time, in order, from the task that runs
/// [`Discover::start`](crate::Discover::start), and block that discovery while they run. A panic in a
/// call ends that discovery with
/// [`ErrorKind::CacherPanicked`](crate::ErrorKind::CacherPanicked).
pub trait EndpointCacher: Send + Sync + 'static {
    /// The endpoint is new, or its attribute changed.
    fn add_or_update(&self, endpoint: &str, attribute: &[u8]);

    /// The endpoint is gone.
    fn delete(&self, endpoint: &str);

    /// Something failed: told once an outage, not once an attempt. Discovery goes on unless
    /// [`Event::Ended`] follows.
    fn add_error(&self, error: &Error);

    /// What came in together: additions and changes first, then removals, so that a reader never
    /// sees a false empty list. By default the single calls, in order.
    fn apply(&self, batch: &[Update]) {
        for update in batch {
            match update {
                Update::Put(endpoint, attribute) => self.add_or_update(endpoint, attribute),
                Update::Delete(endpoint) => self.delete(endpoint),
            }
        }
    }

    /// As [`EndpointCacher::apply`], which it calls by default. A cacher that wants whole lists finds
    /// them here: the batch leads from the list that this discovery has told so far to the one that it
    /// tells now. [`LiteEndpoint`](crate::LiteEndpoint) shows the latter as it is, so that no list is
    /// kept twice.
    fn advance(&self, from: &Arc<Snapshot>, to: &Arc<Snapshot>, batch: &[Update]) {
        let _ = (from, to);
        self.apply(batch);
    }

    /// What happens to the discovery as a whole. By default nothing is done.
    fn on_event(&self, _event: &Event) {}
}
