//! A simulated registry on virtual time, with every fault that the loops in core must survive.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use discox_core::{
    BackendType, Cause, Denial, Error, ErrorKind, Result,
    backend::{
        Change, Held, Link, Listing, Liveness, Loss, Registered, Replace, Source, SourceOptions, Watch,
        WhyGone,
    },
    record::{Incarnation, Prefix, Record, Service},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

/// How long a session outlives its last heart beat.
pub(crate) const SESSION: Duration = Duration::from_secs(6);
/// How often a quiet watch confirms that nothing has changed.
pub(crate) const CONFIRM: Duration = Duration::from_secs(1);
/// When a hung server is given up.
pub(crate) const DETECTION: Duration = Duration::from_secs(4);

/// The registry, and the network before it.
pub(crate) struct World {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    pub(crate) connects: AtomicU32,
    pub(crate) requests: AtomicU32,
    links: AtomicU32,
}

#[derive(Default)]
struct State {
    net: Net,
    /// Watches report nothing, while everything else is well.
    watches_stuck: bool,
    /// Happens once.
    fault: Option<Fault>,
    lose_answers: f64,
    revision: u64,
    compacted: u64,
    sessions: BTreeMap<u64, Instant>,
    records: BTreeMap<String, Stored>,
    denied: BTreeSet<String>,
    /// The call in which the client panics.
    panics_in: Option<&'static str>,
    /// How long a call takes, beside the usual.
    delays: BTreeMap<&'static str, Duration>,
    log: Vec<(u64, String, Option<Bytes>)>,
    /// Why each key went last.
    gone: BTreeMap<String, Cause>,
}

#[derive(Clone, Debug)]
struct Stored {
    session: Option<u64>,
    incarnation: Option<Incarnation>,
    attr: Bytes,
    revision: u64,
}

/// What a client gets when it asks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Net {
    #[default]
    Fine,
    /// Refused; the server is dead and no session expires.
    Dead,
    /// Refused; the server lives and sessions expire.
    Partitioned,
    /// Nothing is answered.
    Hung,
    /// It lives, and does not let us in.
    Closed,
}

/// What goes wrong in a client crate, once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    OpenPanics,
    WatchPanics,
    /// A watch ends, while the connection is well.
    WatchFails,
}

impl World {
    /// Starts the registry on this runtime.
    pub(crate) fn start() -> Arc<Self> {
        let world = Arc::new(Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            connects: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            links: AtomicU32::new(0),
        });
        world.run();
        world
    }

    /// Expires sessions, as long as anybody holds it, or to the end of this runtime.
    pub(crate) fn run(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(world) = weak.upgrade() {
                world.expire();
                drop(world);
                sleep(Duration::from_millis(250)).await;
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn touch(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    pub(crate) fn net(&self, net: Net) {
        let mut state = self.state();
        state.net = net;
        if net == Net::Fine {
            // Leases and sessions start anew with a restarted server.
            let renewed = Instant::now() + SESSION;
            state.sessions.values_mut().for_each(|expires| *expires = renewed.max(*expires));
        }
        drop(state);
        self.touch();
    }

    /// The chance that an answer is lost after the request was carried out.
    pub(crate) fn lose_answers(&self, chance: f64) {
        self.state().lose_answers = chance;
    }

    /// What watches report is swallowed on the way (`true`), or comes again.
    pub(crate) fn stick_watches(&self, stuck: bool) {
        self.state().watches_stuck = stuck;
        self.touch();
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.state().fault = Some(fault);
        self.touch();
    }

    fn has_fault(&self, fault: Fault) -> bool {
        self.state().fault.take_if(|found| *found == fault).is_some()
    }

    /// All data and sessions are lost; only a dead server does that.
    pub(crate) fn wipe(&self) {
        let mut state = self.state();
        assert_eq!(state.net, Net::Dead);
        state.records.clear();
        state.sessions.clear();
        state.revision += 1;
        state.compacted = state.revision;
        state.log.clear();
    }

    pub(crate) fn compact(&self) {
        let mut state = self.state();
        state.revision += 1;
        state.compacted = state.revision;
        state.log.clear();
        drop(state);
        self.touch();
    }

    pub(crate) fn delete_by_hand(&self, key: &str) {
        self.state().delete(key, &Cause::Deleted);
        self.touch();
    }

    pub(crate) fn put_by_hand(&self, key: &str, attr: &str) {
        self.state().put(key, Stored::by_hand(attr));
        self.touch();
    }

    /// The client panics in every call of this name.
    pub(crate) fn panic_in(&self, call: Option<&'static str>) {
        self.state().panics_in = call;
        self.touch();
    }

    /// Every call of this name takes so long.
    pub(crate) fn delay(&self, call: &'static str, delay: Duration) {
        self.state().delays.insert(call, delay);
    }

    async fn enter(&self, call: &'static str) {
        let (panics, delay) = {
            let state = self.state();
            (state.panics_in == Some(call), state.delays.get(call).copied())
        };
        assert!(!panics, "a fault of the client crate in {call}");
        if let Some(delay) = delay {
            sleep(delay).await;
        }
    }

    /// Whether the record of this key may be kept, written and removed.
    pub(crate) fn deny(&self, key: &str, denied: bool) {
        let mut state = self.state();
        if denied {
            state.denied.insert(key.to_owned())
        } else {
            state.denied.remove(key)
        };
    }

    pub(crate) fn end_all_sessions(&self) {
        let mut state = self.state();
        let all: Vec<_> = state.sessions.keys().copied().collect();
        all.into_iter().for_each(|session| state.end_session(session));
        drop(state);
        self.touch();
    }

    /// Ends the session that a record is of.
    pub(crate) fn end_session_of(&self, key: &str) {
        let mut state = self.state();
        let session = state.records.get(key).and_then(|stored| stored.session);
        session.into_iter().for_each(|session| state.end_session(session));
        drop(state);
        self.touch();
    }

    /// Endpoint and attr of every record of a service.
    pub(crate) fn content(&self, service: &Service) -> BTreeMap<String, Bytes> {
        let state = self.state();
        state.of(service).map(|(endpoint, stored)| (endpoint.to_owned(), stored.attr.clone())).collect()
    }

    /// The attr of one record.
    pub(crate) fn attr_at(&self, key: &str) -> Option<String> {
        let state = self.state();
        state.records.get(key).map(|stored| String::from_utf8(stored.attr.to_vec()).unwrap())
    }

    pub(crate) fn sessions(&self) -> usize {
        self.state().sessions.len()
    }

    fn expire(&self) {
        let mut state = self.state();
        if matches!(state.net, Net::Fine | Net::Partitioned) {
            let now = Instant::now();
            let expired: Vec<_> = state
                .sessions
                .iter()
                .filter(|(_, expires)| **expires < now)
                .map(|(session, _)| *session)
                .collect();
            let any = !expired.is_empty();
            expired.into_iter().for_each(|session| state.end_session(session));
            drop(state);
            if any {
                self.touch();
            }
        }
    }

    /// One request: takes its time, fails or hangs with the network, may lose its answer.
    async fn ask<T>(&self, act: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_micros(fastrand::u64(100..3_000))).await;
        let mut changed = self.changed.subscribe();
        loop {
            match self.state().net {
                Net::Fine => break,
                Net::Dead | Net::Partitioned => return Err(Error::new(ErrorKind::Unavailable, "refused")),
                Net::Closed => return Err(Error::new(ErrorKind::Denied, "no entry")),
                Net::Hung => {}
            }
            let _ = changed.changed().await;
        }
        let (answer, lost) = {
            let mut state = self.state();
            let answer = act(&mut state);
            (answer, fastrand::f64() < state.lose_answers)
        };
        self.touch();
        sleep(Duration::from_micros(fastrand::u64(100..3_000))).await;
        if lost { Err(Error::new(ErrorKind::Unavailable, "the answer was lost")) } else { answer }
    }
}

impl Stored {
    fn by_hand(attr: &str) -> Self {
        Self { session: None, incarnation: None, attr: Bytes::copy_from_slice(attr.as_bytes()), revision: 0 }
    }
}

impl State {
    fn of<'a>(&'a self, service: &Service) -> impl Iterator<Item = (&'a str, &'a Stored)> {
        let directory = format!("{}/", service.directory());
        self.records.iter().filter_map(move |(key, stored)| Some((key.strip_prefix(&directory)?, stored)))
    }

    fn may_write(&self, record: &Record) -> Result<()> {
        let is_denied = self.denied.contains(&**record.key());
        if is_denied { Err(Error::denied(Denial::MissingRights, "no right to write")) } else { Ok(()) }
    }

    fn put(&mut self, key: &str, mut stored: Stored) -> u64 {
        self.revision += 1;
        stored.revision = self.revision;
        self.log.push((self.revision, key.to_owned(), Some(stored.attr.clone())));
        self.records.insert(key.to_owned(), stored);
        self.revision
    }

    fn delete(&mut self, key: &str, cause: &Cause) {
        if self.records.remove(key).is_some() {
            self.gone.insert(key.to_owned(), cause.clone());
            self.revision += 1;
            self.log.push((self.revision, key.to_owned(), None));
        }
    }

    fn end_session(&mut self, session: u64) {
        self.sessions.remove(&session);
        let keys: Vec<_> =
            self.records.iter().filter(|(_, r)| r.session == Some(session)).map(|(k, _)| k.clone()).collect();
        keys.iter().for_each(|key| self.delete(key, &Cause::SessionEnded));
    }
}

/// The backend of the simulated registry.
pub(crate) struct SimLink {
    world: Arc<World>,
    session: u64,
    member: u32,
}

impl SimLink {
    fn alive(state: &State, session: u64) -> Result<()> {
        let alive = state.sessions.contains_key(&session);
        if alive { Ok(()) } else { Err(Error::new(ErrorKind::Unavailable, "session expired")) }
    }
}

impl Link for SimLink {
    const BACKEND: BackendType = BackendType::Memory;
    const ATTR_LIMIT: usize = 1024;

    type Connector = Arc<World>;
    type Source = SimSource;
    type Names = SimNames;
    type Receipt = u64;

    fn place(_: &Arc<World>) -> String {
        "sim".into()
    }

    /// Whichever it connects to, it is the same world.
    fn members(_: &Arc<World>) -> usize {
        3
    }

    async fn connect(connector: &Arc<Arc<World>>) -> Result<Self> {
        let world: Arc<World> = (**connector).clone();
        world.connects.fetch_add(1, Ordering::Relaxed);
        world.enter("connect").await;
        let session = fastrand::u64(..);
        let connecting = world.ask(|state| {
            state.sessions.insert(session, Instant::now() + SESSION);
            Ok(())
        });
        timeout(Duration::from_secs(2), connecting)
            .await
            .unwrap_or_else(|_| Err(Error::timed_out("connect", SESSION)))?;
        let member = world.links.fetch_add(1, Ordering::Relaxed) % 3 + 1;
        Ok(Self { world, session, member })
    }

    /// A connection goes to the member after the last one.
    fn member(&self) -> Option<String> {
        Some(format!("member {}", self.member))
    }

    async fn keep(&self, liveness: &Liveness) -> Error {
        let mut changed = self.world.changed.subscribe();
        loop {
            self.world.enter("keep").await;
            let limit = liveness.detection() / 2;
            let probe = timeout(limit, self.world.ask(|state| Self::alive(state, self.session)));
            match probe.await {
                Ok(Ok(())) => liveness.answered(),
                Ok(Err(error)) => return error,
                Err(_) => return Error::timed_out("probe", limit),
            }
            let broken = |state: &State| {
                matches!(state.net, Net::Dead | Net::Partitioned)
                    || !state.sessions.contains_key(&self.session)
            };
            let next_probe = Instant::now() + limit;
            loop {
                if self.world.state().panics_in == Some("keep") {
                    break;
                }
                if broken(&self.world.state()) {
                    return Error::new(ErrorKind::Unavailable, "connection reset");
                }
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(next_probe) => break,
                    () = liveness.probe_asked() => break,
                    _ = changed.changed() => {}
                }
            }
        }
    }

    async fn close(&self) {
        let end = |state: &mut State| {
            state.end_session(self.session);
            Ok(())
        };
        self.world.enter("close").await;
        let _ = self.world.ask(end).await;
    }

    fn source(self: &Arc<Self>, service: &Service, _: &SourceOptions) -> SimSource {
        SimSource { world: self.world.clone(), service: service.clone() }
    }

    fn names(self: &Arc<Self>, prefix: &Prefix) -> SimNames {
        SimNames { world: self.world.clone(), directory: format!("{prefix}/"), known: None }
    }

    async fn register(&self, record: &Record, attr: &str, replace: Replace) -> Result<Registered<u64>> {
        self.world.enter("register").await;
        let stored = Stored {
            session: Some(self.session),
            incarnation: Some(record.incarnation),
            ..Stored::by_hand(attr)
        };
        let receipt = self.world.ask(|state| {
            Self::alive(state, self.session)?;
            state.may_write(record)?;
            let foreign = state.records.get(&**record.key()).and_then(|found| found.incarnation);
            if replace == Replace::OnlyOwn && foreign.is_some_and(|foreign| foreign != record.incarnation) {
                return Err(Error::new(ErrorKind::Superseded, "held by another"));
            }
            Ok(state.put(record.key(), stored))
        });
        Ok(Registered { receipt: receipt.await?, ttl: SESSION })
    }

    async fn withdraw(&self, record: &Record, _: Option<&u64>) -> Result<()> {
        self.world.enter("withdraw").await;
        let delete = |state: &mut State| {
            state.may_write(record)?;
            let key = &**record.key();
            if state.records.get(key).is_some_and(|found| found.incarnation == Some(record.incarnation)) {
                state.delete(key, &Cause::Deleted);
            }
            Ok(())
        };
        self.world.ask(delete).await
    }

    async fn verify(&self, held: &[Held<u64>]) -> Result<Vec<(usize, Loss)>> {
        self.world.enter("verify").await;
        let verify = |state: &mut State| {
            Self::alive(state, self.session)?;
            state.sessions.insert(self.session, Instant::now() + SESSION);
            let loss = |held: &Held<u64>| match state.records.get(&**held.record.key()) {
                _ if state.denied.contains(&**held.record.key()) => Some(Loss::Denied),
                None => Some(Loss::Gone),
                Some(found) if found.incarnation.is_some_and(|owner| owner != held.record.incarnation) => {
                    Some(Loss::Superseded)
                }
                Some(found) if found.session != Some(self.session) || found.attr != held.attr.as_bytes() => {
                    Some(Loss::Altered)
                }
                Some(_) => None,
            };
            Ok(held.iter().enumerate().filter_map(|(i, held)| Some((i, loss(held)?))).collect())
        };
        self.world.ask(verify).await
    }
}

pub(crate) struct SimSource {
    world: Arc<World>,
    service: Service,
}

impl Source for SimSource {
    type Watch = SimWatch;

    async fn open(&self) -> Result<(Listing, SimWatch)> {
        self.world.enter("open").await;
        let read = |state: &mut State| {
            let list =
                state.of(&self.service).map(|(endpoint, stored)| (Arc::from(endpoint), stored.attr.clone()));
            Ok((list.collect(), state.revision))
        };
        assert!(!self.world.has_fault(Fault::OpenPanics), "a client crate's fault");
        let (list, seen) = self.world.ask(read).await?;
        let directory = format!("{}/", self.service.directory());
        Ok((list, SimWatch { world: self.world.clone(), directory, seen }))
    }
}

pub(crate) struct SimWatch {
    world: Arc<World>,
    directory: String,
    seen: u64,
}

impl SimWatch {
    /// What has changed, or None when the registry does not say.
    fn ready(&mut self) -> Result<Option<Vec<Change>>> {
        let world = self.world.clone();
        assert!(!world.has_fault(Fault::WatchPanics), "a client crate's fault");
        if world.has_fault(Fault::WatchFails) {
            return Err(Error::new(ErrorKind::Unavailable, "the index went back"));
        }
        let state = world.state();
        match state.net {
            Net::Fine if !state.watches_stuck => {}
            Net::Fine | Net::Hung => return Ok(None),
            Net::Dead | Net::Partitioned | Net::Closed => {
                return Err(Error::new(ErrorKind::Unavailable, "watch cut off"));
            }
        }
        if state.compacted > self.seen {
            return Err(Error::new(ErrorKind::Stale, "compacted"));
        }
        let new = state.log.iter().filter(|(revision, ..)| *revision > self.seen);
        let changes = new.filter_map(|(_, key, attr)| {
            let endpoint: Arc<str> = key.strip_prefix(&self.directory)?.into();
            Some(match attr {
                Some(attr) => Change::Put(endpoint, attr.clone()),
                None => Change::Delete(endpoint),
            })
        });
        let changes = changes.collect();
        self.seen = state.revision;
        Ok(Some(changes))
    }
}

impl Watch for SimWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        let mut changed = self.world.changed.subscribe();
        // Changes elsewhere in the world must not put it off.
        let quiet_at = Instant::now() + CONFIRM;
        let mut quiet = false;
        loop {
            if let Some(changes) = self.ready()?
                && (quiet || !changes.is_empty())
            {
                return Ok(changes);
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = sleep_until(quiet_at), if !quiet => quiet = true,
            }
        }
    }

    fn why_gone(&mut self, endpoints: &[Arc<str>]) -> Option<WhyGone> {
        let (world, directory, endpoints) = (self.world.clone(), self.directory.clone(), endpoints.to_vec());
        Some(Box::pin(async move {
            world.enter("why").await;
            let gone = |endpoint: Arc<str>| {
                let cause = world.state().gone.get(&format!("{directory}{endpoint}")).cloned()?;
                Some((endpoint, cause))
            };
            endpoints.into_iter().filter_map(gone).collect()
        }))
    }
}

/// The names of services, as they are whenever it looks.
#[derive(Clone)]
pub(crate) struct SimNames {
    world: Arc<World>,
    directory: String,
    known: Option<BTreeSet<String>>,
}

impl SimNames {
    fn list(&mut self) -> Result<Option<Listing>> {
        let state = self.world.state();
        match state.net {
            Net::Fine => {}
            Net::Hung => return Ok(None),
            _ => return Err(Error::new(ErrorKind::Unavailable, "watch cut off")),
        }
        let below = state.records.keys().filter_map(|key| key.strip_prefix(&self.directory));
        let names: BTreeSet<_> =
            below.filter_map(|key| key.split_once('/')).map(|(name, _)| name.to_owned()).collect();
        let is_news = self.known.as_ref() != Some(&names);
        let list = names.iter().map(|name| (Arc::from(name.as_str()), Bytes::new())).collect();
        self.known = Some(names);
        Ok(is_news.then_some(list))
    }
}

impl Source for SimNames {
    type Watch = SimNames;

    async fn open(&self) -> Result<(Listing, SimNames)> {
        self.world.ask(|_| Ok(())).await?;
        let mut watch = self.clone();
        let list = watch.list()?.unwrap_or_default();
        Ok((list, watch))
    }
}

impl Watch for SimNames {
    async fn next(&mut self) -> Result<Vec<Change>> {
        let mut changed = self.world.changed.subscribe();
        loop {
            if let Some(list) = self.list()? {
                return Ok(vec![Change::Reset(list)]);
            }
            let _ = changed.changed().await;
        }
    }
}
