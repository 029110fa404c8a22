//! The seam between this crate and a ZooKeeper client crate: one file for each client crate, which
//! fences off what that crate does badly. Nothing beyond this folder names a client crate.
//!
//! All requests of one client are sent in the order in which their futures are first polled, and
//! ZooKeeper answers them in that order.

mod zookeeper_client;

use std::time::Duration;

use bytes::Bytes;

pub(crate) use zookeeper_client::{Client, Events, Once, Resume, States};

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `host:port` of each member.
    pub(crate) members: Vec<String>,
    /// The longest wait for one member, and the longest silence of a connected one.
    pub(crate) silence: Duration,
    /// What is asked for; the servers may grant more or less.
    pub(crate) session_timeout: Duration,
}

/// The state of a session's connection. It starts connected.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Requests are answered. Left when the connection breaks or falls silent.
    Connected,
    /// The client looks for a member, as long as it is let.
    Disconnected,
    /// Over for good.
    Ended(Fault),
}

/// What matters of a node's stat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stat {
    /// The transaction that created the node: no other node ever has the same.
    pub(crate) created: i64,
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

/// One of several changes made together or not at all.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op<'a> {
    /// The node's data has this version.
    Check { path: &'a str, version: i32 },
    /// Creates an ephemeral node.
    Create { path: &'a str, data: &'a [u8] },
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
    #[error("{0}")]
    Denied(&'static str),
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
    #[error("{0}")]
    Other(String),
}
