//! A cacher that checks every callback against the contract.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;
use discox_core::{EndpointCacher, Error, Event, Update};

/// Panics when a callback breaks the contract.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    shown: BTreeMap<String, Bytes>,
    deletes: BTreeMap<String, u32>,
    synced: bool,
    lost: bool,
    ended: bool,
    closed: bool,
}

impl Recorder {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        let seen = self.0.lock().unwrap();
        assert!(!seen.closed, "a callback after stop");
        seen
    }

    pub(crate) fn shown(&self) -> BTreeMap<String, Bytes> {
        self.seen().shown.clone()
    }

    pub(crate) fn deletes_of(&self, endpoint: &str) -> u32 {
        self.seen().deletes.get(endpoint).copied().unwrap_or_default()
    }

    /// From now on any callback is an error.
    pub(crate) fn close(&self) {
        let mut seen = self.seen();
        assert!(seen.ended, "the end was told before stop returned");
        seen.closed = true;
    }
}

impl EndpointCacher for Recorder {
    fn add_or_update(&self, endpoint: &str, attribute: &[u8]) {
        let before = self.seen().shown.insert(endpoint.to_owned(), Bytes::copy_from_slice(attribute));
        assert_ne!(before.as_deref(), Some(attribute), "{endpoint}: an update that changes nothing");
    }

    fn delete(&self, endpoint: &str) {
        let mut seen = self.seen();
        assert!(seen.shown.remove(endpoint).is_some(), "{endpoint}: deleted, but never added");
        *seen.deletes.entry(endpoint.to_owned()).or_default() += 1;
    }

    fn add_error(&self, _: &Error) {
        drop(self.seen());
    }

    fn apply(&self, batch: &[Update]) {
        assert!(!batch.is_empty());
        let is_delete: Vec<_> = batch.iter().map(|update| matches!(update, Update::Delete(_))).collect();
        assert!(is_delete.is_sorted(), "a removal before an addition");
        for update in batch {
            match update {
                Update::Put(endpoint, attr) => self.add_or_update(endpoint, attr),
                Update::Delete(endpoint) => self.delete(endpoint),
                other => panic!("{other:?}"),
            }
        }
    }

    fn on_event(&self, event: &Event) {
        let mut seen = self.seen();
        assert!(!seen.ended, "{event:?} after the end");
        match event {
            Event::Synced => {
                assert!(!std::mem::replace(&mut seen.synced, true), "synced twice");
                seen.lost = false;
            }
            Event::Lost(_) => assert!(!std::mem::replace(&mut seen.lost, true), "one outage told twice"),
            Event::Recovered => assert!(std::mem::replace(&mut seen.lost, false), "recovered from nothing"),
            Event::Ended => seen.ended = true,
            _ => {}
        }
    }
}
