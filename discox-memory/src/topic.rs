//! The records of one service, and the feed of their changes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use discox_core::{
    Cause, Error, ErrorKind, Result,
    backend::{Change, Listing},
    record::Incarnation,
};
use tokio::{sync::watch, time::Instant};

/// Changes that a service remembers. A watch that falls further behind reads the whole list again.
const HISTORY: usize = 1024;

/// The records of one service. The feed remembers which endpoints changed, not their attrs: a slow
/// watch sees the newest attr only, and the memory that the feed takes does not depend on attrs.
#[derive(Debug, Default)]
pub(crate) struct Topic {
    records: HashMap<Arc<str>, Stored>,
    history: VecDeque<Changed>,
    /// Changes up to this one are forgotten.
    forgotten: u64,
    /// The newest change, pushed to the watches.
    newest: watch::Sender<u64>,
    /// Nothing expires before this.
    first_expiry: Option<Instant>,
}

/// A change of a record.
#[derive(Debug)]
struct Changed {
    number: u64,
    endpoint: Arc<str>,
    /// Why it went, if it did.
    gone: Option<Cause>,
}

/// One record.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) attr: Bytes,
    /// None when it was written by hand: then it does not expire either.
    pub(crate) owner: Option<Owner>,
}

/// Whose record it is, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) incarnation: Incarnation,
    pub(crate) session: u64,
    pub(crate) ttl: Duration,
    expires: Instant,
}

impl Owner {
    pub(crate) fn new(incarnation: Incarnation, session: u64, ttl: Duration) -> Self {
        Self { incarnation, session, ttl, expires: Instant::now() + ttl }
    }
}

impl Topic {
    pub(crate) fn get(&mut self, endpoint: &str) -> Option<&Stored> {
        self.sweep();
        self.records.get(endpoint)
    }

    pub(crate) fn list(&mut self) -> Listing {
        self.sweep();
        self.records.iter().map(|(endpoint, stored)| (endpoint.clone(), stored.attr.clone())).collect()
    }

    /// Writes a record; watches hear of it when its attr is another.
    pub(crate) fn put(&mut self, endpoint: &str, stored: Stored) {
        self.sweep();
        let expires = stored.owner.map(|owner| owner.expires);
        self.first_expiry = self.first_expiry.into_iter().chain(expires).min();
        let attr = stored.attr.clone();
        let before = self.records.insert(endpoint.into(), stored);
        if before.is_none_or(|before| before.attr != attr) {
            self.changed(endpoint.into(), None);
        }
    }

    /// Removes a record, and says whether there was one.
    pub(crate) fn delete(&mut self, endpoint: &str) -> bool {
        self.sweep();
        match self.records.remove_entry(endpoint) {
            Some((endpoint, _)) => {
                self.changed(endpoint, Some(Cause::Deleted));
                true
            }
            None => false,
        }
    }

    /// Removes what a session has registered.
    pub(crate) fn end_session(&mut self, session: u64) {
        self.remove_if(|owner| owner.session == session, &Cause::SessionEnded);
    }

    /// Gives every record its whole TTL again.
    pub(crate) fn renew(&mut self) {
        for owner in self.records.values_mut().filter_map(|stored| stored.owner.as_mut()) {
            owner.expires = Instant::now() + owner.ttl;
        }
    }

    /// Gives a record its whole TTL again.
    pub(crate) fn keep_alive(&mut self, endpoint: &str) {
        if let Some(owner) = self.records.get_mut(endpoint).and_then(|stored| stored.owner.as_mut()) {
            owner.expires = Instant::now() + owner.ttl;
        }
    }

    /// Forgets all changes, so that every watch must read the whole list again.
    pub(crate) fn compact(&mut self) {
        let newest = *self.newest.borrow() + 1;
        self.history.clear();
        self.forgotten = newest;
        self.newest.send_replace(newest);
    }

    /// Tells of changes from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// How many records there are, expired ones among them.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is a record with such an endpoint.
    pub(crate) fn has(&mut self, is_such: impl Fn(&str) -> bool) -> bool {
        self.sweep();
        self.records.keys().any(|endpoint| is_such(endpoint))
    }

    /// Whether nothing is lost when it is dropped.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.sweep();
        self.records.is_empty() && self.newest.receiver_count() == 0
    }

    /// What changed after `position`, the position after it, and when to look for expired records.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when that is forgotten.
    pub(crate) fn since(&mut self, position: u64) -> Result<(Vec<Change>, u64, Option<Instant>)> {
        self.sweep();
        if position < self.forgotten {
            return Err(Error::new(ErrorKind::Stale, "the changes since then are forgotten"));
        }
        let first = self.history.partition_point(|change| change.number <= position);
        let changed: HashSet<&Arc<str>> =
            self.history.range(first..).map(|change| &change.endpoint).collect();
        let changes = changed.into_iter().map(|endpoint| match self.records.get(endpoint) {
            Some(stored) => Change::Put(endpoint.clone(), stored.attr.clone()),
            None => Change::Delete(endpoint.clone()),
        });
        Ok((changes.collect(), *self.newest.borrow(), self.first_expiry))
    }

    /// Why a record went, as far as that is remembered.
    pub(crate) fn why_gone(&self, endpoint: &str) -> Option<Cause> {
        self.history.iter().rfind(|change| *change.endpoint == *endpoint)?.gone.clone()
    }

    /// The position of a watch that begins now.
    pub(crate) fn position(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Removes what has expired.
    fn sweep(&mut self) {
        let now = Instant::now();
        if self.first_expiry.is_some_and(|first| first <= now) {
            self.remove_if(|owner| owner.expires <= now, &Cause::LeaseEnded);
            self.first_expiry =
                self.records.values().filter_map(|stored| stored.owner).map(|owner| owner.expires).min();
        }
    }

    fn remove_if(&mut self, doomed: impl Fn(&Owner) -> bool, cause: &Cause) {
        let doomed = self.records.extract_if(|_, stored| stored.owner.as_ref().is_some_and(&doomed));
        let gone: Vec<_> = doomed.map(|(endpoint, _)| endpoint).collect();
        gone.into_iter().for_each(|endpoint| self.changed(endpoint, Some(cause.clone())));
    }

    fn changed(&mut self, endpoint: Arc<str>, gone: Option<Cause>) {
        let number = *self.newest.borrow() + 1;
        self.history.push_back(Changed { number, endpoint, gone });
        if self.history.len() > HISTORY {
            self.forgotten = self.history.pop_front().map_or(self.forgotten, |change| change.number);
        }
        self.newest.send_replace(number);
    }
}
