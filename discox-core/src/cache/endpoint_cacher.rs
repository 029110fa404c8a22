//! What a discovery tells: the cacher that it feeds, and what it is fed with.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, Result, Snapshot};

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
    /// The watch itself has shown that it is alive: everything up to now has been told.
    Confirmed,
    /// Discovery has ended: stopped, dropped, or by an error told before. Nothing follows.
    Ended,
}

/// Receives what a discovery finds. [`LiteEndpoint`](crate::LiteEndpoint) is the ready-made one.
///
/// Calls come one at a time, in order, from the task that runs
/// [`Discover::start`](crate::Discover::start), and block its thread while they run. A panic in a call ends that
/// discovery with [`ErrorKind::CacherPanicked`](crate::ErrorKind::CacherPanicked); the cacher is not called again,
/// not even for [`Event::Ended`].
///
/// A change reaches exactly one of three methods; each calls the next one by default. Implement the one that suits:
///
/// | what you keep | implement |
/// |---|---|
/// | something per endpoint | `add_or_update` and `delete` |
/// | something that changes as a whole, as by a lock or a send | `apply` (the two above stay empty) |
/// | whole lists | `advance` (the three above stay empty) |
///
/// A loss of the registry reaches `add_error` and `on_event`: the former has the error for a log or a status, the
/// latter ([`Event::Lost`], [`Event::Recovered`]) is for what switches. Use one of them.
pub trait EndpointCacher: Send + Sync + 'static {
    /// A discovery is going to feed this cacher; its [`Event::Ended`] says when it does not any more. Returns what
    /// the cacher shows already: the first list is told as the difference to it. By default nothing. A cacher that
    /// is fed by one discovery after the other forgets here what it shows, or returns it; otherwise endpoints stay
    /// that only the earlier one knew.
    ///
    /// # Errors
    /// Refuses the discovery: its `start` returns the error, which should be of kind
    /// [`CacherInUse`](crate::ErrorKind::CacherInUse), and no further call comes from it. A cacher that cannot tell
    /// one feed from the other refuses a second one.
    fn begin(&self) -> Result<Arc<Snapshot>> {
        Ok(Arc::default())
    }

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

    /// As [`EndpointCacher::apply`], which it calls by default, with the whole lists before and after: the batch
    /// leads from `from`, which this discovery has told so far, to `to`. [`LiteEndpoint`](crate::LiteEndpoint)
    /// shows `to` itself, so that no list is kept twice.
    fn advance(&self, from: &Arc<Snapshot>, to: &Arc<Snapshot>, batch: &[Update]) {
        let _ = (from, to);
        self.apply(batch);
    }

    /// What happens to the discovery as a whole. By default nothing is done.
    fn on_event(&self, _event: &Event) {}
}
