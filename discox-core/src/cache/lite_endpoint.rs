//! The ready-made cache: many readers that never wait for the writer.

use std::{
    mem,
    sync::{Arc, Mutex},
};

use arc_swap::{ArcSwap, Cache};
use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use super::{
    changes::{Changes, Progress, begins_again},
    freshness::{Freshness, FreshnessState},
};
use crate::{
    Error, ErrorKind, Result, Snapshot, Update,
    cache::{EndpointCacher, Event},
    lock::lock,
};

/// The current endpoints of one service: fed by a discovery, read from anywhere.
///
/// Reading never waits for a writer and sees a consistent set. [`LiteEndpoint::reader`] is the fast
/// way for a hot path.
///
/// One discovery at a time feeds it; a second one beside it is refused with
/// [`CacherInUse`](crate::ErrorKind::CacherInUse). After an end the next one may begin: readers see the old list
/// until the new one replaces it, and [`LiteEndpoint::ready`] waits for that.
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
/// assert_eq!(snapshot.nth(0).unwrap().endpoint(), "127.0.0.1:8111");
/// ```
#[derive(Debug)]
pub struct LiteEndpoint {
    current: Arc<ArcSwap<Snapshot>>,
    writing: Mutex<()>,
    freshness: watch::Sender<Freshness>,
    progress: watch::Sender<Progress>,
    /// A discovery feeds it.
    is_fed: Mutex<bool>,
    last_error: Mutex<Option<Error>>,
}

impl Default for LiteEndpoint {
    fn default() -> Self {
        Self::new()
    }
}

impl LiteEndpoint {
    /// An empty cache that is not ready yet.
    pub fn new() -> Self {
        Self {
            current: Arc::default(),
            writing: Mutex::default(),
            freshness: watch::Sender::new(Freshness::empty()),
            progress: watch::Sender::default(),
            is_fed: Mutex::default(),
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

    /// Whether this endpoint is in the cache now. Never waits, allocates or touches a shared counter.
    pub fn contains(&self, endpoint: &str) -> bool {
        self.current.load().attr(endpoint).is_some()
    }

    /// Whether the cache still shows this snapshot of it. Never waits or touches a shared counter.
    #[inline]
    pub fn is_current(&self, snapshot: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(&self.current.load(), snapshot)
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
    /// [`LiteEndpoint::is_ready`] is false and [`LiteEndpoint::last_error`] says why. Waits for ever where nobody
    /// calls [`Discover::start`](crate::Discover::start) with this cache. Where one has ended before the call,
    /// another one has a second to begin. Cancel-safe.
    pub async fn ready(&self) {
        if self.has_ended() && !begins_again(&mut self.progress.subscribe()).await {
            return;
        }
        self.freshness_when(|freshness| freshness.state != FreshnessState::Empty).await;
    }

    /// Whether there is a full list and a discovery that keeps it: what a readiness probe should ask. True also while
    /// the registry is lost and the list is the last known one; false before the first list and after the end.
    pub fn is_ready(&self) -> bool {
        matches!(self.freshness.borrow().state, FreshnessState::Synced | FreshnessState::Stale)
    }

    /// Whether the cache is synced or stale, since when, and when it was last confirmed.
    pub fn freshness(&self) -> Freshness {
        *self.freshness.borrow()
    }

    /// Waits until the state is another than this one, and returns the new freshness. Cancel-safe.
    pub async fn freshness_changed(&self, from: FreshnessState) -> Freshness {
        self.freshness_when(|freshness| freshness.state != from).await
    }

    /// Waits until the cache shows what the registry holds. Returns also when discovery has ended: see the state.
    /// Cancel-safe.
    pub async fn wait_fresh(&self) -> Freshness {
        let is_over = |state| matches!(state, FreshnessState::Synced | FreshnessState::Ended);
        self.freshness_when(|freshness| is_over(freshness.state)).await
    }

    async fn freshness_when(&self, wanted: impl Fn(&Freshness) -> bool) -> Freshness {
        let mut freshness = self.freshness.subscribe();
        // The sender lives as long as self, so that this cannot fail.
        freshness.wait_for(wanted).await.map_or_else(|_| self.freshness(), |freshness| *freshness)
    }

    /// The last thing that went wrong, even when it is long mended.
    pub fn last_error(&self) -> Option<Error> {
        lock(&self.last_error).clone()
    }

    /// A [`Stream`](futures_util::Stream) of snapshots, beginning with the current one, that ends when the discovery
    /// has ended. A slow reader sees only the newest. Where no discovery feeds the cache it waits for one.
    pub fn changes(&self) -> Changes {
        Changes::new(self.current.clone(), self.progress.subscribe())
    }

    /// Waits until there are at least `n` endpoints. None when discovery has ended before. Cancel-safe.
    pub async fn wait_for(&self, n: usize) -> Option<Arc<Snapshot>> {
        self.changes().wait_for(|snapshot| snapshot.len() >= n).await
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
        // After an end the list belongs to nobody: what comes now begins a new one.
        let next = if self.has_ended() {
            self.renew();
            next(&Arc::default())
        } else {
            next(&self.current.load())
        };
        self.current.store(next);
        self.progress.send_modify(|progress| progress.changes += 1);
    }

    fn has_ended(&self) -> bool {
        self.freshness.borrow().state == FreshnessState::Ended
    }

    /// A new life: not ready, and streams do not end.
    fn renew(&self) {
        self.freshness.send_replace(Freshness::empty());
        self.progress.send_modify(|progress| progress.has_ended = false);
    }

    fn confirmed(&self) {
        self.freshness.send_if_modified(|freshness| {
            if freshness.state == FreshnessState::Synced {
                freshness.last_confirmed = Some(Instant::now().into_std());
            }
            // Who waits for a state need not wake.
            false
        });
    }

    fn enter(&self, state: FreshnessState) {
        self.freshness.send_modify(|freshness| freshness.enter(state));
    }

    fn synced(&self) {
        if self.has_ended() {
            // A list without a change is an empty one.
            self.replace(Arc::clone);
        }
        self.enter(FreshnessState::Synced);
    }

    fn ended(&self) {
        *lock(&self.is_fed) = false;
        self.enter(FreshnessState::Ended);
        self.progress.send_modify(|progress| progress.has_ended = true);
    }
}

impl EndpointCacher for LiteEndpoint {
    fn begin(&self) -> Result<Arc<Snapshot>> {
        if mem::replace(&mut *lock(&self.is_fed), true) {
            let reason = "another discovery feeds this cache; stop it first, or use a cache for each";
            return Err(Error::new(ErrorKind::CacherInUse, reason));
        }
        if self.has_ended() {
            self.renew();
        }
        Ok(self.snapshot())
    }

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

    /// Shares the list with the discovery, unless something else was written in between.
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
            Event::Synced | Event::Recovered => self.synced(),
            Event::Lost(_) if self.is_ready() => self.enter(FreshnessState::Stale),
            Event::Lost(_) => {}
            Event::Confirmed => self.confirmed(),
            Event::Ended => self.ended(),
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
    fn what_is_gone_is_not_contained_and_an_old_snapshot_is_not_current() {
        let cache = LiteEndpoint::new();
        cache.add_or_update("a:1", b"");
        let snapshot = cache.snapshot();
        assert!(cache.contains("a:1") && cache.is_current(&snapshot));
        cache.delete("a:1");
        assert!(!cache.contains("a:1") && !cache.is_current(&snapshot));
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
