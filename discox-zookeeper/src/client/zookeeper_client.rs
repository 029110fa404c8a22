//! The seam on the crate `zookeeper-client`.
//!
//! What is fenced off here: the crate's own task would outlive its handle, by a session timeout when
//! the servers are gone; its watchers panic when polled after the end of that task; requests made
//! while it is disconnected pile up and are sent later, when nobody waits for them any more.

mod tasks;
mod watches;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use zookeeper_client::{
    Acls, AddWatchMode, Client as Inner, CreateMode, MultiReadResult, MultiWriteResult, SessionInfo,
    StateWatcher,
};

use self::tasks::Tasks;
pub(crate) use self::watches::{Events, Once, States};
use super::{Fault, Node, Op, Options, Stat, State};

/// How often a directory may come and go while it is asked for.
const RACES: usize = 5;

/// One session. Dropping it ends its task and its connection at once, and the session by its
/// timeout; [`Client::close`] ends the session too. It must not be dropped before its watches.
#[derive(Debug)]
pub(crate) struct Client {
    inner: Mutex<Option<Arc<Inner>>>,
    states: StateWatcher,
    tasks: Tasks,
    resume: Resume,
    session: i64,
    timeout: Duration,
}

/// What it takes to go on with a session by another client.
#[derive(Clone, Debug)]
pub(crate) struct Resume(SessionInfo);

impl Client {
    /// Tries each member once, in random order. Resuming fails with [`Fault::Expired`] when the
    /// session is no more.
    pub(crate) async fn connect(options: &Options, resume: Option<Resume>) -> Result<Self, Fault> {
        // TLS and credentials will be set here.
        let mut connector = Inner::connector()
            .with_session_timeout(options.session_timeout)
            .with_connection_timeout(options.silence)
            .with_fail_eagerly();
        if let Some(Resume(session)) = resume {
            connector = connector.with_session(session);
        }
        let tasks = Tasks::default();
        let inner = tasks.capture(connector.connect(&options.members.join(","))).await?;
        Ok(Self {
            states: inner.state_watcher(),
            tasks,
            resume: Resume(inner.session().clone()),
            session: inner.session_id().0,
            timeout: inner.session_timeout(),
            inner: Mutex::new(Some(Arc::new(inner))),
        })
    }

    /// The session's number, as in the nodes that it owns.
    pub(crate) fn session(&self) -> i64 {
        self.session
    }

    /// The session timeout that the servers granted.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// For [`Client::connect`], after this client has ended.
    pub(crate) fn resume(&self) -> Resume {
        self.resume.clone()
    }

    /// Follows the session's state.
    pub(crate) fn states(&self) -> States {
        States(self.states.clone())
    }

    /// Closes the session, and waits until the servers know or the connection is lost.
    pub(crate) async fn close(&self) {
        drop(self.inner.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut states = self.states();
        let lost = async {
            while !matches!(states.now(), State::Disconnected) {
                states.changed().await;
            }
        };
        tokio::select! {
            () = self.tasks.ended() => {}
            () = lost => {}
        }
    }

    /// Ends all traffic at once, but not the session, so that it can be resumed.
    pub(crate) fn abandon(&self) {
        self.tasks.freeze();
    }

    /// Reads one node.
    pub(crate) async fn get(&self, path: &str) -> Result<Node, Fault> {
        let (data, stat) = self.live()?.get_data(path).await?;
        Ok(Node { data: data.into(), stat: stat.into() })
    }

    /// Reads several nodes by one request, which servers before 3.6 do not know.
    pub(crate) async fn get_many(&self, paths: &[String]) -> Result<Vec<Result<Node, Fault>>, Fault> {
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

    /// Reads several nodes by as many requests, and sets a watch on each that exists.
    pub(crate) async fn watch_many(
        &self,
        paths: &[String],
    ) -> Result<Vec<Result<(Node, Once), Fault>>, Fault> {
        let inner = self.live()?;
        let answers = join_all(paths.iter().map(|path| inner.get_and_watch_data(path))).await;
        let nodes = answers.into_iter().map(|answer| match answer {
            Ok((data, stat, watcher)) => Ok((Node { data: data.into(), stat: stat.into() }, Once(watcher))),
            Err(error) => Err(error.into()),
        });
        Ok(nodes.collect())
    }

    /// The names of a directory's children.
    pub(crate) async fn children(&self, path: &str) -> Result<Vec<String>, Fault> {
        Ok(self.live()?.list_children(path).await?)
    }

    /// The names of a directory's children, and a watch for others; without the directory, no names
    /// and a watch for its creation.
    pub(crate) async fn watch_children(&self, path: &str) -> Result<(Option<Vec<String>>, Once), Fault> {
        let inner = self.live()?;
        for _ in 0..RACES {
            match inner.list_and_watch_children(path).await {
                Ok((names, watcher)) => return Ok((Some(names), Once(watcher))),
                Err(zookeeper_client::Error::NoNode) => {}
                Err(error) => return Err(error.into()),
            }
            if let (None, watcher) = inner.check_and_watch_stat(path).await? {
                return Ok((None, Once(watcher)));
            }
        }
        Err(Fault::NoNode)
    }

    /// Watches a directory, which need not exist, and all below it. Servers before 3.6 cannot.
    pub(crate) async fn watch(&self, path: &str) -> Result<Events, Fault> {
        Ok(self.live()?.watch(path, AddWatchMode::PersistentRecursive).await?.into())
    }

    /// Waits until the connected server has caught up with its leader.
    pub(crate) async fn sync(&self, path: &str) -> Result<(), Fault> {
        Ok(self.live()?.sync(path).await?)
    }

    /// Creates a node, ephemeral or persistent. It is readable and writable by everybody; rights
    /// will be set here.
    pub(crate) async fn create(&self, path: &str, data: &[u8], ephemeral: bool) -> Result<Stat, Fault> {
        let mode = if ephemeral { CreateMode::Ephemeral } else { CreateMode::Persistent };
        let (stat, _) = self.live()?.create(path, data, &mode.with_acls(Acls::anyone_all())).await?;
        Ok(stat.into())
    }

    /// Makes several changes together or not at all. Returns the transaction's number if one of them
    /// is a `Set`.
    pub(crate) async fn multi(&self, ops: &[Op<'_>]) -> Result<Option<i64>, Fault> {
        let inner = self.live()?;
        let mut writer = inner.new_multi_writer();
        for op in ops {
            match *op {
                Op::Check { path, version } => writer.add_check_version(path, version)?,
                Op::Create { path, data } => {
                    writer.add_create(path, data, &CreateMode::Ephemeral.with_acls(Acls::anyone_all()))?;
                }
                Op::Delete { path, version } => writer.add_delete(path, Some(version))?,
                Op::Set { path, data, version } => writer.add_set_data(path, data, version)?,
            }
        }
        let results = writer.commit().await.map_err(zookeeper_client::Error::from)?;
        Ok(results.into_iter().find_map(|result| match result {
            MultiWriteResult::SetData { stat } => Some(stat.mzxid),
            _ => None,
        }))
    }

    /// The client, if requests will be sent at once.
    fn live(&self) -> Result<Arc<Inner>, Fault> {
        match self.states().now() {
            State::Connected => {}
            State::Disconnected => return Err(Fault::Disconnected("not connected".into())),
            State::Ended(fault) => return Err(fault),
        }
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Fault::Closed)
    }
}

impl From<zookeeper_client::Stat> for Stat {
    fn from(stat: zookeeper_client::Stat) -> Self {
        Self { created: stat.czxid, version: stat.version, owner: stat.ephemeral_owner }
    }
}

impl From<zookeeper_client::Error> for Fault {
    fn from(error: zookeeper_client::Error) -> Self {
        use zookeeper_client::Error as E;
        match error {
            E::NoNode => Self::NoNode,
            E::NodeExists => Self::NodeExists,
            E::BadVersion => Self::BadVersion,
            E::NotEmpty => Self::NotEmpty,
            E::NoChildrenForEphemerals => Self::EphemeralParent,
            E::NoAuth => Self::Denied("no right to do this, see the node's ACL"),
            E::AuthFailed => Self::Denied("authentication failed"),
            E::InvalidAcl => {
                Self::Denied("the ACL is not acceptable: without credentials there is no creator")
            }
            E::Unimplemented => Self::Unimplemented,
            E::NoHosts => Self::NoMember,
            E::Timeout => Self::TimedOut,
            E::SessionExpired => Self::Expired,
            E::ClientClosed => Self::Closed,
            E::ConnectionLoss | E::SessionMoved | E::Custom(_) => Self::Disconnected(error.to_string()),
            E::NotReadOnly | E::Throttled => Self::Busy(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}
