//! One server of those under test, and what can be done to it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;

use super::access::{Door, Stream};
use super::docker::Container;
use super::layout::{Extra, Kind, Layout, Node};
use super::process::Process;
use super::{ask, etcd, zookeeper};
use crate::wait::eventually_send;

/// From start to answering: seconds on an idle machine, more where several test runs share two cores.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// What becomes of a server's data when it starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// It finds what it had.
    Kept,
    /// It begins with nothing; in a cluster whose other members live it gets their data.
    Wiped,
}

/// One server. Its address is the same for life, through kills and restarts.
///
/// All methods take `&self` and may be called from several tasks; calls to one member wait for each other where
/// they must.
pub struct Member {
    kind: Kind,
    me: usize,
    nodes: Arc<Vec<Node>>,
    extra: Arc<Extra>,
    host: Host,
}

/// What provides it.
pub(crate) enum Host {
    Process(Box<Process>),
    Container(Box<Container>),
}

impl Member {
    pub(crate) fn new(kind: Kind, me: usize, nodes: Arc<Vec<Node>>, extra: Arc<Extra>, host: Host) -> Member {
        Member { kind, me, nodes, extra, host }
    }

    /// Where clients reach it: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.nodes[self.me].address
    }

    fn door(&self) -> Door<'_> {
        Door::new(self.address(), &self.extra.access)
    }

    /// A connection as the harness has it: over TLS where the server asks for that.
    pub async fn connect(&self) -> Result<Box<dyn Stream>> {
        self.door().connect().await
    }

    /// Who the harness is to ZooKeeper.
    pub(crate) fn zookeeper_digest(&self) -> Option<&str> {
        self.extra.access.zookeeper_login()
    }

    /// An HTTP request of the harness, with its credentials: etcd's gateway, Consul.
    ///
    /// # Errors
    ///
    /// The status and what was answered, where it is not 200.
    pub async fn http(&self, method: &str, path: &str, body: &str) -> Result<String> {
        ask::http(self.door(), method, path, body).await
    }

    /// Writes one of the builder's files anew, for a server that reads it again by itself or when it
    /// [starts](Member::start) with its data.
    pub async fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        match &self.host {
            Host::Process(process) => process.write_file(name, content),
            Host::Container(container) => container.write_file(name, content).await,
        }
    }

    /// Kills it by signal 9; nothing happens if it does not run. Its port refuses connections afterwards.
    pub async fn kill(&self) -> Result<()> {
        let killed = match &self.host {
            Host::Process(process) => process.kill(),
            Host::Container(container) => container.kill().await,
        };
        killed.with_context(|| format!("killing {self}"))
    }

    /// Starts it again on the same address, after [`kill`](Member::kill), and waits until it answers.
    pub async fn start(&self, data: Data) -> Result<()> {
        self.launch(data).await?;
        self.ready().await
    }

    /// [`start`](Member::start) without waiting.
    pub async fn launch(&self, data: Data) -> Result<()> {
        self.try_launch(data).await.with_context(|| format!("starting {self}"))
    }

    async fn try_launch(&self, data: Data) -> Result<()> {
        let wiped = data == Data::Wiped;
        let clustered = self.nodes.len() > 1;
        let joining = wiped
            && clustered
            && self.kind == Kind::Etcd
            && etcd::replace(&self.nodes, &self.nodes[self.me]).await?;
        self.launch_as(wiped, joining).await
    }

    async fn launch_as(&self, wiped: bool, joining: bool) -> Result<()> {
        let node = &self.nodes[self.me];
        let clustered = self.nodes.len() > 1;
        let port = node.address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
        let folders = match &self.host {
            Host::Process(process) => process.folders(),
            Host::Container(_) => Container::folders(),
        };
        let [data, config, files] = &folders;
        let (peer_bind, client_bind) = match (&self.host, self.kind) {
            (Host::Process(_), _) => ("127.0.0.1", ("127.0.0.1", port)),
            (Host::Container(_), kind) => {
                let bind = match kind {
                    Kind::Etcd => "0.0.0.0",
                    Kind::Zookeeper => &node.host,
                    Kind::Consul if clustered => r#"{{ GetInterfaceIP "eth0" }}"#,
                    Kind::Consul => "127.0.0.1",
                };
                (bind, ("0.0.0.0", kind.usual_ports().0))
            }
        };
        let (nodes, me, extra) = (&self.nodes[..], self.me, &*self.extra);
        let layout = Layout { nodes, me, peer_bind, client_bind, data, config, files, extra, joining };
        let plan = self.kind.plan(&layout);
        match &self.host {
            Host::Process(process) => process.launch(&plan, wiped),
            Host::Container(container) => container.launch(&plan, wiped).await,
        }
    }

    /// Starts it together with all others, of which none runs.
    pub(crate) async fn begin(&self, data: Data) -> Result<()> {
        self.launch_as(data == Data::Wiped, false).await.with_context(|| format!("starting {self}"))?;
        self.ready().await
    }

    /// Waits until it answers as one that can serve; the error carries the end of its log.
    pub async fn ready(&self) -> Result<()> {
        let answers = eventually_send(READY_WITHIN, "its answer", || async {
            if self.answers().await { Some(None) } else { self.ended().await.map(Some) }
        });
        match answers.await {
            Ok(None) => Ok(()),
            Ok(Some(ended)) => bail!("{self} ended ({ended}):\n{}", self.log_tail().await),
            Err(error) => bail!("{self}: {error}:\n{}", self.log_tail().await),
        }
    }

    /// Does it answer, as one that can serve? False also when it is down or hangs.
    pub async fn answers(&self) -> bool {
        if self.extra.open_is_ready {
            return TcpStream::connect(self.address()).await.is_ok();
        }
        self.kind.answers(self.door()).await
    }

    async fn ended(&self) -> Option<String> {
        match &self.host {
            Host::Process(process) => process.ended(),
            Host::Container(container) => container.ended().await,
        }
    }

    /// Makes it hang: connections stay open and are accepted, and nothing is answered.
    pub async fn pause(&self) -> Result<()> {
        self.paused(true).await.with_context(|| format!("pausing {self}"))
    }

    /// Ends [`pause`](Member::pause).
    pub async fn resume(&self) -> Result<()> {
        self.paused(false).await.with_context(|| format!("resuming {self}"))
    }

    async fn paused(&self, pause: bool) -> Result<()> {
        match &self.host {
            Host::Process(process) => process.pause(pause).await,
            Host::Container(container) => container.pause(pause).await,
        }
    }

    /// Cuts it off from its peers, as by a dead network; clients still reach it. (In containers, connections
    /// which clients have open at this moment may break.)
    pub async fn cut_off(&self) -> Result<()> {
        self.cut(true).await.with_context(|| format!("cutting off {self}"))
    }

    /// Ends [`cut_off`](Member::cut_off).
    pub async fn rejoin(&self) -> Result<()> {
        self.cut(false).await.with_context(|| format!("connecting {self} with its peers"))
    }

    async fn cut(&self, off: bool) -> Result<()> {
        match &self.host {
            Host::Container(container) => container.cut(off).await,
            Host::Process(process) => {
                let gates = process.gates.as_ref().context(
                    "only members of a cluster can be cut off, as child processes only on Linux: use Docker",
                )?;
                gates.cut(self.me, off);
                Ok(())
            }
        }
    }

    /// Does it think that it leads? A single server does.
    pub async fn is_leader(&self) -> bool {
        self.kind.leads(self.door()).await.unwrap_or(false)
    }

    /// Runs the registry's own command line against this member and returns what it printed: `etcdctl ARGS`,
    /// ZooKeeper's `zkCli.sh ARGS` (without its lines about the connection), `consul ARGS`.
    ///
    /// # Errors
    ///
    /// What it printed, when it fails.
    pub async fn tool(&self, args: &[&str]) -> Result<String> {
        let output = match &self.host {
            Host::Process(process) => process.tool(self.address(), &self.extra.access, args).await,
            Host::Container(container) => container.tool(&self.extra.access, args).await,
        };
        let output = output.with_context(|| format!("{self}: {}", args.join(" ")))?;
        Ok(if self.kind == Kind::Zookeeper { zookeeper::without_noise(&output) } else { output })
    }

    /// The last lines it logged.
    pub async fn log_tail(&self) -> String {
        match &self.host {
            Host::Process(process) => process.log_tail(),
            Host::Container(container) => container.log_tail().await,
        }
    }

    /// Its version, and what it runs as.
    pub async fn version(&self) -> String {
        let version = self.kind.version(self.door()).await.unwrap_or_else(|_| "of unknown version".into());
        let what = match &self.host {
            Host::Process(_) => "a child process, its data in memory",
            Host::Container(_) => "a container",
        };
        format!("{} {version}, {what}", self.kind)
    }

    pub(crate) async fn describe(&self) -> String {
        let version = self.kind.version(self.door()).await.unwrap_or_else(|_| "of unknown version".into());
        let what = match &self.host {
            Host::Process(process) => process.describe(),
            Host::Container(container) => container.describe(),
        };
        format!("{} {version}, {what}", self.kind)
    }
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.address())
    }
}
