//! Configuration into a session, and what keeps it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, Once, OnceLock},
    time::Duration,
};

use discox_core::{
    BackendType, ConnectionConfig, Error, Result,
    backend::{Files, Liveness, WarnOnce, lock},
    record::Service,
};
use tokio::time::timeout;
use tracing::warn;

use crate::{
    Zookeeper,
    acl::Acls,
    address::Address,
    client::{self, Dialler, Fault, Options},
    security::{self, Security},
};

/// The session timeout that is asked for when nobody says otherwise: three heart beats by default.
const SESSION_TIMEOUT: Duration = Duration::from_secs(15);

/// A shorter session would not survive a pause of a busy machine.
const SHORTEST_SESSION: Duration = Duration::from_secs(1);

/// Servers grant far less.
const LONGEST_SESSION: Duration = Duration::from_secs(3600);

/// Earlier sessions that are remembered. Far older ones have expired.
const SESSIONS: usize = 32;

/// Services whose unreadable records are remembered: after that, they may be told again.
const SERVICES: usize = 10_000;

/// Where ZooKeeper is, and what outlives one session.
#[derive(Debug)]
pub struct Connector {
    pub(crate) address: Address,
    pub(crate) settings: ConnectionConfig,
    pub(crate) acls: Acls,
    /// The session timeout that the first registration asks for.
    asked: OnceLock<Duration>,
    /// Own sessions, the newest last: a record that one of them owns is ours.
    sessions: Mutex<VecDeque<i64>>,
    files: Files,
    /// The client crate's, with the last session, which may still be alive.
    pub(crate) dialler: Box<dyn Dialler>,
    skips: Mutex<HashMap<Service, Arc<Mutex<WarnOnce>>>>,
    /// Health checks were said to be ignored.
    told: Once,
}

impl Connector {
    /// Parses the addresses of one or several members, the last with an optional chroot. No I/O;
    /// host names are resolved at each connection.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](discox_core::ErrorKind::Config), naming the address and what is wrong with it.
    pub fn parse(backend_endpoints: &[String], settings: &ConnectionConfig) -> Result<Self> {
        settings.check(BackendType::Zookeeper)?;
        let address = Address::parse(backend_endpoints)?;
        security::check(settings, &address)?;
        Ok(Self {
            address,
            settings: settings.clone(),
            acls: Acls::parse(settings)?,
            asked: OnceLock::new(),
            sessions: Mutex::default(),
            // An attempt has `connect_timeout` for each member: an error must come before that, to name the file.
            files: Files::new(settings.connect_timeout / 2),
            dialler: client::dialler(settings).map_err(|error| error.with_backend(BackendType::Zookeeper))?,
            skips: Mutex::default(),
            told: Once::new(),
        })
    }

    /// A registration wishes for this TTL. The first wish counts, unless the settings say otherwise.
    pub(crate) fn ask(&self, ttl: Duration) {
        self.asked.get_or_init(|| ttl);
    }

    /// The members' addresses and the chroot.
    pub(crate) fn place(&self) -> String {
        format!("{}{}", self.address.members.join(","), self.address.chroot)
    }

    /// Whether a session is this connection's, now or earlier.
    pub(crate) fn is_own(&self, session: i64) -> bool {
        lock(&self.sessions).contains(&session)
    }

    /// The unreadable records of a service that have been told, by whichever session.
    pub(crate) fn skips(&self, service: &Service) -> Arc<Mutex<WarnOnce>> {
        let new = || Arc::new(Mutex::new(WarnOnce::new(BackendType::Zookeeper, service.clone())));
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
        let options = self.options().await?;
        let client = match self.dialler.connect(&options).await {
            Ok(client) => client,
            Err(error) => return Err(self.why_refused(error, &options.security).await),
        };
        self.remember(client.session().id);
        // Only who has a quorum answers.
        client.sync("/").await?;
        Ok(Zookeeper { client, connector: self.clone() })
    }

    async fn options(&self) -> Result<Options> {
        let timeout =
            self.settings.zookeeper.session_timeout.or(self.asked.get().copied()).unwrap_or(SESSION_TIMEOUT);
        Ok(Options {
            members: self.address.members.clone(),
            // The client looks every eighth of it whether it is over.
            silence: self.settings.connect_timeout.min(self.settings.detection) * 8 / 9,
            session_timeout: timeout.clamp(SHORTEST_SESSION, LONGEST_SESSION),
            security: self.security().await?,
        })
    }

    /// Reads the files, if there are any, away from the runtime's threads.
    async fn security(&self) -> Result<Security> {
        let which = security::files(&self.settings);
        if which.is_empty() {
            return Security::read(&self.settings);
        }
        let settings = self.settings.clone();
        self.files.read(&which, move || Security::read(&settings)).await
    }

    fn remember(&self, session: i64) {
        let mut sessions = lock(&self.sessions);
        if !sessions.contains(&session) {
            sessions.push_back(session);
        }
        while sessions.len() > SESSIONS {
            sessions.pop_front();
        }
    }
}

impl Zookeeper {
    /// Resolves when the connection is lost or falls silent. The session may survive that: the next
    /// link goes on with it, by core's pauses rather than the client's, which double without end.
    pub(crate) async fn keep_alive(&self, liveness: &Liveness) -> Error {
        let error = tokio::select! {
            fault = self.client.broken() => fault.into(),
            error = self.beat(liveness) => error,
        };
        // From now on the session is another's.
        self.client.abandon();
        error
    }

    /// A request now and then, since the client does not tell of its pings. Resolves when there is
    /// no answer although the client believes that it is connected.
    async fn beat(&self, liveness: &Liveness) -> Error {
        loop {
            liveness.probe_due(liveness.detection() / 3).await;
            let limit = liveness.detection() / 2;
            match timeout(limit, self.client.sync("/")).await {
                Ok(Ok(()) | Err(Fault::Busy(_))) => liveness.answered(),
                // The state says so too.
                Ok(Err(Fault::Disconnected(_))) => {}
                Ok(Err(fault)) => return fault.into(),
                Err(_) => return Error::timed_out("probe", limit),
            }
        }
    }

    /// Closes the session for good.
    pub(crate) async fn end(&self) {
        self.connector.dialler.forget();
        self.client.close().await;
    }
}
