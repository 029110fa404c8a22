//! A store: what stands in for the registry's server, with its tools and its faults.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use discox_core::{Error, ErrorKind, Result, backend::lock, record::Service};
use tokio::sync::watch;

use crate::topic::{Stored, Topic};

/// A store of this process, as its operator sees it: reads and writes records by hand, and makes
/// the failures that real registries have. Cheap to clone; clones are the same store.
///
/// No method blocks or needs a runtime.
///
/// ```
/// let store = discox_memory::store("docs");
/// store.put("/prefix", "demo", "10.0.0.1:80", "by hand")?;
/// assert_eq!(store.list("/prefix", "demo")?[0].0, "10.0.0.1:80");
/// # Ok::<(), discox_memory::Error>(())
/// ```
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    name: String,
    topics: Mutex<HashMap<Service, Topic>>,
    condition: watch::Sender<Condition>,
    /// Counts records that come and go.
    changes: watch::Sender<u64>,
    sessions: AtomicU64,
    links: AtomicUsize,
}

/// Whether and how the store serves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Condition {
    /// Links of an earlier epoch are lost.
    pub(crate) epoch: u64,
    /// Refuses connections.
    pub(crate) failing: bool,
    /// Accepts and does not answer.
    pub(crate) hung: bool,
}

/// The store that `memory://NAME` names; the empty name is the one that all handles without a name
/// share. It is made when it does not exist yet.
pub fn store(name: &str) -> Store {
    static DEFAULT: OnceLock<Store> = OnceLock::new();
    static NAMED: Mutex<Option<HashMap<String, Weak<Inner>>>> = Mutex::new(None);
    if name.is_empty() {
        return DEFAULT.get_or_init(|| Store::new(name)).clone();
    }
    let mut named = lock(&NAMED);
    let named = named.get_or_insert_default();
    if let Some(known) = named.get(name).and_then(Weak::upgrade) {
        return Store(known);
    }
    named.retain(|_, store| store.strong_count() > 0);
    let store = Store::new(name);
    named.insert(name.to_owned(), Arc::downgrade(&store.0));
    store
}

impl Store {
    /// Writes a record by hand, owned by nobody. The endpoint is not checked, so that records that
    /// nobody can read can be made too.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the prefix or the service name is impossible.
    pub fn put(&self, prefix: &str, service: &str, endpoint: &str, attr: impl Into<Bytes>) -> Result<()> {
        let stored = Stored { attr: attr.into(), owner: None };
        self.topic(&Service::parse(prefix, service)?, |topic| topic.put(endpoint, stored));
        Ok(())
    }

    /// Removes a record, whoever owns it, and says whether there was one.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn delete(&self, prefix: &str, service: &str, endpoint: &str) -> Result<bool> {
        Ok(self.topic(&Service::parse(prefix, service)?, |topic| topic.delete(endpoint)))
    }

    /// The attr of a record.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn read(&self, prefix: &str, service: &str, endpoint: &str) -> Result<Option<Bytes>> {
        let service = Service::parse(prefix, service)?;
        Ok(self.topic(&service, |topic| topic.get(endpoint).map(|stored| stored.attr.clone())))
    }

    /// All records of a service, sorted by endpoint.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn list(&self, prefix: &str, service: &str) -> Result<Vec<(String, Bytes)>> {
        let list = self.topic(&Service::parse(prefix, service)?, Topic::list);
        let mut list: Vec<_> =
            list.into_iter().map(|(endpoint, attr)| (endpoint.to_string(), attr)).collect();
        list.sort_unstable();
        Ok(list)
    }

    /// As if the server were killed (`true`): connections are lost and refused, records stay. And
    /// started again (`false`): every record has its whole TTL to be confirmed in.
    pub fn fail(&self, failing: bool) {
        self.renew_unless(failing);
        self.0.condition.send_modify(|condition| {
            condition.epoch += u64::from(failing);
            condition.failing = failing;
        });
    }

    /// As if the server hung (`true`): it accepts and does not answer. And went on (`false`).
    pub fn hang(&self, hung: bool) {
        self.renew_unless(hung);
        self.0.condition.send_modify(|condition| condition.hung = hung);
    }

    /// As if the server were restarted without its data: all records are gone, connections are lost.
    pub fn wipe(&self) {
        self.0.condition.send_modify(|condition| condition.epoch += 1);
        self.topics().clear();
    }

    /// Forgets the history of changes: every watch must read its list again.
    pub fn compact(&self) {
        self.topics().values_mut().for_each(Topic::compact);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.0.links.load(Ordering::Relaxed)
    }

    fn new(name: &str) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            topics: Mutex::default(),
            condition: watch::Sender::default(),
            changes: watch::Sender::default(),
            sessions: AtomicU64::new(1),
            links: AtomicUsize::new(0),
        }))
    }

    fn renew_unless(&self, out_of_service: bool) {
        if !out_of_service {
            self.topics().values_mut().for_each(Topic::renew);
        }
    }

    pub(crate) fn topic<T>(&self, service: &Service, work: impl FnOnce(&mut Topic) -> T) -> T {
        let mut topics = self.topics();
        let topic = topics.entry(service.clone()).or_default();
        let before = topic.len();
        let done = work(topic);
        if topic.len() != before {
            self.0.changes.send_modify(|changes| *changes += 1);
        }
        done
    }

    /// Resolves when a record has come or gone by a request: not when it has expired.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    pub(crate) fn topics(&self) -> MutexGuard<'_, HashMap<Service, Topic>> {
        lock(&self.0.topics)
    }

    pub(crate) fn condition(&self) -> watch::Receiver<Condition> {
        self.0.condition.subscribe()
    }

    pub(crate) fn place(&self) -> String {
        format!("memory://{}", self.0.name)
    }

    /// Counts a connection, and gives it a number of its own.
    pub(crate) fn enter(&self) -> u64 {
        self.0.links.fetch_add(1, Ordering::Relaxed);
        self.0.sessions.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn leave(&self) {
        self.0.links.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Condition {
    /// Whether a link of this epoch is in use.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when it is lost.
    pub(crate) fn serves(&self, epoch: u64) -> Result<()> {
        if self.failing {
            Err(Error::new(ErrorKind::Unavailable, "the store was told to fail"))
        } else if self.epoch != epoch {
            Err(Error::new(ErrorKind::Unavailable, "the store was told to lose its connections"))
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = *self.0.condition.borrow();
        f.debug_struct("Store")
            .field("name", &self.0.name)
            .field("condition", &condition)
            .finish_non_exhaustive()
    }
}
