//! Who is who among the members, and what a member is started with: what each kind's module turns the one into
//! the other for, whatever provides the servers.

use std::fmt;

use anyhow::Result;

use super::access::{Access, Door};
use super::{consul, etcd, zookeeper};

/// The registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// etcd, version 3.
    Etcd,
    /// Apache ZooKeeper.
    Zookeeper,
    /// HashiCorp Consul.
    Consul,
}

impl Kind {
    /// All three.
    pub const ALL: [Kind; 3] = [Kind::Etcd, Kind::Zookeeper, Kind::Consul];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Etcd => "etcd",
            Kind::Zookeeper => "zookeeper",
            Kind::Consul => "consul",
        })
    }
}

/// One member as its peers and the tests know it.
#[derive(Debug)]
pub(crate) struct Node {
    /// Unique on this machine; in containers also the host name.
    pub(crate) name: String,
    /// Where its peers reach it.
    pub(crate) host: String,
    /// The ports for its peers: etcd's one; ZooKeeper's quorum and election; Consul's serf and server.
    pub(crate) peer_ports: [u16; 2],
    /// Where the tests reach it: `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// Identifies it to Consul even after its data was wiped.
    pub(crate) id: String,
}

/// What a user of the builder adds.
#[derive(Clone, Default)]
pub(crate) struct Extra {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) config: String,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) access: Access,
    /// An open port is all that is waited for.
    pub(crate) open_is_ready: bool,
}

/// The world a member is started in.
pub(crate) struct Layout<'a> {
    pub(crate) nodes: &'a [Node],
    pub(crate) me: usize,
    /// What it listens on for its peers, and for clients (address, and port there).
    pub(crate) peer_bind: &'a str,
    pub(crate) client_bind: (&'a str, u16),
    /// Folders in that world: its data, its configuration, and the builder's files.
    pub(crate) data: &'a str,
    pub(crate) config: &'a str,
    pub(crate) files: &'a str,
    pub(crate) extra: &'a Extra,
    /// It lost its data and enters a cluster which lives on (etcd only).
    pub(crate) joining: bool,
}

impl Layout<'_> {
    pub(crate) fn node(&self) -> &Node {
        &self.nodes[self.me]
    }

    /// `{files}` in the builder's texts stands for the folder of its files.
    pub(crate) fn filled(&self, text: &str) -> String {
        text.replace("{files}", self.files)
    }

    pub(crate) fn extra_args(&self) -> impl Iterator<Item = String> {
        self.extra.args.iter().map(|arg| self.filled(arg))
    }
}

/// What a member is started with, besides the program.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Kind {
    pub(crate) fn plan(self, layout: &Layout<'_>) -> Plan {
        let mut plan = match self {
            Kind::Etcd => etcd::plan(layout),
            Kind::Zookeeper => zookeeper::plan(layout),
            Kind::Consul => consul::plan(layout),
        };
        for (name, value) in &layout.extra.env {
            let value = layout.filled(value);
            match plan.env.iter_mut().find(|(known, _)| known == name) {
                // Flags add to ours; the later ones win.
                Some((_, flags)) => *flags = format!("{flags} {value}"),
                None => plan.env.push((name.clone(), value)),
            }
        }
        for (name, content) in &layout.extra.files {
            plan.files.push((format!("{}/{name}", layout.files), content.clone()));
        }
        plan
    }

    /// Does it answer, as one that can serve?
    pub(crate) async fn answers(self, door: Door<'_>) -> bool {
        match self {
            Kind::Etcd => etcd::answers(door).await,
            Kind::Zookeeper => zookeeper::answers(door).await,
            Kind::Consul => consul::answers(door).await,
        }
    }

    /// Does it think that it leads?
    pub(crate) async fn leads(self, door: Door<'_>) -> Result<bool> {
        match self {
            Kind::Etcd => etcd::leads(door).await,
            Kind::Zookeeper => zookeeper::leads(door).await,
            Kind::Consul => consul::leads(door).await,
        }
    }

    pub(crate) async fn version(self, door: Door<'_>) -> Result<String> {
        match self {
            Kind::Etcd => etcd::version(door).await,
            Kind::Zookeeper => zookeeper::version(door).await,
            Kind::Consul => consul::version(door).await,
        }
    }

    /// The ports of the official images: for clients, and for peers.
    pub(crate) fn usual_ports(self) -> (u16, [u16; 2]) {
        match self {
            Kind::Etcd => (2379, [2380, 0]),
            Kind::Zookeeper => (2181, [2888, 3888]),
            Kind::Consul => (8500, [8301, 8300]),
        }
    }
}
