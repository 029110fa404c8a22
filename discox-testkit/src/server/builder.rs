//! Servers with settings of their own.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};

use super::Servers;
use super::access::Access;
use super::docker::Container;
use super::gates::Gates;
use super::layout::{Extra, Kind, Node};
use super::member::{Data, Host, Member};
use super::network::{Network, sweep};
use super::ports::{PEERS, Port};
use super::process::Process;
use super::session::Session;
use super::settings::{How, how};

/// Which servers to start, and with what besides the defaults.
///
/// In arguments, environment, configuration and not in files, `{files}` stands for the folder of the files given
/// by [`file`](Builder::file).
#[derive(Clone)]
#[must_use]
pub struct Builder {
    kind: Kind,
    members: usize,
    extra: Extra,
}

impl Builder {
    pub(crate) fn new(kind: Kind) -> Builder {
        Builder { kind, members: 1, extra: Extra::default() }
    }

    /// How many (one by default). A cluster has three.
    pub fn members(mut self, members: usize) -> Builder {
        self.members = members;
        self
    }

    /// One more argument of the server, after the usual ones: etcd and Consul let the later one win.
    /// (ZooKeeper takes none: see [`config`](Builder::config).)
    pub fn arg(mut self, arg: impl Into<String>) -> Builder {
        self.extra.args.push(arg.into());
        self
    }

    /// An environment variable of the server. ZooKeeper's `JVMFLAGS` are added to the usual ones.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Builder {
        self.extra.env.push((name.into(), value.into()));
        self
    }

    /// More configuration: lines of `zoo.cfg` for ZooKeeper (a later line wins), HCL for Consul. etcd takes
    /// arguments only.
    pub fn config(mut self, text: &str) -> Builder {
        self.extra.config.push_str(text);
        self.extra.config.push('\n');
        self
    }

    /// A file for the server to read, such as a key.
    pub fn file(mut self, name: impl Into<String>, content: impl Into<Vec<u8>>) -> Builder {
        self.extra.files.push((name.into(), content.into()));
        self
    }

    /// How the harness itself enters. Where that is over TLS, TLS is what the server is told to listen for.
    /// (A secured member that lost its data does not enter a cluster which lives on: that takes rights of its own.)
    pub fn access(mut self, access: Access) -> Builder {
        self.extra.access = access;
        self
    }

    /// Ready means that the port accepts connections: for servers that the harness cannot ask.
    pub fn ready_when_open(mut self) -> Builder {
        self.extra.open_is_ready = true;
        self
    }

    /// Starts them all at once and waits until all answer.
    ///
    /// # Errors
    ///
    /// One clear message when servers can be had neither as containers nor as child processes; the end of the
    /// log of a member which does not answer.
    pub async fn start(self) -> Result<Servers> {
        if self.kind == Kind::Etcd && !self.extra.config.is_empty() {
            bail!("etcd takes no configuration text, use arguments");
        }
        if self.kind == Kind::Zookeeper && !self.extra.args.is_empty() {
            bail!("ZooKeeper takes no arguments, use configuration text");
        }
        let kind = self.kind;
        let servers = match how().await? {
            How::Docker => self.containers().await?,
            How::Process => self.processes()?,
        };
        servers.start(Data::Wiped).await?;
        say_once(kind, &servers).await;
        Ok(servers)
    }

    async fn containers(self) -> Result<Servers> {
        sweep().await?;
        let name = Session::get()?.name(self.kind);
        let (_, peer_ports) = self.kind.usual_ports();
        let network =
            if self.members > 1 { Some(Arc::new(Network::create(name.clone()).await?)) } else { None };
        let mut nodes = Vec::new();
        let mut hosts = Vec::new();
        for i in 0..self.members {
            let port = Port::reserve()?;
            let name = format!("{name}-{i}");
            nodes.push(Node {
                host: name.clone(),
                name: name.clone(),
                peer_ports,
                address: format!("{}:{}", Ipv4Addr::LOCALHOST, port.number()),
                id: node_id(),
            });
            let container = Container::new(self.kind, name, port, network.clone()).await?;
            hosts.push(Host::Container(Box::new(container)));
        }
        Ok(self.servers(nodes, hosts))
    }

    fn processes(self) -> Result<Servers> {
        let session = Session::get()?;
        let name = session.name(self.kind);
        let folder = session.folder(&name)?;
        let gated = self.members > 1 && cfg!(target_os = "linux");
        let two_peer_ports = self.kind != Kind::Etcd;
        let mut nodes = Vec::new();
        let mut ports = Vec::new();
        for i in 0..self.members {
            let of_member =
                (0..2 + usize::from(two_peer_ports)).map(|_| Port::reserve()).collect::<Result<Vec<_>>>()?;
            let number = |i: usize| of_member.get(i).map_or(0, Port::number);
            nodes.push(Node {
                name: format!("{name}-{i}"),
                host: if gated { PEERS } else { Ipv4Addr::LOCALHOST }.to_string(),
                peer_ports: [number(1), number(2)],
                address: format!("{}:{}", Ipv4Addr::LOCALHOST, number(0)),
                id: node_id(),
            });
            ports.push(of_member);
        }
        let peer_ports: Vec<_> = nodes.iter().map(|node| node.peer_ports).collect();
        let gates = if gated { Some(Arc::new(Gates::open(self.kind, &peer_ports)?)) } else { None };
        let hosts = ports.into_iter().enumerate().map(|(i, ports)| {
            let folder = folder.join(i.to_string());
            Host::Process(Box::new(Process::new(self.kind, folder, i, gates.clone(), ports)))
        });
        let hosts = hosts.collect();
        Ok(self.servers(nodes, hosts))
    }

    fn servers(self, nodes: Vec<Node>, hosts: Vec<Host>) -> Servers {
        let (nodes, extra) = (Arc::new(nodes), Arc::new(self.extra));
        let members = hosts.into_iter().enumerate();
        let members =
            members.map(|(i, host)| Member::new(self.kind, i, nodes.clone(), extra.clone(), host)).collect();
        Servers { kind: self.kind, members }
    }
}

/// A random UUID.
fn node_id() -> String {
    let random = fastrand::u64(..);
    format!("{:08x}-0000-4000-8000-{:012x}", random >> 32, random & 0xffff_ffff)
}

/// The test log says what it was run against.
async fn say_once(kind: Kind, servers: &Servers) {
    static SAID: Mutex<Option<HashSet<Kind>>> = Mutex::new(None);
    let is_new = SAID.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(kind);
    if is_new && let Some(member) = servers.members().first() {
        eprintln!("discox-test: {}", member.describe().await);
    }
}
