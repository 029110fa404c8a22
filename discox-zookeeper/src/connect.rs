//! Configuration into a session, and what keeps it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use discox_core::{
    BackendType, ConnectionConfig, Error, ErrorKind, Result,
    backend::{Pulse, Skips},
    key::Service,
};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::{
    Zookeeper,
    address::Address,
    client::{Client, Fault, Options, Resume, State},
};

/// The session timeout that is asked for when nobody says otherwise: three heart beats by default.
const SESSION_TIMEOUT: Duration = Duration::from_secs(15);

/// A shorter session would not survive a pause of a busy machine.
pub(crate) const SHORTEST_SESSION: Duration = Duration::from_secs(1);

/// The client's own pauses between attempts double without end. After four of them core connects
/// anew, with its own pauses and the same session.
const PATIENCE: Duration = Duration::from_secs(1);

/// Earlier sessions that are remembered. Far older ones have expired.
const SESSIONS: usize = 32;

/// Services whose unreadable records are remembered: after that, they may be told again.
const SERVICES: usize = 10_000;

/// Where ZooKeeper is, and what outlives one session.
#[derive(Debug)]
pub struct Connector {
    pub(crate) address: Address,
    options: Options,
    detection: Duration,
    /// Own sessions, the newest last: a record that one of them owns is ours.
    sessions: Mutex<VecDeque<i64>>,
    /// The last session, which may still be alive.
    resume: Mutex<Option<Resume>>,
    /// The servers know neither multi-read nor recursive watches.
    old_servers: AtomicBool,
    skips: Mutex<HashMap<Service, Arc<Mutex<Skips>>>>,
    /// Health checks were said to be ignored.
    told: Once,
}

impl Connector {
    /// Parses the addresses of one or several members, the last with an optional chroot. No I/O;
    /// host names are resolved at each connection.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the address and what is wrong with it.
    pub fn parse(backend_endpoints: &[String], settings: &ConnectionConfig) -> Result<Self> {
        settings.check()?;
        let address = Address::parse(backend_endpoints)?;
        let options = Options {
            members: address.members.clone(),
            // The client looks every eighth of it whether it is over.
            silence: settings.connect_timeout.min(settings.detection) * 8 / 9,
            session_timeout: settings.session_timeout.unwrap_or(SESSION_TIMEOUT).max(SHORTEST_SESSION),
        };
        Ok(Self {
            address,
            options,
            detection: settings.detection,
            sessions: Mutex::default(),
            resume: Mutex::default(),
            old_servers: AtomicBool::new(false),
            skips: Mutex::default(),
            told: Once::new(),
        })
    }

    /// The members' addresses and the chroot.
    pub(crate) fn place(&self) -> String {
        format!("{}{}", self.address.members.join(","), self.address.chroot)
    }

    /// Whether the servers lack what came with 3.6: multi-read and recursive watches.
    pub(crate) fn has_old_servers(&self) -> bool {
        self.old_servers.load(Ordering::Relaxed)
    }

    /// Takes notice if an answer says that the servers lack that.
    pub(crate) fn notice<T>(&self, answer: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(Fault::Unimplemented) = answer {
            info!(backend = %BackendType::Zookeeper, at = self.place(), "servers older than 3.6: slower lists and watches");
            self.old_servers.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Whether a session is this connection's, now or earlier.
    pub(crate) fn is_own(&self, session: i64) -> bool {
        lock(&self.sessions).contains(&session)
    }

    /// How long a client that lost its connection may look for a member by itself.
    fn patience(&self) -> Duration {
        let silence = self.options.silence;
        // Time for one member that is silent too.
        let others = if self.options.members.len() > 1 { silence * 9 / 8 } else { Duration::ZERO };
        // The silence that has been noticed lasted up to 9/8 of it.
        (PATIENCE + others).min(self.detection.saturating_sub(silence * 5 / 4))
    }

    /// The unreadable records of a service that have been told, by whichever session.
    pub(crate) fn skips(&self, service: &Service) -> Arc<Mutex<Skips>> {
        let new = || Arc::new(Mutex::new(Skips::new(BackendType::Zookeeper, service.clone())));
        let mut skips = lock(&self.skips);
        if skips.len() >= SERVICES {
            skips.clear();
        }
        skips.entry(service.clone()).or_insert_with(new).clone()
    }

    /// Says once that ZooKeeper runs no health checks.
    pub(crate) fn tell_no_health_checks(&self) {
        self.told.call_once(|| {
            warn!(backend = %BackendType::Zookeeper, "health_check_endpoint is ignored: ZooKeeper runs no checks");
        });
    }

    /// Goes on with the last session if it is still alive, which keeps all that is registered by it,
    /// or begins a new one.
    pub(crate) async fn connect(self: &Arc<Self>) -> Result<Zookeeper> {
        let last = lock(&self.resume).clone();
        let client = match Client::connect(&self.options, last.clone()).await {
            Err(Fault::Expired) if last.is_some() => {
                self.forget_session();
                Client::connect(&self.options, None).await?
            }
            client => client?,
        };
        self.remember(&client);
        self.probe(&client).await?;
        Ok(Zookeeper { client, connector: self.clone() })
    }

    /// The next connection begins a new session.
    pub(crate) fn forget_session(&self) {
        *lock(&self.resume) = None;
    }

    fn remember(&self, client: &Client) {
        *lock(&self.resume) = Some(client.resume());
        let mut sessions = lock(&self.sessions);
        if !sessions.contains(&client.session()) {
            sessions.push_back(client.session());
        }
        while sessions.len() > SESSIONS {
            sessions.pop_front();
        }
    }

    /// Asks the leader, and finds out whether the servers know multi-read. Those before 3.6 answer
    /// that they do not, and hang up; the session goes on.
    async fn probe(&self, client: &Client) -> Result<()> {
        client.sync("/").await?;
        if self.has_old_servers() {
            return Ok(());
        }
        let mut states = client.states();
        match self.notice(client.get_many(&["/".to_owned()]).await) {
            Err(Fault::Unimplemented) => {
                while matches!(states.now(), State::Connected) {
                    states.changed().await;
                }
                Ok(client.connected().await?)
            }
            answer => Ok(answer.map(drop)?),
        }
    }
}

impl Zookeeper {
    /// Probes the session, and resolves when it is over or nobody takes it back. While the client
    /// looks for another member the session may survive, and with it this link.
    pub(crate) async fn keep_alive(&self, pulse: &Pulse) -> Error {
        let mut states = self.client.states();
        let mut connected = true;
        loop {
            match states.now() {
                State::Ended(fault) => return fault.into(),
                State::Connected => {
                    if !connected {
                        info!(backend = %BackendType::Zookeeper, at = self.connector.place(), "connected again, the session goes on");
                        pulse.beat();
                        pulse.verify();
                    }
                    tokio::select! {
                        error = self.beat(pulse) => return self.give_up(error),
                        () = states.changed() => {}
                    }
                }
                State::Disconnected => {
                    info!(backend = %BackendType::Zookeeper, at = self.connector.place(), "connection lost, looking for a member that takes the session back");
                    if timeout(self.connector.patience(), states.changed()).await.is_err() {
                        let error = Error::new(ErrorKind::Unavailable, "no member takes the session back");
                        return self.give_up(error);
                    }
                }
            }
            // Also when the state is connected again already.
            connected = false;
        }
    }

    /// A request now and then, since the client does not tell of its pings. Resolves when there is
    /// no answer although the client believes that it is connected.
    async fn beat(&self, pulse: &Pulse) -> Error {
        let limit = self.connector.detection / 2;
        loop {
            tokio::select! {
                () = sleep(self.connector.detection / 3) => {}
                () = pulse.suspected() => {}
            }
            match timeout(limit, self.client.sync("/")).await {
                Ok(Ok(()) | Err(Fault::Busy(_))) => pulse.beat(),
                // The state says so too.
                Ok(Err(Fault::Disconnected(_))) => {}
                Ok(Err(fault)) => return fault.into(),
                Err(_) => return Error::timed_out("probe", limit),
            }
        }
    }

    /// The next link goes on with the session, if somebody takes it: this one must not.
    fn give_up(&self, error: Error) -> Error {
        self.client.abandon();
        error
    }

    /// Closes the session for good.
    pub(crate) async fn end(&self) {
        self.connector.forget_session();
        self.client.close().await;
    }
}

/// A lock for the moment: nobody panics while holding it, and if so the data is still fine.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
