//! The seam on the crate `zookeeper-async`.
//!
//! What it cannot do is told by [`Fault::Unimplemented`] (recursive watches) or done by something
//! else: nodes are read one by one, changes that belong together are made one after the other, a
//! `sync` is a write that never succeeds. A session ends with its connection.

mod handle;
mod probe;
mod told;

use async_trait::async_trait;
use discox_core::{ConnectionConfig, Error, Result};
use futures_util::future::{BoxFuture, FutureExt, join_all, join3};
use tokio::{sync::oneshot, time::timeout};
use zookeeper_async::{Acl, CreateMode, Permission, WatchedEvent};

use self::handle::Handle;
use super::{Answer, Events, Fault, Node, Once, Op, Options, Session, Stat};
use crate::acl::{self, Rights};

/// How often a directory may come and go while it is asked for.
const RACES: usize = 5;

/// No node's data ever has this version.
const NO_VERSION: i32 = i32::MIN;

/// Nothing outlives a session here.
#[derive(Debug)]
pub(super) struct Dialler;

impl Dialler {
    /// Rejects what the crate cannot do.
    pub(super) fn new(settings: &ConnectionConfig) -> Result<Self> {
        let reject = |field, reason: &str| {
            let reason = format!("zookeeper-async {reason}, use the client `zookeeper-client`");
            Err(Error::config(field, "set", reason))
        };
        if settings.tls.is_some() {
            return reject("tls", "knows no TLS");
        }
        if settings.zookeeper.guard {
            return reject("zookeeper.guard", "cannot be told to go another way");
        }
        if settings.zookeeper.sasl {
            return reject("zookeeper.sasl", "knows no SASL");
        }
        if !told::is_compiled_in() {
            let lost = "tells its session only by a log line, which a feature of `tracing` takes out here \
                        (`max_level_…`, `release_max_level_…`)";
            return reject("zookeeper.client", lost);
        }
        Ok(Self)
    }
}

#[async_trait]
impl super::Dialler for Dialler {
    async fn connect(&self, options: &Options) -> Result<Box<dyn super::Client>> {
        let address = probe::serving(&options.members, options.silence).await?;
        // It has just answered, and now asks its quorum.
        let connected = timeout(2 * options.silence, Handle::connect(address, options)).await;
        Ok(Box::new(Client(connected.unwrap_or(Err(Fault::NoMember))?)))
    }

    fn forget(&self) {}
}

/// One connection.
struct Client(Handle);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("session", &self.0.session).finish_non_exhaustive()
    }
}

#[async_trait]
impl super::Client for Client {
    fn session(&self) -> Session {
        self.0.session
    }

    fn broken(&self) -> BoxFuture<'static, Fault> {
        self.0.broken().boxed()
    }

    fn abandon(&self) {
        self.0.end(Fault::Disconnected("given up".into()));
    }

    async fn close(&self) {
        // Answered as soon as it is sent, or never.
        let _ = self.0.ask(1, |zookeeper| async move { zookeeper.close().await }).await;
    }

    async fn read(&self, paths: &[String]) -> Answer<Vec<Answer<Node>>> {
        self.0.check()?;
        Ok(join_all(paths.iter().map(|path| self.read_one(path.clone()))).await)
    }

    async fn children(&self, path: &str) -> Answer<Vec<String>> {
        let path = path.to_owned();
        self.0.ask(1, |zookeeper| async move { zookeeper.get_children(&path, false).await }).await
    }

    async fn create(&self, path: &str, data: &[u8], acl: &[acl::Acl], ephemeral: bool) -> Answer<Stat> {
        let (path, data, acl) = (path.to_owned(), data.to_owned(), acls(acl));
        let mode = if ephemeral { CreateMode::Ephemeral } else { CreateMode::Persistent };
        let created =
            self.0.ask(1, |zookeeper| async move { zookeeper.create2(&path, data, acl, mode).await });
        Ok(created.await?.1.into())
    }

    async fn multi(&self, ops: &[Op<'_>]) -> Answer<Option<i64>> {
        let mut created = None;
        let mut rest = ops;
        loop {
            rest = match *rest {
                [] => return Ok(created),
                [Op::Delete { path, version }, Op::Create { data, acl, .. }, ref rest @ ..] => {
                    created = Some(self.replace(path, version, data, acl).await?.created);
                    rest
                }
                [op, ref rest @ ..] => {
                    self.single(op).await?;
                    rest
                }
            };
        }
    }

    async fn sync(&self, _path: &str) -> Answer<()> {
        // The leader refuses it in the order of all other writes, and the member tells us when it has
        // come that far.
        match self.set("/", b"", Some(NO_VERSION)).await {
            Ok(()) | Err(Fault::BadVersion | Fault::NoAuth) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    async fn watch(&self, _path: &str) -> Answer<Events> {
        Err(Fault::Unimplemented)
    }

    async fn watch_children(&self, path: &str) -> Answer<(Option<Vec<String>>, Once)> {
        for _ in 0..RACES {
            let (changed, once) = once();
            let asked = path.to_owned();
            let names =
                self.0.ask(1, |zookeeper| async move { zookeeper.get_children_w(&asked, changed).await });
            match names.await {
                Ok(names) => return Ok((Some(names), once)),
                Err(Fault::NoNode) => {}
                Err(fault) => return Err(fault),
            }
            let (created, once) = self::once();
            let asked = path.to_owned();
            let stat = self.0.ask(1, |zookeeper| async move { zookeeper.exists_w(&asked, created).await });
            if stat.await?.is_none() {
                return Ok((None, once));
            }
        }
        Err(Fault::NoNode)
    }

    async fn watch_many(&self, paths: &[String]) -> Answer<Vec<Answer<(Node, Once)>>> {
        self.0.check()?;
        Ok(join_all(paths.iter().map(|path| self.watch_one(path.clone()))).await)
    }
}

impl Client {
    async fn read_one(&self, path: String) -> Answer<Node> {
        let (data, stat) =
            self.0.ask(1, |zookeeper| async move { zookeeper.get_data(&path, false).await }).await?;
        Ok(Node { data: data.into(), stat: stat.into() })
    }

    async fn watch_one(&self, path: String) -> Answer<(Node, Once)> {
        let (changed, once) = once();
        let (data, stat) =
            self.0.ask(1, |zookeeper| async move { zookeeper.get_data_w(&path, changed).await }).await?;
        Ok((Node { data: data.into(), stat: stat.into() }, once))
    }

    async fn set(&self, path: &str, data: &[u8], version: Option<i32>) -> Answer<()> {
        let (path, data) = (path.to_owned(), data.to_owned());
        self.0.ask(1, |zookeeper| async move { zookeeper.set_data(&path, data, version).await }).await?;
        Ok(())
    }

    /// One change of several.
    async fn single(&self, op: Op<'_>) -> Answer<()> {
        match op {
            Op::Check { path, version } => {
                let path = path.to_owned();
                let stat = self.0.ask(1, |zookeeper| async move { zookeeper.exists(&path, false).await });
                match stat.await? {
                    None => Err(Fault::NoNode),
                    Some(stat) if stat.version != version => Err(Fault::BadVersion),
                    Some(_) => Ok(()),
                }
            }
            Op::Create { path, data, acl } => {
                super::Client::create(self, path, data, acl, true).await.map(drop)
            }
            Op::Delete { path, version } => {
                let path = path.to_owned();
                self.0.ask(1, |zookeeper| async move { zookeeper.delete(&path, Some(version)).await }).await
            }
            Op::Set { path, data, version } => self.set(path, data, version).await,
        }
    }

    /// Deletes a node and creates it anew. Both are to arrive at once, so that there is next to no time in
    /// between. The crate leaves Nagle's algorithm on, which would hold the second one back until the first
    /// is answered: behind a third one, it sends both together.
    async fn replace(&self, path: &str, version: i32, data: &[u8], acl: &[acl::Acl]) -> Answer<Stat> {
        let (path, data, acl) = (path.to_owned(), data.to_owned(), acls(acl));
        let replaced = self.0.ask(3, |zookeeper| async move {
            let ahead = zookeeper.exists("/", false);
            let delete = zookeeper.delete(&path, Some(version));
            let create = zookeeper.create2(&path, data, acl, CreateMode::Ephemeral);
            match join3(ahead, delete, create).await {
                // Also if somebody else deleted it.
                (_, _, Ok((_, stat))) => Ok(stat),
                (_, Err(error), Err(_)) | (_, Ok(()), Err(error)) => Err(error),
            }
        });
        Ok(replaced.await?.into())
    }
}

/// What to call when something has happened, and the wait for it. It ends with the client too.
fn once() -> (impl FnOnce(WatchedEvent) + Send + 'static, Once) {
    let (tell, told) = oneshot::channel();
    let once = async move { told.await.map_err(|_| Fault::Disconnected("the watch is lost with it".into())) };
    let tell = move |_event| {
        let _ = tell.send(());
    };
    (tell, once.boxed())
}

fn acls(acls: &[acl::Acl]) -> Vec<Acl> {
    acls.iter().map(|acl| Acl::new(permission(acl.rights), &*acl.scheme, &*acl.id)).collect()
}

fn permission(rights: Rights) -> Permission {
    [
        (Rights::READ, Permission::READ),
        (Rights::WRITE, Permission::WRITE),
        (Rights::CREATE, Permission::CREATE),
        (Rights::DELETE, Permission::DELETE),
        (Rights::ADMIN, Permission::ADMIN),
    ]
    .into_iter()
    .filter(|(right, _)| rights.contain(*right))
    .fold(Permission::NONE, |all, (_, permission)| all | permission)
}

impl From<zookeeper_async::Stat> for Stat {
    fn from(stat: zookeeper_async::Stat) -> Self {
        Self { created: stat.czxid, written: stat.mzxid, version: stat.version, owner: stat.ephemeral_owner }
    }
}
