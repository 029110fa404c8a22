//! The seam on the crate `zookeeper-client`.
//!
//! What is fenced off here: the crate's own task would outlive its handle, by a session timeout when
//! the servers are gone; its watchers panic when polled after the end of that task; requests made
//! while it is disconnected pile up and are sent later, when nobody waits for them any more.

mod answers;
mod names;
mod relay;
mod security;
mod tasks;
mod watches;

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use discox_core::{BackendType, ConnectionConfig, backend::lock};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use tracing::info;
use zookeeper_client::{
    Acls, AddWatchMode, Client as Inner, CreateMode, MultiReadResult, MultiWriteResult, SessionInfo,
    SessionState, StateWatcher,
};

use self::{
    names::reachable,
    relay::{Plan, Relay},
    tasks::Tasks,
};
use super::{Answer, Events, Fault, Node, Once, Op, Options, Session, Stat};
use crate::acl::Acl;

/// How often a directory may come and go while it is asked for.
const RACES: usize = 5;

/// How often a session is asked for where we log in and no relay holds the login back until there is one: see [`relay`].
/// In plain text servers answer in order, but for those that are set to use Netty there as well.
const OVERTAKEN: u32 = 8;

/// The last session, and what is known of the servers.
#[derive(Debug)]
pub(super) struct Dialler {
    plan: Option<Arc<Plan>>,
    last: Mutex<Option<SessionInfo>>,
    /// They know neither multi-read nor recursive watches, which came with 3.6.
    old_servers: Arc<AtomicBool>,
}

#[async_trait]
impl super::Dialler for Dialler {
    async fn connect(&self, options: &Options) -> discox_core::Result<Box<dyn super::Client>> {
        let mut client = self.resume(options).await?;
        if !client.has_old_servers()
            && let Err(fault) = client.read_together(&["/".to_owned()]).await
        {
            if fault != Fault::Unimplemented {
                return Err(fault.into());
            }
            info!(backend = %BackendType::Zookeeper, at = options.members.join(","), "servers older than 3.6: slower lists and watches");
            self.old_servers.store(true, Ordering::Relaxed);
            // They hang up after a request that they do not know.
            drop(client);
            client = self.resume(options).await?;
        }
        Ok(Box::new(client))
    }

    fn forget(&self) {
        *lock(&self.last) = None;
    }
}

impl Dialler {
    pub(super) fn new(settings: &ConnectionConfig) -> discox_core::Result<Self> {
        Ok(Self { plan: Plan::of(settings)?, last: Mutex::default(), old_servers: Arc::default() })
    }

    async fn resume(&self, options: &Options) -> Answer<Client> {
        let last = lock(&self.last).clone();
        let client = match self.session(options, last.clone()).await {
            Err(Fault::Expired) if last.is_some() => {
                super::Dialler::forget(self);
                self.session(options, None).await?
            }
            client => client?,
        };
        *lock(&self.last) = Some(client.info.clone());
        Ok(client)
    }

    async fn session(&self, options: &Options, last: Option<SessionInfo>) -> Answer<Client> {
        let is_overtaken = options.security.login.is_some() && self.plan.is_none();
        let tries = if is_overtaken { OVERTAKEN } else { 1 };
        let began = Instant::now();
        for _ in 1..tries {
            let answer = self.dial(options, last.clone()).await;
            let is_time_left = began.elapsed() < options.silence / 2;
            if !(is_time_left && matches!(answer, Err(Fault::NoMember))) {
                return answer;
            }
        }
        self.dial(options, last).await
    }

    async fn dial(&self, options: &Options, last: Option<SessionInfo>) -> Answer<Client> {
        let (tls, login) = (&options.security.tls, &options.security.login);
        let relay = match &self.plan {
            Some(plan) => Some(Relay::open(plan, &options.members, tls.as_ref()).await?),
            None => None,
        };
        let pass = self.plan.as_ref().and_then(|plan| plan.pass());
        let mut connector = security::connector(pass, login.as_ref())?
            .with_session_timeout(options.session_timeout)
            .with_connection_timeout(options.silence)
            .with_fail_eagerly();
        if let Some(session) = last {
            connector = connector.with_session(session);
        }
        let tasks = Tasks::default();
        let members = match &relay {
            Some(relay) => relay.members.join(","),
            None => reachable(&options.members).await.join(","),
        };
        let connected = if pass.is_some() {
            tasks.capture(connector.secure_connect(&members)).await
        } else {
            tasks.capture(connector.connect(&members)).await
        };
        // Also where another member has let us in: what the first one did is over.
        let why = relay.as_ref().and_then(|relay| relay.why().take());
        let inner = connected.map_err(|error| why.unwrap_or_else(|| error.into()))?;
        Ok(Client {
            states: inner.state_watcher(),
            tasks,
            relay: Mutex::new(relay),
            session: Session { id: inner.session_id().0, timeout: inner.session_timeout() },
            info: inner.session().clone(),
            inner: Mutex::new(Some(Arc::new(inner))),
            old_servers: self.old_servers.clone(),
        })
    }
}

/// One connection. It must not be dropped before its watches are polled for the last time.
#[derive(Debug)]
struct Client {
    inner: Mutex<Option<Arc<Inner>>>,
    /// It has seen the first state, and none since.
    states: StateWatcher,
    tasks: Tasks,
    relay: Mutex<Option<Relay>>,
    session: Session,
    info: SessionInfo,
    old_servers: Arc<AtomicBool>,
}

#[async_trait]
impl super::Client for Client {
    fn session(&self) -> Session {
        self.session
    }

    fn broken(&self) -> BoxFuture<'static, Fault> {
        let mut states = self.states.clone();
        let why = self.relay().as_ref().map(Relay::why);
        async move {
            states.changed().await;
            let why = why.and_then(|why| why.take());
            why.or_else(|| ended(states.state()))
                .unwrap_or_else(|| Fault::Disconnected("closed or silent".into()))
        }
        .boxed()
    }

    fn abandon(&self) {
        // In this order: nobody dials an address that may soon be another's.
        self.tasks.freeze();
        self.relay().take();
    }

    async fn close(&self) {
        drop(lock(&self.inner).take());
        let mut states = self.states.clone();
        let lost = async {
            while states.state() != SessionState::Disconnected {
                states.changed().await;
            }
        };
        tokio::select! {
            () = self.tasks.ended() => {}
            () = lost => {}
        }
        super::Client::abandon(self);
    }

    async fn read(&self, paths: &[String]) -> Answer<Vec<Answer<Node>>> {
        if !self.has_old_servers() {
            return self.read_together(paths).await;
        }
        let inner = self.live()?;
        let answers = join_all(paths.iter().map(|path| inner.get_data(path))).await;
        let nodes = answers.into_iter().map(|answer| match answer {
            Ok((data, stat)) => Ok(Node { data: data.into(), stat: stat.into() }),
            Err(error) => Err(error.into()),
        });
        Ok(nodes.collect())
    }

    async fn children(&self, path: &str) -> Answer<Vec<String>> {
        Ok(self.live()?.list_children(path).await?)
    }

    async fn create(&self, path: &str, data: &[u8], acl: &[Acl], ephemeral: bool) -> Answer<Stat> {
        let mode = if ephemeral { CreateMode::Ephemeral } else { CreateMode::Persistent };
        let acls = security::acls(acl);
        let (stat, _) = self.live()?.create(path, data, &mode.with_acls(Acls::new(&acls))).await?;
        Ok(stat.into())
    }

    async fn multi(&self, ops: &[Op<'_>]) -> Answer<Option<i64>> {
        let inner = self.live()?;
        let mut writer = inner.new_multi_writer();
        for op in ops {
            match *op {
                Op::Check { path, version } => writer.add_check_version(path, version)?,
                Op::Create { path, data, acl } => {
                    let acls = security::acls(acl);
                    writer.add_create(path, data, &CreateMode::Ephemeral.with_acls(Acls::new(&acls)))?;
                }
                Op::Delete { path, version } => writer.add_delete(path, Some(version))?,
                Op::Set { path, data, version } => writer.add_set_data(path, data, version)?,
            }
        }
        let results = writer.commit().await.map_err(zookeeper_client::Error::from)?;
        // All of them are one transaction, and only this result tells its number.
        Ok(results.into_iter().find_map(|result| match result {
            MultiWriteResult::SetData { stat } => Some(stat.mzxid),
            _ => None,
        }))
    }

    async fn sync(&self, path: &str) -> Answer<()> {
        Ok(self.live()?.sync(path).await?)
    }

    async fn watch(&self, path: &str) -> Answer<Events> {
        if self.has_old_servers() {
            return Err(Fault::Unimplemented);
        }
        Ok(watches::events(self.live()?.watch(path, AddWatchMode::PersistentRecursive).await?))
    }

    async fn watch_children(&self, path: &str) -> Answer<(Option<Vec<String>>, Once)> {
        let inner = self.live()?;
        for _ in 0..RACES {
            match inner.list_and_watch_children(path).await {
                Ok((names, watcher)) => return Ok((Some(names), watches::once(watcher))),
                Err(zookeeper_client::Error::NoNode) => {}
                Err(error) => return Err(error.into()),
            }
            if let (None, watcher) = inner.check_and_watch_stat(path).await? {
                return Ok((None, watches::once(watcher)));
            }
        }
        Err(Fault::NoNode)
    }

    async fn watch_many(&self, paths: &[String]) -> Answer<Vec<Answer<(Node, Once)>>> {
        let inner = self.live()?;
        let answers = join_all(paths.iter().map(|path| inner.get_and_watch_data(path))).await;
        let nodes = answers.into_iter().map(|answer| match answer {
            Ok((data, stat, watcher)) => {
                Ok((Node { data: data.into(), stat: stat.into() }, watches::once(watcher)))
            }
            Err(error) => Err(error.into()),
        });
        Ok(nodes.collect())
    }
}

impl Client {
    fn relay(&self) -> MutexGuard<'_, Option<Relay>> {
        lock(&self.relay)
    }

    fn has_old_servers(&self) -> bool {
        self.old_servers.load(Ordering::Relaxed)
    }

    /// By one request, which servers before 3.6 do not know.
    async fn read_together(&self, paths: &[String]) -> Answer<Vec<Answer<Node>>> {
        let inner = self.live()?;
        let mut reader = inner.new_multi_reader();
        for path in paths {
            reader.add_get_data(path)?;
        }
        let nodes = reader.commit().await?.into_iter().map(|result| match result {
            MultiReadResult::Data { data, stat } => Ok(Ok(Node { data: data.into(), stat: stat.into() })),
            MultiReadResult::Error { err } => Ok(Err(err.into())),
            _ => Err(Fault::Other("a multi-read answered something else than data".into())),
        });
        let nodes = nodes.collect::<Result<Vec<_>, Fault>>()?;
        if nodes.len() != paths.len() {
            return Err(Fault::Other("a multi-read answered another number of nodes".into()));
        }
        Ok(nodes)
    }

    /// The client, if requests will be sent at once.
    fn live(&self) -> Answer<Arc<Inner>> {
        match self.states.clone().state() {
            SessionState::SyncConnected => {}
            state => {
                return Err(ended(state).unwrap_or_else(|| Fault::Disconnected("not connected".into())));
            }
        }
        lock(&self.inner).clone().ok_or(Fault::Closed)
    }
}

/// Why a session is over for good, if it is in this state.
fn ended(state: SessionState) -> Option<Fault> {
    match state {
        SessionState::AuthFailed => Some(Fault::AuthFailed),
        SessionState::Closed => Some(Fault::Closed),
        SessionState::Expired => Some(Fault::Expired),
        SessionState::ConnectedReadOnly | SessionState::Disconnected | SessionState::SyncConnected => None,
    }
}
