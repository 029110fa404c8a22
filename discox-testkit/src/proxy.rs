//! A TCP proxy inside the test: resets, holds, delays, refuses and tampers on demand.

mod connection;
mod tamper;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use self::connection::serve;
pub use self::tamper::Tamper;
use self::tamper::Tampering;
use crate::server::ports::Port;

/// How the proxy behaves at the moment; every connection watches it.
#[derive(Clone)]
struct Mode {
    target: Arc<str>,
    /// What is done to the bytes from the target, and how many connections had been accepted before.
    tamper: Option<(Tamper, u64)>,
    held: bool,
    stalled_until: Option<Instant>,
    refusing: bool,
    delay: Duration,
    /// Counts the resets: a connection that sees another number than at its start resets itself.
    resets: u64,
}

impl Mode {
    /// All bytes pass, to and from the target.
    fn faithful(target: Arc<str>) -> Mode {
        let delay = Duration::ZERO;
        Mode { target, tamper: None, held: false, stalled_until: None, refusing: false, delay, resets: 0 }
    }

    /// What is done to the bytes of the connection with this number.
    fn tampering(&self, number: u64) -> Option<Tampering> {
        self.tamper.map(|(tamper, before)| Tampering::new(tamper, number.saturating_sub(before)))
    }
}

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    accepted: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// A proxy on a port of its own before one address; ends with all its connections when dropped.
///
/// It runs on the runtime it was made in.
pub struct Proxy {
    address: String,
    mode: watch::Sender<Mode>,
    listening: watch::Receiver<bool>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
    _port: Port,
}

impl Proxy {
    /// A proxy to `target` (`host:port`), which need not answer yet: it is resolved and connected to anew for
    /// every connection.
    pub async fn to(target: impl Into<String>) -> Result<Proxy> {
        let port = Port::reserve()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let listener = TcpListener::bind(address).await.context("proxy")?;
        let (mode, watched) = watch::channel(Mode::faithful(target.into().into()));
        let (listens, listening) = watch::channel(true);
        let counts = Arc::new(Counts::default());
        let front = Front { address, mode: watched, listens, counts: counts.clone() };
        let task = tokio::spawn(front.run(listener));
        Ok(Proxy { address: address.to_string(), mode, listening, counts, task, _port: port })
    }

    /// Where to connect: `127.0.0.1:PORT`, the same for life.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// New connections lead to another target. Open ones live on (see [`reset_all`](Proxy::reset_all)).
    pub fn lead_to(&self, target: &str) {
        self.mode.send_modify(|mode| mode.target = target.into());
    }

    /// From now on the bytes that come from the target on new connections are tampered with; `None` ends it.
    /// Open ones live on (see [`reset_all`](Proxy::reset_all)).
    pub fn tamper(&self, tamper: Option<Tamper>) {
        let accepted = self.accepted();
        self.mode.send_modify(|mode| mode.tamper = tamper.map(|tamper| (tamper, accepted)));
    }

    /// Ends every connection by RST, on both sides. New ones are served. Does not wait: see
    /// [`connections`](Proxy::connections).
    pub fn reset_all(&self) {
        self.mode.send_modify(|mode| mode.resets += 1);
    }

    /// A black hole: connections stay open and new ones are accepted, but no byte passes either way until
    /// [`release`](Proxy::release), which delivers what was sent meanwhile (as TCP would after packets were
    /// lost for a while).
    pub fn hold(&self) {
        self.mode.send_modify(|mode| mode.held = true);
    }

    /// Ends [`hold`](Proxy::hold) and [`stall`](Proxy::stall).
    pub fn release(&self) {
        self.mode.send_modify(|mode| {
            mode.held = false;
            mode.stalled_until = None;
        });
    }

    /// A [`hold`](Proxy::hold) that ends by itself after this time. Does not wait for it.
    pub fn stall(&self, time: Duration) {
        self.mode.send_modify(|mode| mode.stalled_until = Some(Instant::now() + time));
    }

    /// Every byte takes this much longer, each way; those already on their way do not. Zero ends it.
    pub fn delay(&self, each_way: Duration) {
        self.mode.send_modify(|mode| mode.delay = each_way);
    }

    /// Nothing listens any more: new connections are refused. Open ones live on (see
    /// [`reset_all`](Proxy::reset_all)). Returns when it is so.
    pub async fn refuse(&self) {
        self.refusing(true).await;
    }

    /// Listens again on the same address. Returns when it does.
    pub async fn accept(&self) {
        self.refusing(false).await;
    }

    async fn refusing(&self, refusing: bool) {
        self.mode.send_modify(|mode| mode.refusing = refusing);
        // The task lives as long as self: waiting cannot fail.
        let _ = self.listening.clone().wait_for(|listening| *listening != refusing).await;
    }

    /// Connections open at this moment.
    pub fn connections(&self) -> usize {
        self.counts.open.load(Relaxed)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Relaxed)
    }

    /// Bytes passed on to the target so far.
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Relaxed)
    }

    /// Bytes passed back from the target so far.
    pub fn received(&self) -> u64 {
        self.counts.received.load(Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The listening side; the connections are its children and end with it.
struct Front {
    address: SocketAddr,
    mode: watch::Receiver<Mode>,
    listens: watch::Sender<bool>,
    counts: Arc<Counts>,
}

impl Front {
    async fn run(mut self, listener: TcpListener) {
        let mut listener = Some(listener);
        let mut connections = JoinSet::new();
        loop {
            let refusing = self.mode.borrow_and_update().refusing;
            if refusing {
                listener = None;
            } else if listener.is_none() {
                // Taken by somebody else for a moment at worst: the port is reserved.
                listener = TcpListener::bind(self.address).await.ok();
            }
            self.listens.send_replace(listener.is_some());
            tokio::select! {
                accepted = accept(listener.as_ref()) => if let Ok((client, _)) = accepted {
                    let number = self.counts.accepted.fetch_add(1, Relaxed);
                    let open = Open::new(self.counts.clone());
                    connections.spawn(serve(client, number, self.mode.clone(), open));
                },
                changed = self.mode.changed() => if changed.is_err() { return },
                Some(_) = connections.join_next() => {},
                () = sleep(Duration::from_millis(50)), if listener.is_none() && !refusing => {},
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Counts a connection for as long as it lives, however it ends.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: Arc<Counts>) -> Open {
        counts.open.fetch_add(1, Relaxed);
        Open(counts)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
