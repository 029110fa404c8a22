//! A simulated registry on virtual time, with every fault that the loops in core must survive.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use discox_core::{
    BackendType, Error, ErrorKind, Result,
    backend::{Change, Held, Link, Loss, Pulse, Registered, Snapshot, Source, SourceOptions, Take, Watch},
    key::{Incarnation, Record, Service},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// How long a session outlives its last heart beat.
pub(crate) const SESSION: Duration = Duration::from_secs(6);
/// When a hung server is given up.
pub(crate) const DETECTION: Duration = Duration::from_secs(4);

/// The registry, and the network before it.
pub(crate) struct World {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    pub(crate) connects: AtomicU32,
    pub(crate) requests: AtomicU32,
}

#[derive(Default)]
struct State {
    net: Net,
    lose_answers: f64,
    revision: u64,
    compacted: u64,
    sessions: BTreeMap<u64, Instant>,
    records: BTreeMap<String, Stored>,
    log: Vec<(u64, String, Option<Bytes>)>,
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

impl World {
    /// Starts the registry; it expires sessions as long as anybody holds it.
    pub(crate) fn start() -> Arc<Self> {
        let world = Arc::new(Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            connects: AtomicU32::new(0),
            requests: AtomicU32::new(0),
        });
        let weak = Arc::downgrade(&world);
        tokio::spawn(async move {
            while let Some(world) = weak.upgrade() {
                world.expire();
                drop(world);
                sleep(Duration::from_millis(250)).await;
            }
        });
        world
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
        self.state().delete(key);
        self.touch();
    }

    pub(crate) fn put_by_hand(&self, key: &str, attr: &str) {
        self.state().put(key, Stored::by_hand(attr));
        self.touch();
    }

    pub(crate) fn end_all_sessions(&self) {
        let mut state = self.state();
        let all: Vec<_> = state.sessions.keys().copied().collect();
        all.into_iter().for_each(|session| state.end_session(session));
        drop(state);
        self.touch();
    }

    /// Endpoint and attr of every record of a service.
    pub(crate) fn content(&self, service: &Service) -> BTreeMap<String, Bytes> {
        let state = self.state();
        state.of(service).map(|(endpoint, stored)| (endpoint.to_owned(), stored.attr.clone())).collect()
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

    fn put(&mut self, key: &str, mut stored: Stored) -> u64 {
        self.revision += 1;
        stored.revision = self.revision;
        self.log.push((self.revision, key.to_owned(), Some(stored.attr.clone())));
        self.records.insert(key.to_owned(), stored);
        self.revision
    }

    fn delete(&mut self, key: &str) {
        if self.records.remove(key).is_some() {
            self.revision += 1;
            self.log.push((self.revision, key.to_owned(), None));
        }
    }

    fn end_session(&mut self, session: u64) {
        self.sessions.remove(&session);
        let keys: Vec<_> =
            self.records.iter().filter(|(_, r)| r.session == Some(session)).map(|(k, _)| k.clone()).collect();
        keys.iter().for_each(|key| self.delete(key));
    }
}

/// The backend of the simulated registry.
pub(crate) struct SimLink {
    world: Arc<World>,
    session: u64,
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
        let session = fastrand::u64(..);
        let connecting = world.ask(|state| {
            state.sessions.insert(session, Instant::now() + SESSION);
            Ok(())
        });
        timeout(Duration::from_secs(2), connecting)
            .await
            .unwrap_or_else(|_| Err(Error::timed_out("connect", SESSION)))?;
        Ok(Self { world, session })
    }

    async fn keep(&self, pulse: &Pulse) -> Error {
        let mut changed = self.world.changed.subscribe();
        loop {
            let limit = pulse.detection() / 2;
            let probe = timeout(limit, self.world.ask(|state| Self::alive(state, self.session)));
            match probe.await {
                Ok(Ok(())) => pulse.beat(),
                Ok(Err(error)) => return error,
                Err(_) => return Error::timed_out("probe", limit),
            }
            let broken = |state: &State| {
                matches!(state.net, Net::Dead | Net::Partitioned)
                    || !state.sessions.contains_key(&self.session)
            };
            let next_probe = Instant::now() + limit;
            loop {
                if broken(&self.world.state()) {
                    return Error::new(ErrorKind::Unavailable, "connection reset");
                }
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(next_probe) => break,
                    () = pulse.suspected() => break,
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
        let _ = self.world.ask(end).await;
    }

    fn source(self: &Arc<Self>, service: &Service, _: &SourceOptions) -> SimSource {
        SimSource { world: self.world.clone(), service: service.clone() }
    }

    async fn register(&self, record: &Record, attr: &str, take: Take) -> Result<Registered<u64>> {
        let stored = Stored {
            session: Some(self.session),
            incarnation: Some(record.incarnation),
            ..Stored::by_hand(attr)
        };
        let receipt = self.world.ask(|state| {
            Self::alive(state, self.session)?;
            let foreign = state.records.get(&**record.key()).and_then(|found| found.incarnation);
            if take == Take::Back && foreign.is_some_and(|foreign| foreign != record.incarnation) {
                return Err(Error::new(ErrorKind::Superseded, "held by another"));
            }
            Ok(state.put(record.key(), stored))
        });
        Ok(Registered { receipt: receipt.await?, ttl: SESSION })
    }

    async fn withdraw(&self, record: &Record, _: Option<&u64>) -> Result<()> {
        let delete = |state: &mut State| {
            let key = &**record.key();
            if state.records.get(key).is_some_and(|found| found.incarnation == Some(record.incarnation)) {
                state.delete(key);
            }
            Ok(())
        };
        self.world.ask(delete).await
    }

    async fn verify(&self, held: &[Held<u64>]) -> Result<Vec<(usize, Loss)>> {
        let verify = |state: &mut State| {
            Self::alive(state, self.session)?;
            state.sessions.insert(self.session, Instant::now() + SESSION);
            let loss = |held: &Held<u64>| match state.records.get(&**held.record.key()) {
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

    async fn open(&self) -> Result<(Snapshot, SimWatch)> {
        let read = |state: &mut State| {
            let list =
                state.of(&self.service).map(|(endpoint, stored)| (Arc::from(endpoint), stored.attr.clone()));
            Ok((list.collect(), state.revision))
        };
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
    fn ready(&mut self) -> Result<Vec<Change>> {
        let world = self.world.clone();
        let state = world.state();
        match state.net {
            Net::Fine => {}
            Net::Hung => return Ok(Vec::new()),
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
        Ok(changes)
    }
}

impl Watch for SimWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        let mut changed = self.world.changed.subscribe();
        loop {
            let changes = self.ready()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            let _ = changed.changed().await;
        }
    }
}
