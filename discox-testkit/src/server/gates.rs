//! The links between the members of a child-process cluster, and their cutting.
//!
//! All members lie on one machine, so who talks to whom must be seen at the door. Members listen on 127.0.0.1
//! and tell their peers 127.0.0.2, the same port: there a gate stands, which passes connections and Consul's
//! datagrams on. Who connects, it reads from `/proc`. So clusters can be cut on Linux only; elsewhere members
//! talk to each other directly.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, UdpSocket as StdSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch::error::RecvError;
use tokio::sync::{OnceCell, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::layout::Kind;
use super::ports::PEERS;
use super::processes::{Ends, Processes};

/// For so long a member that does not listen yet is waited for.
const ABOUT_TO_LISTEN: Duration = Duration::from_millis(500);

/// The members that are cut off.
type Cut = BTreeSet<usize>;

/// The gates of one cluster; closed with all connections through them when dropped.
pub(crate) struct Gates {
    cut: watch::Sender<Cut>,
    processes: Arc<Mutex<Processes>>,
    _open: oneshot::Sender<()>,
}

/// One listening gate: before this member, on this port.
struct Gate {
    member: usize,
    port: u16,
    tcp: StdListener,
    /// Consul's gossip.
    udp: Option<StdSocket>,
}

impl Gates {
    /// Opens a gate before each of these ports, given per member.
    pub(crate) fn open(kind: Kind, ports: &[[u16; 2]]) -> Result<Gates> {
        let mut gates = Vec::new();
        for (member, of_member) in ports.iter().enumerate() {
            for (i, &port) in of_member.iter().enumerate().filter(|(_, port)| **port != 0) {
                gates.push(Gate::bind(member, port, kind == Kind::Consul && i == 0)?);
            }
        }
        let (cut, watched) = watch::channel(Cut::new());
        let (open, closed) = oneshot::channel();
        let processes = Arc::<Mutex<Processes>>::default();
        // Its own thread and runtime: the cluster may be shared by tests with a runtime each.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let hall = Hall { kind, cut: watched, processes: processes.clone() };
        thread::Builder::new().name("discox-test-gates".into()).spawn(move || {
            runtime.block_on(async {
                if hall.serve(gates).is_ok() {
                    let _ = closed.await;
                }
            });
        })?;
        Ok(Gates { cut, processes, _open: open })
    }

    /// Tells the process of a member.
    pub(crate) fn is_now(&self, member: usize, pid: u32) {
        lock(&self.processes).is_now(member, pid);
    }

    /// Cuts the member off from its peers, or lets it back.
    pub(crate) fn cut(&self, member: usize, off: bool) {
        self.cut.send_modify(|cut| {
            if off {
                cut.insert(member);
            } else {
                cut.remove(&member);
            }
        });
    }
}

fn lock(processes: &Mutex<Processes>) -> MutexGuard<'_, Processes> {
    processes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    fn bind(member: usize, port: u16, gossip: bool) -> Result<Gate> {
        let bind = || -> io::Result<Gate> {
            let tcp = StdListener::bind((PEERS, port))?;
            tcp.set_nonblocking(true)?;
            let udp = if gossip { Some(StdSocket::bind((PEERS, port))?) } else { None };
            if let Some(udp) = &udp {
                udp.set_nonblocking(true)?;
            }
            Ok(Gate { member, port, tcp, udp })
        };
        bind().with_context(|| format!("gate on {PEERS}:{port}"))
    }
}

/// What all gates of a cluster share.
#[derive(Clone)]
struct Hall {
    kind: Kind,
    cut: watch::Receiver<Cut>,
    processes: Arc<Mutex<Processes>>,
}

impl Hall {
    /// Starts the tasks of all gates; they end with the runtime.
    fn serve(&self, gates: Vec<Gate>) -> io::Result<()> {
        let mut gossip = Vec::new();
        for gate in gates {
            tokio::spawn(self.clone().accept(TcpListener::from_std(gate.tcp)?, gate.member, gate.port));
            if let Some(udp) = gate.udp {
                gossip.push((gate.member, gate.port, Arc::new(UdpSocket::from_std(udp)?)));
            }
        }
        for at in 0..gossip.len() {
            tokio::spawn(self.clone().relay(gossip.clone(), at));
        }
        Ok(())
    }

    async fn accept(self, listener: TcpListener, member: usize, port: u16) {
        while let Ok((stream, from)) = listener.accept().await {
            let hall = self.clone();
            let call = Call {
                hall,
                member,
                ends: (from.port(), port),
                since: Instant::now(),
                from: OnceCell::new(),
            };
            tokio::spawn(call.pass(stream));
        }
    }

    /// Passes datagrams for the member of this gate on, sent from the gate of their sender, so that answers
    /// come back through it.
    async fn relay(self, gates: Vec<(usize, u16, Arc<UdpSocket>)>, at: usize) {
        let (member, port, socket) = &gates[at];
        let mut datagram = vec![0; 64 * 1024];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut datagram).await else { return };
            let sender = gates.iter().find(|(_, port, _)| from == local(*port));
            let Some((sender, _, by)) = sender else { continue };
            let is_cut = { [member, sender].iter().any(|end| self.cut.borrow().contains(end)) };
            if !is_cut {
                let _ = by.send_to(&datagram[..length], local(*port)).await;
            }
        }
    }
}

/// One connection through a gate.
struct Call {
    hall: Hall,
    /// Whom it is for.
    member: usize,
    ends: Ends,
    since: Instant,
    /// Who makes it, once that matters.
    from: OnceCell<Option<usize>>,
}

impl Call {
    /// To its end. Cut, both sides are kept open and silent, as behind a dead network; healed, they are closed,
    /// so that the peers connect again at once.
    async fn pass(self, mut stream: TcpStream) {
        let mut onward = None;
        if !self.is_cut().await {
            let Some(mut server) = self.onward().await else { return };
            tokio::select! {
                _ = self.copy(&mut stream, &mut server) => return,
                cut = self.until(true) => if cut.is_err() { return },
            }
            onward = Some(server);
        }
        let _ = self.until(false).await;
        drop((stream, onward));
    }

    /// To the member. One that is about to listen, as a ZooKeeper that has just been elected, would refuse the
    /// connection, and be tried again; here it has been accepted already.
    async fn onward(&self) -> Option<TcpStream> {
        while self.since.elapsed() < ABOUT_TO_LISTEN {
            if let Ok(stream) = TcpStream::connect(local(self.ends.1)).await {
                return Some(stream);
            }
            if !lock(&self.hall.processes).runs(self.member) {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// Waits until it is cut, or no longer; an error when the gates close.
    async fn until(&self, cut: bool) -> Result<(), RecvError> {
        let mut changes = self.hall.cut.clone();
        while self.is_cut().await != cut {
            changes.changed().await?;
        }
        Ok(())
    }

    async fn is_cut(&self) -> bool {
        if self.hall.cut.borrow().is_empty() {
            return false;
        }
        let from = self.from.get_or_init(|| self.owner()).await;
        let cut = self.hall.cut.borrow();
        // Who has closed it already, as ZooKeeper does to be called back, cannot be told.
        cut.contains(&self.member) || from.is_none_or(|from| cut.contains(&from))
    }

    async fn owner(&self) -> Option<usize> {
        let (processes, ends, since) = (self.hall.processes.clone(), self.ends, self.since);
        // On a machine with many connections this takes long, and others must pass meanwhile.
        let look = spawn_blocking(move || lock(&processes).owner(ends, since));
        look.await.ok().flatten()
    }

    async fn copy(&self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        if self.hall.kind == Kind::Zookeeper {
            // In its first message a ZooKeeper tells where it listens, and it is called back there: let its
            // peers call at the gate. Both addresses are equally long.
            let mut first = vec![0; 4096];
            let read = client.read(&mut first).await?;
            first.truncate(read);
            let (own, public) = (format!("{}:", Ipv4Addr::LOCALHOST), format!("{PEERS}:"));
            if let Some(at) = first.windows(own.len()).position(|bytes| bytes == own.as_bytes()) {
                first[at..at + own.len()].copy_from_slice(public.as_bytes());
            }
            server.write_all(&first).await?;
        }
        copy_bidirectional(client, server).await?;
        Ok(())
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
