//! What happened to a registration or a discovery lately, and why: a ring of events in memory.

mod cause;
mod event;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use tokio::{sync::watch, time::Instant};

pub use self::{
    cause::Cause,
    event::{EventKind, HistoryEvent},
};
use crate::lock::lock;

/// The last events of one registration or discovery, see [`ConnectionConfig::history`](crate::ConnectionConfig::history).
///
/// Cheap to clone; clones show the same events. It outlives the handle that it came from. Nothing here blocks, but for
/// [`History::wait_after`], which waits.
#[derive(Clone, Default)]
pub struct History(Option<Arc<Log>>);

struct Log {
    limit: usize,
    ring: Mutex<Ring>,
    /// The number of the newest event that can be read.
    readable: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<HistoryEvent>,
    /// Events whose cause the registry is being asked for, in the order of their numbers.
    asked: VecDeque<u64>,
    /// The number of the newest event.
    last: u64,
}

impl History {
    /// Keeps the last `limit` events; 0 keeps none.
    pub(crate) fn new(limit: usize) -> Self {
        let log = || Log { limit, ring: Mutex::default(), readable: watch::Sender::new(0) };
        Self((limit > 0).then(|| Arc::new(log())))
    }

    /// Whether events are kept.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// All events that are kept, the oldest first. Of a removal whose cause is being asked for the cause is
    /// [`Cause::Unknown`] for that moment.
    pub fn events(&self) -> Vec<HistoryEvent> {
        self.0.as_ref().map_or_else(Vec::new, |log| log.ring().events.iter().cloned().collect())
    }

    /// The events with higher numbers than this one, the oldest first; 0 is all. It ends before an event whose cause is
    /// being asked for, which takes two seconds at most. A gap in the numbers means that events in between are
    /// no longer kept.
    pub fn after(&self, number: u64) -> Vec<HistoryEvent> {
        self.0.as_ref().map_or_else(Vec::new, |log| log.ring().after(number))
    }

    /// As [`History::after`], and waits until there is at least one. Waits for ever when the history is off, or when
    /// nothing more happens. Cancel-safe.
    pub async fn wait_after(&self, number: u64) -> Vec<HistoryEvent> {
        let Some(log) = &self.0 else { return std::future::pending().await };
        let mut readable = log.readable.subscribe();
        loop {
            // The sender lives as long as the log, so that this cannot fail.
            let _ = readable.wait_for(|newest| *newest > number).await;
            let events = self.after(number);
            if !events.is_empty() {
                return events;
            }
            let _ = readable.changed().await;
        }
    }

    /// Takes note of an event.
    pub(crate) fn note(&self, endpoint: Option<&Arc<str>>, kind: EventKind, cause: Cause) {
        if let Some(log) = &self.0 {
            log.add(endpoint, kind, cause, false);
        }
    }

    /// Takes note of an event whose cause is being asked for. Returns its number, for [`History::explain`].
    pub(crate) fn note_asked(&self, endpoint: &Arc<str>, kind: EventKind) -> u64 {
        self.0.as_ref().map_or(0, |log| log.add(Some(endpoint), kind, Cause::Unknown, true))
    }

    /// The cause of an event is known now, or nobody will know it.
    pub(crate) fn explain(&self, number: u64, cause: Cause) {
        let Some(log) = &self.0 else { return };
        let mut ring = log.ring();
        ring.asked.retain(|asked| *asked != number);
        let at = ring.events.binary_search_by_key(&number, |event| event.number);
        if let Some(event) = at.ok().and_then(|at| ring.events.get_mut(at)) {
            event.cause = cause;
        }
        log.publish(&ring);
    }
}

impl History {
    /// Nobody will know the causes that are being asked for.
    pub(crate) fn give_up(&self) {
        let Some(log) = &self.0 else { return };
        let mut ring = log.ring();
        ring.asked.clear();
        log.publish(&ring);
    }
}

impl Log {
    fn add(&self, endpoint: Option<&Arc<str>>, kind: EventKind, cause: Cause, asked: bool) -> u64 {
        let mut ring = self.ring();
        if ring.events.len() >= self.limit {
            ring.events.pop_front();
        }
        ring.last += 1;
        let (number, at, since) = (ring.last, SystemTime::now(), Instant::now().into_std());
        ring.events.push_back(HistoryEvent { number, at, since, endpoint: endpoint.cloned(), kind, cause });
        if asked {
            ring.asked.push_back(number);
        }
        self.publish(&ring);
        number
    }

    fn publish(&self, ring: &Ring) {
        let newest = ring.readable();
        self.readable.send_if_modified(|readable| std::mem::replace(readable, newest) != newest);
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        lock(&self.ring)
    }
}

impl Ring {
    /// The number of the newest event that can be read: those behind one that is being explained wait for it, so that
    /// readers hear everything once and in order.
    fn readable(&self) -> u64 {
        self.asked.front().map_or(self.last, |asked| asked - 1)
    }

    fn after(&self, number: u64) -> Vec<HistoryEvent> {
        let readable = self.readable();
        let is_new = |event: &&HistoryEvent| event.number > number && event.number <= readable;
        self.events.iter().filter(is_new).cloned().collect()
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, last) = self.0.as_ref().map_or((0, 0), |log| (log.limit, log.ring().last));
        f.debug_struct("History").field("limit", &limit).field("last", &last).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: usize) -> Arc<str> {
        format!("a:{port}").into()
    }

    #[test]
    fn the_last_events_are_kept_and_a_gap_can_be_seen() {
        let history = History::new(3);
        for port in 1..=5 {
            history.note(Some(&endpoint(port)), EventKind::Added, Cause::Written);
        }
        let numbers: Vec<_> = history.events().iter().map(|event| event.number).collect();
        assert_eq!(numbers, [3, 4, 5]);
        assert_eq!(history.after(4).len(), 1);
        assert_eq!(history.after(5).len(), 0);
    }

    #[test]
    fn nothing_is_kept_when_it_is_off() {
        let history = History::new(0);
        history.note(None, EventKind::Lost, Cause::Unknown);
        assert!(!history.is_on() && history.events().is_empty());
        assert!(history.0.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_waits_for_what_is_being_explained_and_misses_nothing() {
        let history = History::new(8);
        let number = history.note_asked(&endpoint(1), EventKind::Removed);
        history.note(Some(&endpoint(1)), EventKind::Added, Cause::Written);
        assert_eq!(history.events().len(), 2);
        assert_eq!(history.after(0).len(), 0);
        let reading = tokio::spawn({
            let history = history.clone();
            async move { history.wait_after(0).await }
        });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        history.explain(number, Cause::LeaseEnded);
        let texts: Vec<_> = reading.await.unwrap().iter().map(ToString::to_string).collect();
        assert!(texts[0].starts_with("removed a:1: its lease has ended"), "{texts:?}");
        assert_eq!(texts.len(), 2);
    }
}
