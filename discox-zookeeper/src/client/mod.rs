//! The seam between this crate and a ZooKeeper client crate: one file for each client crate, which
//! fences off what that crate does badly. Nothing beyond this folder names a client crate.

#[cfg(feature = "zookeeper-async")]
mod zookeeper_async;
#[cfg(feature = "zookeeper-client")]
mod zookeeper_client;

#[cfg(not(any(feature = "zookeeper-async", feature = "zookeeper-client")))]
compile_error!(
    "discox-zookeeper stands on a client crate: enable its feature `zookeeper-client` (the default) or `zookeeper-async`"
);

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use discox_core::{ClientCrate, ConnectionConfig, Error, Result, backend::Exceeded};
use futures_util::{future::BoxFuture, stream::BoxStream};

use crate::{acl::Acl, security::Security};

/// Makes sessions, and knows what outlives one of them.
#[async_trait]
pub(crate) trait Dialler: Debug + Send + Sync {
    /// Goes on with the last session if it is still there, or begins a new one. Tries each member
    /// once, in random order.
    async fn connect(&self, options: &Options) -> Result<Box<dyn Client>>;

    /// The next connection begins a new session.
    fn forget(&self);
}

/// What serves where several are compiled in and the configuration does not say.
const DEFAULT: ClientCrate = if cfg!(feature = "zookeeper-client") {
    ClientCrate::ZookeeperClient
} else {
    ClientCrate::ZookeeperAsync
};

/// A dialler of the client crate that the configuration chooses.
///
/// # Errors
/// It is not compiled in, or cannot do what is configured.
pub(crate) fn dialler(settings: &ConnectionConfig) -> Result<Box<dyn Dialler>> {
    match settings.zookeeper.client.unwrap_or(DEFAULT) {
        #[cfg(feature = "zookeeper-async")]
        ClientCrate::ZookeeperAsync => Ok(Box::new(zookeeper_async::Dialler::new(settings)?)),
        #[cfg(feature = "zookeeper-client")]
        ClientCrate::ZookeeperClient => Ok(Box::new(zookeeper_client::Dialler::new(settings)?)),
        absent => {
            let reason =
                format_args!("not compiled in, build discox-zookeeper with the Cargo feature `{absent}`");
            Err(Error::config("zookeeper.client", absent, reason))
        }
    }
}

/// One connection, to one member. Dropping it ends its tasks and its connection at once, and its
/// session by the timeout.
///
/// Requests are sent in the order in which their futures are first polled, and ZooKeeper answers them
/// in that order.
#[async_trait]
pub(crate) trait Client: Debug + Send + Sync {
    /// What the servers granted.
    fn session(&self) -> Session;

    /// Resolves when the connection breaks or falls silent, at once if it ever did.
    fn broken(&self) -> BoxFuture<'static, Fault>;

    /// Ends all traffic at once, but not the session: the next connection may go on with it.
    fn abandon(&self);

    /// Closes the session, and waits until the servers know or the connection is lost.
    async fn close(&self);

    /// Reads nodes: by one request, where client crate and servers can.
    async fn read(&self, paths: &[String]) -> Answer<Vec<Answer<Node>>>;

    /// The names of a directory's children.
    async fn children(&self, path: &str) -> Answer<Vec<String>>;

    /// Creates a node, ephemeral or persistent.
    async fn create(&self, path: &str, data: &[u8], acl: &[Acl], ephemeral: bool) -> Answer<Stat>;

    /// Makes several changes: together or not at all, where the client crate knows transactions, else
    /// one after the other up to the first that fails. Returns the transaction that created the node,
    /// if one of them is a `Create` behind a `Set`.
    async fn multi(&self, ops: &[Op<'_>]) -> Answer<Option<i64>>;

    /// Waits until the connected server has caught up with its leader.
    async fn sync(&self, path: &str) -> Answer<()>;

    /// Watches a directory, which need not exist, and all below it. [`Fault::Unimplemented`] where
    /// client or servers cannot.
    async fn watch(&self, path: &str) -> Answer<Events>;

    /// The names of a directory's children, and a watch for others; without the directory, no names
    /// and a watch for its creation.
    async fn watch_children(&self, path: &str) -> Answer<(Option<Vec<String>>, Once)>;

    /// Reads nodes, and sets a watch on each that exists.
    async fn watch_many(&self, paths: &[String]) -> Answer<Vec<Answer<(Node, Once)>>>;
}

/// What was asked for, or why not.
pub(crate) type Answer<T> = std::result::Result<T, Fault>;

/// The changes below a directory. Fails, and ends, as soon as the connection is lost.
pub(crate) type Events = BoxStream<'static, Answer<Touched>>;

/// A watch for one change: resolves when it has happened.
pub(crate) type Once = BoxFuture<'static, Answer<()>>;

/// How to connect.
#[derive(Debug)]
pub(crate) struct Options {
    /// `host:port` of each member.
    pub(crate) members: Vec<String>,
    /// The longest wait for one member, and the longest silence of a connected one.
    pub(crate) silence: Duration,
    /// What is asked for; the servers may grant more or less.
    pub(crate) session_timeout: Duration,
    /// Whom to trust, and who we are.
    pub(crate) security: Security,
}

/// What the servers granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    /// Its number, as in the nodes that it owns.
    pub(crate) id: i64,
    /// How long it outlives its last word.
    pub(crate) timeout: Duration,
}

/// What matters of a node's stat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stat {
    /// The transaction that created the node: no other node ever has the same.
    pub(crate) created: i64,
    /// The transaction that wrote it last.
    pub(crate) written: i64,
    /// Counts the changes of the data, from 0.
    pub(crate) version: i32,
    /// The session that the node ends with; 0 for a persistent node.
    pub(crate) owner: i64,
}

/// A node's data and stat.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) data: Bytes,
    pub(crate) stat: Stat,
}

/// One of several changes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op<'a> {
    /// The node's data has this version.
    Check { path: &'a str, version: i32 },
    /// Creates an ephemeral node.
    Create { path: &'a str, data: &'a [u8], acl: &'a [Acl] },
    /// Deletes the node if its data has this version.
    Delete { path: &'a str, version: i32 },
    /// Sets the node's data, if it has this version where one is given.
    Set { path: &'a str, data: &'a [u8], version: Option<i32> },
}

/// A change below a watched directory.
#[derive(Clone, Debug)]
pub(crate) struct Touched {
    /// The node that was created, changed or deleted.
    pub(crate) path: String,
    /// It was deleted.
    pub(crate) deleted: bool,
}

/// What the client or the servers answer instead of a result.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the node does not exist")]
    NoNode,
    #[error("the node exists")]
    NodeExists,
    #[error("the node was changed meanwhile")]
    BadVersion,
    #[error("the node has children, which discox does not remove")]
    NotEmpty,
    #[error("a record lies where a directory is needed: ephemeral nodes have no children")]
    EphemeralParent,
    #[error("no right to do this, see the node's ACL")]
    NoAuth,
    #[error("the server does not accept who we are")]
    AuthFailed,
    #[error(
        "the server does not accept the ACL: it does not know a scheme, or `auth` and has not authenticated us"
    )]
    InvalidAcl,
    #[error("the server does not know this request")]
    Unimplemented,
    #[error("no member accepts a session: refused, silent or without quorum")]
    NoMember,
    #[error("the connection was lost: {0}")]
    Disconnected(String),
    #[error("the session expired")]
    Expired,
    #[error("the session was closed")]
    Closed,
    #[error("no answer in time")]
    TimedOut,
    #[error("the server is overloaded or read-only: {0}")]
    Busy(String),
    #[error("the service has {0}")]
    TooLarge(Exceeded),
    #[error("the answer is longer than that of a service may be")]
    #[cfg_attr(
        not(feature = "zookeeper-client"),
        expect(dead_code, reason = "the other client has no guard")
    )]
    TooLong,
    #[error("{0}")]
    Other(String),
}
