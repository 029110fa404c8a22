//! The ready-made cache: many readers that never wait for the writer.

use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, Cache};
use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use crate::{
    Error, Snapshot, Update,
    endpoint::{EndpointCacher, Event},
    lock::lock,
};

/// The current endpoints of one service: fed by a discovery, read from anywhere.
///
/// Reading never waits for a writer and sees a consistent set. [`LiteEndpoint::reader`] is the fast
/// way for a hot path.
///
/// ```
/// use discox_core::{EndpointCacher, LiteEndpoint};
///
/// let endpoints = LiteEndpoint::new();
/// endpoints.add_or_update("127.0.0.1:8111", b"{}"); // a discovery does this
/// assert_eq!(endpoints.list(), ["127.0.0.1:8111"]);
/// assert_eq!(endpoints.attr("127.0.0.1:8111").as_deref(), Some(&b"{}"[..]));
///
/// let mut reader = endpoints.reader();
/// let snapshot = reader.load();
/// assert_eq!(snapshot.get(0).unwrap().endpoint(), "127.0.0.1:8111");
/// ```
#[derive(Debug)]
pub struct LiteEndpoint {
    current: Arc<ArcSwap<Snapshot>>,
    writing: Mutex<()>,
    freshness: watch::Sender<Freshness>,
    /// Counts the changes, for those who await them.
    version: watch::Sender<u64>,
    last_error: Mutex<Option<Error>>,
}

/// How far a cache can be trusted, and since when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Freshness {
    /// What the cache shows.
    pub state: FreshnessState,
    /// Since when it is in that state.
    pub since: std::time::Instant,
    /// When the registry last confirmed what the cache shows; none before the first list.
    pub last_confirmed: Option<std::time::Instant>,
}

/// What a cache shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FreshnessState {
    /// Nothing yet: the first list has not been read. Left by the first list or by the end.
    Empty,
    /// What the registry holds. Left when the registry is lost or discovery ends.
    Synced,
    /// What the registry last held; it cannot be reached. Left when it is back.
    Stale,
    /// Discovery has ended; the last known endpoints stay.
    Ended,
}

impl Default for LiteEndpoint {
    fn default() -> Self {
        Self::new()
    }
}

impl LiteEndpoint {
    /// An empty cache that is not ready yet.
    pub fn new() -> Self {
        let unread = Freshness {
            state: FreshnessState::Empty,
            since: Instant::now().into_std(),
            last_confirmed: None,
        };
        Self {
            current: Arc::default(),
            writing: Mutex::default(),
            freshness: watch::Sender::new(unread),
            version: watch::Sender::new(0),
            last_error: Mutex::default(),
        }
    }

    /// The endpoints, sorted. Allocates; see [`LiteEndpoint::reader`] for hot paths.
    pub fn list(&self) -> Vec<String> {
        self.current.load().endpoints()
    }

    /// The attr of an endpoint, as it was registered.
    pub fn attr(&self, endpoint: &str) -> Option<Bytes> {
        self.current.load().attr(endpoint).cloned()
    }

    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.current.load().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The endpoints of this moment, owned and consistent. Costs one counter.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// A reader for one thread: [`Reader::load`] touches no shared counter.
    pub fn reader(&self) -> Reader {
        Reader(Cache::new(self.current.clone()))
    }

    /// Waits for the first full list. Returns also when discovery has ended without one: then
    /// [`LiteEndpoint::is_ready`] is false and [`LiteEndpoint::last_error`] says why. Cancel-safe.
    pub async fn ready(&self) {
        let mut freshness = self.freshness.subscribe();
        // The sender lives as long as self, so that this cannot fail.
        let _ = freshness.wait_for(|freshness| freshness.state != FreshnessState::Empty).await;
    }

    /// Whether a full list has been applied.
    pub fn is_ready(&self) -> bool {
        self.freshness.borrow().last_confirmed.is_some()
    }

    /// Whether the cache is synced or stale, since when, and when it was last confirmed.
    pub fn freshness(&self) -> Freshness {
        *self.freshness.borrow()
    }

    /// The last thing that went wrong, even when it is long mended.
    pub fn last_error(&self) -> Option<Error> {
        lock(&self.last_error).clone()
    }

    /// A stream of snapshots, beginning with the current one; a slow reader sees only the newest.
    pub fn changes(&self) -> Changes {
        let mut version = self.version.subscribe();
        version.mark_changed();
        Changes { current: self.current.clone(), version }
    }

    /// Changes a copy of the current snapshot, which shares with it what stays.
    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        self.replace(|current| {
            let mut next = Snapshot::clone(current);
            change(&mut next);
            Arc::new(next)
        });
    }

    fn replace(&self, next: impl FnOnce(&Arc<Snapshot>) -> Arc<Snapshot>) {
        let _one_at_a_time = lock(&self.writing);
        let next = next(&self.current.load());
        self.current.store(next);
        self.version.send_modify(|version| *version += 1);
        self.confirmed();
    }

    fn confirmed(&self) {
        self.freshness.send_if_modified(|freshness| {
            if freshness.state == FreshnessState::Synced {
                freshness.last_confirmed = Some(Instant::now().into_std());
            }
            false
        });
    }

    fn enter(&self, state: FreshnessState) {
        let now = Instant::now().into_std();
        self.freshness.send_modify(|freshness| {
            freshness.state = state;
            freshness.since = now;
            if state == FreshnessState::Synced {
                freshness.last_confirmed = Some(now);
            }
        });
    }
}

impl EndpointCacher for LiteEndpoint {
    fn add_or_update(&self, endpoint: &str, attribute: &[u8]) {
        self.change(|next| next.put(endpoint.into(), Bytes::copy_from_slice(attribute)));
    }

    fn delete(&self, endpoint: &str) {
        self.change(|next| next.delete(endpoint));
    }

    fn add_error(&self, error: &Error) {
        *lock(&self.last_error) = Some(error.clone());
    }

    fn apply(&self, batch: &[Update]) {
        self.change(|next| next.apply(batch));
    }

    /// Shares the list with the discovery, if it is the only one that has fed this cache.
    fn advance(&self, from: &Arc<Snapshot>, to: &Arc<Snapshot>, batch: &[Update]) {
        self.replace(|current| {
            if Arc::ptr_eq(current, from) || current.is_empty() && from.is_empty() {
                return to.clone();
            }
            let mut next = Snapshot::clone(current);
            next.apply(batch);
            Arc::new(next)
        });
    }

    fn on_event(&self, event: &Event) {
        match event {
            Event::Synced | Event::Recovered => self.enter(FreshnessState::Synced),
            Event::Lost(_) if self.is_ready() => self.enter(FreshnessState::Stale),
            Event::Lost(_) => {}
            Event::Confirmed => self.confirmed(),
            Event::Ended => self.enter(FreshnessState::Ended),
        }
    }
}

/// A per-thread handle on a [`LiteEndpoint`]. It holds the last snapshot it loaded.
#[derive(Clone, Debug)]
pub struct Reader(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

impl Reader {
    /// The current snapshot, borrowed: one comparison when nothing changed. Never waits.
    #[inline]
    pub fn load(&mut self) -> &Snapshot {
        self.0.load()
    }
}

/// A stream of snapshots, made by [`LiteEndpoint::changes`].
#[derive(Debug)]
pub struct Changes {
    current: Arc<ArcSwap<Snapshot>>,
    version: watch::Receiver<u64>,
}

impl Changes {
    /// Waits for a snapshot that is newer than the last one returned; the first call returns at
    /// once. None when the cache is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<Snapshot>> {
        self.version.changed().await.ok()?;
        Some(self.current.load_full())
    }

    /// Waits for a snapshot for which `wanted` is true. None when the cache is gone. Cancel-safe.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&Snapshot) -> bool) -> Option<Arc<Snapshot>> {
        loop {
            let snapshot = self.next().await?;
            if wanted(&snapshot) {
                return Some(snapshot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[tokio::test]
    async fn ready_after_the_first_list_and_stale_after_a_loss() {
        let cache = Arc::new(LiteEndpoint::new());
        let waiting = tokio::spawn({
            let cache = cache.clone();
            async move { cache.ready().await }
        });
        let lost = Event::Lost(Error::new(ErrorKind::Unavailable, "gone"));
        cache.on_event(&lost);
        assert_eq!(cache.freshness().state, FreshnessState::Empty);
        cache.apply(&[Update::Put("a:1".into(), Bytes::from_static(b"1"))]);
        assert!(!cache.is_ready());
        cache.on_event(&Event::Synced);
        waiting.await.unwrap();
        assert!(cache.is_ready());
        cache.on_event(&lost);
        assert_eq!(cache.freshness().state, FreshnessState::Stale);
        assert_eq!(cache.list(), ["a:1"]);
        cache.on_event(&Event::Recovered);
        assert_eq!(cache.freshness().state, FreshnessState::Synced);
    }

    #[tokio::test]
    async fn ready_returns_when_discovery_has_ended() {
        let cache = LiteEndpoint::new();
        cache.on_event(&Event::Ended);
        cache.ready().await;
        assert!(!cache.is_ready());
    }

    #[tokio::test]
    async fn changes_begin_with_the_current_snapshot_and_skip_to_the_newest() {
        let cache = LiteEndpoint::new();
        let mut changes = cache.changes();
        assert_eq!(changes.next().await.unwrap().len(), 0);
        for port in 1..=3 {
            cache.add_or_update(&format!("a:{port}"), b"");
        }
        assert_eq!(changes.next().await.unwrap().len(), 3);
        cache.delete("a:2");
        let left = changes.wait_for(|snapshot| snapshot.len() == 2).await.unwrap();
        assert_eq!(left.endpoints(), ["a:1", "a:3"]);
    }

    #[test]
    fn a_list_is_shared_with_the_only_discovery_and_merged_with_those_of_others() {
        let (empty, mut one) = (Arc::new(Snapshot::default()), Snapshot::default());
        let puts = ["a:1", "a:2"].map(|endpoint| [Update::Put(endpoint.into(), Bytes::new())]);
        one.apply(&puts[0]);
        let one = Arc::new(one);
        let mut two = Snapshot::clone(&one);
        two.apply(&puts[1]);
        let two = Arc::new(two);

        let cache = LiteEndpoint::new();
        cache.advance(&empty, &one, &puts[0]);
        cache.advance(&one, &two, &puts[1]);
        assert!(Arc::ptr_eq(&cache.snapshot(), &two));

        let cache = LiteEndpoint::new();
        cache.add_or_update("b:1", b"");
        cache.advance(&empty, &one, &puts[0]);
        cache.advance(&one, &two, &puts[1]);
        assert_eq!(cache.list(), ["a:1", "a:2", "b:1"]);
    }

    #[test]
    fn a_reader_follows() {
        let cache = LiteEndpoint::new();
        let mut reader = cache.reader();
        assert!(reader.load().is_empty());
        cache.add_or_update("a:1", b"x");
        assert_eq!(reader.load().attr("a:1").unwrap(), "x");
    }
}
