//! The leases of one connector, grouped by TTL, and which record is on which.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use discox_core::backend::lock;
use tokio::{
    sync::{Notify, OnceCell},
    time::Instant,
};

/// Records a lease. `LeaseTimeToLive` lists them in one answer, of which etcd-client takes 4 MiB; a
/// key has at most 800 bytes.
const FULL: usize = 4_096;

/// Earlier leases that are remembered as our own. They expire within their TTL, and a new one is
/// granted only when one is found expired, so that 64 are many lives of a connection.
const REMEMBERED: usize = 64;

/// A request that was given up may still be carried out by a server that was hung: etcd gives up a
/// proposal after its own request timeout of 5 s and two elections of 1 s.
const SETTLED: Duration = Duration::from_secs(10);

/// A granted lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) id: i64,
    pub(crate) ttl: Duration,
}

/// The leases of one connector. They outlive a link that was lost: the next one keeps them alive, so
/// that an outage shorter than the TTL costs no write.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    table: Mutex<Table>,
    /// There is a lease to be kept alive.
    pub(crate) granted: Notify,
    /// There is a record to be looked at again.
    doubted: Notify,
}

#[derive(Debug, Default)]
struct Table {
    groups: Vec<Arc<Group>>,
    /// The records that are wanted in the registry, by key.
    wanted: HashMap<Arc<str>, Arc<Group>>,
    earlier: VecDeque<i64>,
    /// Withdrawn while a request to write them may have been under way: in turn, each once, and since when.
    doubtful: VecDeque<String>,
    doubted_at: HashMap<String, Instant>,
    last_left: Option<Instant>,
}

/// The records that share a lease, and the lease once it is granted.
#[derive(Debug)]
struct Group {
    seconds: i64,
    lease: OnceCell<Lease>,
}

impl Group {
    fn id(&self) -> Option<i64> {
        self.lease.get().map(|lease| lease.id)
    }
}

impl Leases {
    /// The lease for a record, which is wanted from now on; `grant` makes a new one of so many
    /// seconds when there is none to join. Concurrent callers share one grant.
    pub(crate) async fn join<E, F>(
        &self,
        key: &Arc<str>,
        ttl: Duration,
        grant: impl FnOnce(i64) -> F,
    ) -> Result<Lease, E>
    where
        F: Future<Output = Result<Lease, E>>,
    {
        let seconds = whole_seconds(ttl);
        let group = self.table().join(key, seconds);
        let mut is_new = false;
        let granting = group.lease.get_or_try_init(async || {
            let lease = grant(seconds).await?;
            is_new = true;
            Ok(lease)
        });
        let lease = granting.await.copied()?;
        if is_new {
            // Only now: who is notified looks for the lease in the table.
            self.granted.notify_one();
        }
        Ok(lease)
    }

    /// The record is wanted no more.
    pub(crate) fn leave(&self, key: &str) {
        let mut table = self.table();
        if table.wanted.remove(key).is_some() {
            table.last_left = Some(Instant::now());
        }
    }

    /// When a record was withdrawn last.
    pub(crate) fn last_left(&self) -> Option<Instant> {
        self.table().last_left
    }

    /// Whether a registration wants this record.
    pub(crate) fn wants(&self, key: &str) -> bool {
        self.table().wanted.contains_key(key)
    }

    /// The lease has expired or was revoked.
    pub(crate) fn forget(&self, id: i64) {
        let mut table = self.table();
        table.groups.retain(|group| group.id() != Some(id));
        table.remember(id);
    }

    /// Forgets all leases and returns them.
    pub(crate) fn forget_all(&self) -> Vec<i64> {
        let mut table = self.table();
        let ids: Vec<i64> = std::mem::take(&mut table.groups).iter().filter_map(|group| group.id()).collect();
        ids.iter().for_each(|id| table.remember(*id));
        ids
    }

    /// The leases to be kept alive.
    pub(crate) fn all(&self) -> Vec<Lease> {
        self.table().groups.iter().filter_map(|group| group.lease.get().copied()).collect()
    }

    /// Whether a lease is, or was, ours.
    pub(crate) fn is_own(&self, id: i64) -> bool {
        let table = self.table();
        table.earlier.contains(&id) || table.groups.iter().any(|group| group.id() == Some(id))
    }

    /// Notes a record to be looked at again when nothing can be under way any more.
    pub(crate) fn doubt(&self, key: String) {
        let mut table = self.table();
        if table.doubted_at.insert(key.clone(), Instant::now()).is_none() {
            table.doubtful.push_back(key);
        }
        self.doubted.notify_one();
    }

    /// Waits until there are doubtful records. Cancel-safe.
    pub(crate) async fn any_doubtful(&self) {
        while self.table().doubtful.is_empty() {
            self.doubted.notified().await;
        }
    }

    /// A doubtful record whose time has come, if there is one. One that was doubted again goes to the end.
    pub(crate) fn settled(&self) -> Option<String> {
        let mut table = self.table();
        for _ in 0..table.doubtful.len() {
            let key = table.doubtful.front()?.clone();
            if table.doubted_at.get(&key).is_none_or(|since| since.elapsed() >= SETTLED) {
                return Some(key);
            }
            table.doubtful.rotate_left(1);
        }
        None
    }

    /// The record that [`Leases::settled`] returned has been looked at.
    pub(crate) fn cleared(&self, key: &str) {
        let mut table = self.table();
        table.doubted_at.remove(key);
        if table.doubtful.front().is_some_and(|front| front == key) {
            table.doubtful.pop_front();
        } else {
            table.doubtful.retain(|doubtful| doubtful != key);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Table {
    fn join(&mut self, key: &Arc<str>, seconds: i64) -> Arc<Group> {
        let current = self.wanted.remove(key).filter(|group| group.seconds == seconds && self.has(group));
        let group = current.or_else(|| self.roomy(seconds)).unwrap_or_else(|| {
            let group = Arc::new(Group { seconds, lease: OnceCell::new() });
            self.groups.push(group.clone());
            group
        });
        self.wanted.insert(key.clone(), group.clone());
        group
    }

    fn has(&self, group: &Arc<Group>) -> bool {
        self.groups.iter().any(|known| Arc::ptr_eq(known, group))
    }

    /// A group with room for one more. Its records hold it, and the list of groups does once.
    fn roomy(&self, seconds: i64) -> Option<Arc<Group>> {
        self.groups.iter().find(|group| group.seconds == seconds && Arc::strong_count(group) <= FULL).cloned()
    }

    fn remember(&mut self, id: i64) {
        if !self.earlier.contains(&id) {
            self.earlier.push_back(id);
        }
        if self.earlier.len() > REMEMBERED {
            self.earlier.pop_front();
        }
    }
}

/// etcd counts in whole seconds, and grants 2 at least with its default election timeout.
fn whole_seconds(ttl: Duration) -> i64 {
    let rounded_up = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(rounded_up).unwrap_or(i64::MAX).max(2)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    struct Server(AtomicI64);

    impl Server {
        async fn join(&self, leases: &Leases, key: &str, ttl: Duration) -> i64 {
            let grant = |seconds: i64| async move {
                tokio::task::yield_now().await;
                let id = self.0.fetch_add(1, Ordering::Relaxed) + 1;
                Ok::<_, ()>(Lease { id, ttl: Duration::from_secs(seconds.unsigned_abs()) })
            };
            leases.join(&key.into(), ttl, grant).await.unwrap().id
        }
    }

    const TTL: Duration = Duration::from_secs(15);

    #[test]
    fn ttls_are_rounded_up_to_seconds() {
        for (millis, seconds) in [(300, 2), (2_000, 2), (2_001, 3), (15_000, 15)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_is_told_of_a_lease_finds_it() {
        for round in 0..2_000 {
            let (server, leases) = (Server(AtomicI64::new(round)), Arc::new(Leases::default()));
            let told = tokio::spawn({
                let leases = leases.clone();
                async move {
                    leases.granted.notified().await;
                    leases.all().len()
                }
            });
            tokio::task::yield_now().await;
            server.join(&leases, "a", TTL).await;
            assert_eq!(told.await.unwrap(), 1, "round {round}");
        }
    }

    #[tokio::test]
    async fn records_of_one_ttl_share_a_lease_that_is_granted_once() {
        let (server, leases) = (Server(AtomicI64::new(0)), Leases::default());
        let (a, b) = tokio::join!(server.join(&leases, "a", TTL), server.join(&leases, "b", TTL));
        assert_eq!((a, b), (1, 1));
        assert_eq!(server.join(&leases, "c", 2 * TTL).await, 2);
        assert_eq!(leases.all().len(), 2);
    }

    #[tokio::test]
    async fn a_forgotten_lease_is_replaced_and_stays_our_own() {
        let (server, leases) = (Server(AtomicI64::new(0)), Leases::default());
        let first = server.join(&leases, "a", TTL).await;
        leases.forget(first);
        assert_eq!(server.join(&leases, "a", TTL).await, 2);
        assert!(leases.is_own(first) && leases.is_own(2) && !leases.is_own(3));
    }

    #[tokio::test]
    async fn a_full_lease_takes_no_more_until_a_record_leaves() {
        let (server, leases) = (Server(AtomicI64::new(0)), Leases::default());
        for number in 0..FULL {
            assert_eq!(server.join(&leases, &number.to_string(), TTL).await, 1);
        }
        assert_eq!(server.join(&leases, "0", TTL).await, 1);
        assert_eq!(server.join(&leases, "one more", TTL).await, 2);
        leases.leave("0");
        assert_eq!(server.join(&leases, "another", TTL).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn doubtful_records_come_up_once_they_have_settled() {
        let leases = Leases::default();
        leases.doubt("a".into());
        assert_eq!(leases.settled(), None);
        tokio::time::advance(SETTLED).await;
        assert_eq!(leases.settled().as_deref(), Some("a"));
        leases.cleared("a");
        assert_eq!(leases.settled(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_is_doubted_again_is_kept_once_and_settles_later() {
        let leases = Leases::default();
        for _ in 0..1_000 {
            leases.doubt("a".into());
        }
        leases.doubt("b".into());
        assert_eq!(leases.table().doubtful.len(), 2);
        tokio::time::advance(SETTLED / 2).await;
        leases.doubt("a".into());
        tokio::time::advance(SETTLED / 2).await;
        assert_eq!(leases.settled().as_deref(), Some("b"));
        leases.cleared("b");
        assert_eq!(leases.settled(), None);
        tokio::time::advance(SETTLED / 2).await;
        assert_eq!(leases.settled().as_deref(), Some("a"));
    }
}
