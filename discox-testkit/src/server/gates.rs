//! The links between the members of a child-process cluster, and their cutting.
//!
//! All members lie on one machine, so who talks to whom must be seen at the door. Members listen on 127.0.0.1
//! and tell their peers 127.0.0.2, the same port: there a gate stands, which passes connections and Consul's
//! datagrams on. Who connects, it reads from `/proc`. So clusters can be cut on Linux only; elsewhere members
//! talk to each other directly.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, UdpSocket as StdSocket};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{oneshot, watch};

use super::layout::Kind;
use super::ports::PEERS;

/// The members that are cut off.
type Cut = BTreeSet<usize>;

/// The gates of one cluster; closed with all connections through them when dropped.
pub(crate) struct Gates {
    cut: watch::Sender<Cut>,
    pids: Pids,
    _open: oneshot::Sender<()>,
}

/// The processes of the members.
type Pids = Arc<Mutex<HashMap<u32, usize>>>;

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
        let pids = Pids::default();
        // Its own thread and runtime: the cluster may be shared by tests with a runtime each.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let hall = Hall { kind, cut: watched, pids: pids.clone() };
        thread::Builder::new().name("discox-test-gates".into()).spawn(move || {
            runtime.block_on(async {
                if hall.serve(gates).is_ok() {
                    let _ = closed.await;
                }
            });
        })?;
        Ok(Gates { cut, pids, _open: open })
    }

    /// Tells the process of a member.
    pub(crate) fn is_now(&self, member: usize, pid: u32) {
        let mut pids = lock(&self.pids);
        pids.retain(|_, known| *known != member);
        pids.insert(pid, member);
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

fn lock(pids: &Mutex<HashMap<u32, usize>>) -> std::sync::MutexGuard<'_, HashMap<u32, usize>> {
    pids.lock().unwrap_or_else(PoisonError::into_inner)
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
    pids: Pids,
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
            tokio::spawn(self.clone().pass(stream, from.port(), member, port));
        }
    }

    /// One connection to its end. Cut, both sides are kept open and silent, as behind a dead network; healed,
    /// they are closed, so that the peers connect again at once.
    async fn pass(mut self, mut stream: TcpStream, from: u16, member: usize, port: u16) {
        // Whose it is matters only while somebody is cut off, and takes long to find out on a machine with many
        // connections. Who has closed it already, as ZooKeeper does to be called back, cannot be told.
        let (pids, found) = (self.pids.clone(), OnceLock::new());
        let is_cut = |cut: &Cut| {
            let of_either = || {
                let from = *found.get_or_init(|| owner(&lock(&pids), from, port));
                cut.contains(&member) || from.is_none_or(|from| cut.contains(&from))
            };
            !cut.is_empty() && of_either()
        };
        let mut onward = None;
        if !is_cut(&self.cut.borrow()) {
            let Ok(mut server) = TcpStream::connect(local(port)).await else { return };
            let mut cut = self.cut.clone();
            tokio::select! {
                _ = self.copy(&mut stream, &mut server) => return,
                healthy = cut.wait_for(&is_cut) => if healthy.is_err() { return },
            }
            onward = Some(server);
        }
        let _ = self.cut.wait_for(|cut| !is_cut(cut)).await;
        drop((stream, onward));
    }

    async fn copy(&self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        if self.kind == Kind::Zookeeper {
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

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The member whose process holds the loopback connection from `local_port` to `remote_port`.
fn owner(pids: &HashMap<u32, usize>, local_port: u16, remote_port: u16) -> Option<usize> {
    let socket = format!("socket:[{}]", inode(local_port, remote_port)?);
    let holds = |pid: &u32| {
        let handles = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        handles
            .into_iter()
            .any(|handle| fs::read_link(handle.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))
    };
    pids.iter().find(|(pid, _)| holds(pid)).map(|(_, member)| *member)
}

/// The connection's number in the kernel's tables, for IPv4 and for IPv4 in IPv6.
fn inode(local_port: u16, remote_port: u16) -> Option<String> {
    let ends = (format!(":{local_port:04X}"), format!(":{remote_port:04X}"));
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let ours = fields.get(1)?.ends_with(&ends.0) && fields.get(2)?.ends_with(&ends.1);
            // Zero: its process has closed it.
            fields.get(9).filter(|inode| ours && **inode != "0").map(|inode| (*inode).to_owned())
        })
    })
}
