//! Real servers for tests: one, or a cluster of three, of each registry, as containers where a Docker daemon
//! answers and as child processes otherwise (`DISCOX_TEST_SERVERS=docker|process` chooses).
//!
//! ```no_run
//! # async fn f() -> anyhow::Result<()> {
//! use discox_testkit::server::{Data, Kind, Servers};
//!
//! let etcd = Servers::single(Kind::Etcd).await?;
//! etcd.member(0).tool(&["put", "/key", "value"]).await?;
//! etcd.member(0).kill().await?;
//! etcd.member(0).start(Data::Kept).await?;
//! assert_eq!(etcd.member(0).tool(&["get", "--print-value-only", "/key"]).await?, "value\n");
//! # Ok(()) }
//! ```
//!
//! Ready means answering: etcd is healthy, ZooKeeper has a mode, Consul knows a leader. Data lies in memory.
//! Nothing is left behind when a test process ends, however it ends (see `session.rs`).

mod access;
pub(crate) mod ask;
mod builder;
mod consul;
mod docker;
mod etcd;
mod gates;
mod layout;
mod member;
mod network;
pub(crate) mod ports;
mod process;
mod processes;
pub(crate) mod session;
pub(crate) mod settings;
mod zookeeper;

use std::time::Duration;

use anyhow::Result;
use futures_util::future::{join_all, try_join_all};

pub use self::access::{Access, Stream};
pub use self::builder::Builder;
pub use self::layout::Kind;
pub use self::member::{Data, Member};
use crate::wait::eventually_send;

/// Consul's configuration for more than the 200 connections that it takes of a client: here one machine plays many of
/// them, and an abandoned blocking query keeps its place until its wait ends.
pub const MANY_CLIENTS: &str = "limits { http_max_conns_per_client = 5000 }";

/// One server, or the members of one cluster. Dropping it removes them and their data.
pub struct Servers {
    kind: Kind,
    members: Vec<Member>,
}

impl Servers {
    /// One server that answers.
    pub async fn single(kind: Kind) -> Result<Servers> {
        Servers::builder(kind).start().await
    }

    /// A cluster of three, all answering.
    pub async fn cluster(kind: Kind) -> Result<Servers> {
        Servers::builder(kind).members(3).start().await
    }

    /// Servers with settings of their own.
    pub fn builder(kind: Kind) -> Builder {
        Builder::new(kind)
    }

    /// Which registry it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `127.0.0.1:PORT` of every member; the same for life.
    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.address().to_owned()).collect()
    }

    /// All members, in the order of [`addresses`](Servers::addresses).
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member at this place, from 0.
    ///
    /// # Panics
    ///
    /// When there are not that many.
    pub fn member(&self, i: usize) -> &Member {
        &self.members[i]
    }

    /// The member that thinks it leads, and its place, when exactly one does. A leader that was cut off goes on
    /// thinking so for some seconds: look among the others then.
    pub async fn leader(&self) -> Option<(usize, &Member)> {
        let leads = join_all(self.members.iter().map(Member::is_leader)).await;
        let mut leaders = self.members.iter().enumerate().zip(leads).filter(|(_, leads)| *leads);
        match (leaders.next(), leaders.next()) {
            (Some((leader, _)), None) => Some(leader),
            _ => None,
        }
    }

    /// Waits until exactly one leads, 30 s at most.
    pub async fn elected(&self) -> Result<(usize, &Member)> {
        eventually_send(Duration::from_secs(30), "a leader", || self.leader()).await
    }

    /// Kills all at once.
    pub async fn kill(&self) -> Result<()> {
        try_join_all(self.members.iter().map(Member::kill)).await?;
        Ok(())
    }

    /// Starts all at once, after [`kill`](Servers::kill), and waits until all answer: with their data, or as a
    /// new cluster.
    pub async fn start(&self, data: Data) -> Result<()> {
        try_join_all(self.members.iter().map(|member| member.begin(data))).await?;
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Removing a container takes a while: all at once.
        std::thread::scope(|scope| {
            for member in self.members.drain(..) {
                scope.spawn(move || drop(member));
            }
        });
    }
}

/// A folder that is removed with this process, for what belongs to no server.
pub(crate) fn own_folder(name: &str) -> Result<std::path::PathBuf> {
    let session = session::Session::get()?;
    session.folder(&session.name(name))
}

/// The last 60 lines, without ZooKeeper's about our own questions.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("Processing srvr command")).collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
