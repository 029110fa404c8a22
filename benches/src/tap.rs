//! A relay before a registry that counts what passes: bytes, connections, and requests as the
//! registry's protocol has them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::Result;
use discox::BackendType;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

use crate::lane::Lane;

/// A relay on a thread of its own.
pub struct Tap {
    address: SocketAddr,
    counts: Arc<Counts>,
    _lane: Lane,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    open: AtomicI64,
}

/// What has passed so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// Requests, without what only keeps a connection alive.
    pub requests: u64,
    /// Bytes to the registry.
    pub up: u64,
    /// Bytes from the registry.
    pub down: u64,
}

impl Passed {
    /// What has passed since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            up: self.up - before.up,
            down: self.down - before.down,
        }
    }
}

impl Tap {
    /// A relay to `target`.
    ///
    /// # Errors
    /// No port to listen on.
    pub async fn to(backend: BackendType, target: &str) -> Result<Self> {
        let target: SocketAddr = target.parse()?;
        let counts = Arc::new(Counts::default());
        let lane = Lane::new("tap")?;
        let address = lane
            .run({
                let counts = counts.clone();
                move || async move {
                    let listener = TcpListener::bind("127.0.0.1:0").await?;
                    let address = listener.local_addr()?;
                    tokio::spawn(accept(listener, backend, target, counts));
                    Ok(address)
                }
            })
            .await?;
        Ok(Self { address, counts, _lane: lane })
    }

    /// Where to connect.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What has passed so far.
    pub fn passed(&self) -> Passed {
        let Counts { requests, up, down, .. } = &*self.counts;
        Passed { requests: requests.load(Relaxed), up: up.load(Relaxed), down: down.load(Relaxed) }
    }

    /// Connections open now.
    pub fn connections(&self) -> i64 {
        self.counts.open.load(Relaxed)
    }
}

async fn accept(listener: TcpListener, backend: BackendType, target: SocketAddr, counts: Arc<Counts>) {
    let mut relays = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        relays.spawn(relay(client, backend, target, counts.clone()));
        while relays.try_join_next().is_some() {}
    }
}

async fn relay(client: TcpStream, backend: BackendType, target: SocketAddr, counts: Arc<Counts>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    counts.open.fetch_add(1, Relaxed);
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut counter = Counter::new(backend);
    let up = pump(from_client, to_server, |bytes| {
        counts.up.fetch_add(bytes.len() as u64, Relaxed);
        counts.requests.fetch_add(counter.count(bytes), Relaxed);
    });
    let down = pump(from_server, to_client, |bytes| {
        counts.down.fetch_add(bytes.len() as u64, Relaxed);
    });
    // Either side's end is the end of the other.
    tokio::select! {
        () = up => {}
        () = down => {}
    }
    counts.open.fetch_sub(1, Relaxed);
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut note: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        note(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Counts the requests in what a client sends on one connection.
struct Counter {
    backend: BackendType,
    /// What has come and is not yet a whole head of a frame or line.
    head: Vec<u8>,
    /// Bytes of the frame under way that are still to come.
    rest: usize,
    /// HTTP/2 begins with a preface, ZooKeeper with a request to connect.
    begun: bool,
}

/// `PRI * HTTP/2.0` and so on.
const HTTP2_PREFACE: usize = 24;

impl Counter {
    fn new(backend: BackendType) -> Self {
        let rest = if backend == BackendType::Etcd { HTTP2_PREFACE } else { 0 };
        Self { backend, head: Vec::new(), rest, begun: false }
    }

    fn count(&mut self, bytes: &[u8]) -> u64 {
        match self.backend {
            BackendType::Consul => self.http1(bytes),
            BackendType::Etcd => self.frames(bytes, 9, http2),
            _ => self.frames(bytes, 12, zookeeper),
        }
    }

    /// One request is one line that ends with the protocol's name.
    fn http1(&mut self, bytes: &[u8]) -> u64 {
        let mut requests = 0;
        for byte in bytes {
            self.head.push(*byte);
            if *byte == b'\n' {
                requests += u64::from(self.head.ends_with(b" HTTP/1.1\r\n"));
                self.head.clear();
            }
        }
        requests
    }

    fn frames(&mut self, mut bytes: &[u8], head: usize, read: fn(&[u8]) -> Frame) -> u64 {
        let mut requests = 0;
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            let (start, others) = bytes.split_at(bytes.len().min(head - self.head.len()));
            self.head.extend_from_slice(start);
            bytes = others;
            if self.head.len() == head {
                let frame = read(&self.head);
                self.head.clear();
                self.rest = frame.length.saturating_sub(frame.counted_in_head);
                let first = !std::mem::replace(&mut self.begun, true);
                requests += u64::from(frame.is_request || first && self.backend == BackendType::Zookeeper);
            }
        }
        requests
    }
}

struct Frame {
    length: usize,
    counted_in_head: usize,
    is_request: bool,
}

/// Length (3), type (1), flags (1), stream (4). Each message of a call is a DATA frame, but for the empty
/// one that ends it.
fn http2(head: &[u8]) -> Frame {
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    Frame { length, counted_in_head: 0, is_request: head[3] == 0 && length > 0 }
}

/// Length (4), number (4), operation (4); the number of a ping is -2.
fn zookeeper(head: &[u8]) -> Frame {
    let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
    let length = usize::try_from(i32::from_be_bytes(word(0))).unwrap_or(0);
    Frame { length, counted_in_head: 8, is_request: i32::from_be_bytes(word(4)) != -2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However it is cut.
    fn count(backend: BackendType, bytes: &[u8]) -> u64 {
        let mut whole = Counter::new(backend);
        let mut cut = Counter::new(backend);
        let requests = whole.count(bytes);
        assert_eq!(bytes.chunks(1).map(|byte| cut.count(byte)).sum::<u64>(), requests);
        requests
    }

    #[test]
    fn http_requests_are_counted_by_their_first_line() {
        let two = b"GET /a HTTP/1.1\r\nhost: b\r\n\r\nPUT /c HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(count(BackendType::Consul, two), 2);
    }

    #[test]
    fn http2_messages_are_counted_and_pings_are_not() {
        let mut bytes = vec![b'P'; HTTP2_PREFACE];
        for (kind, payload) in [(4, 6), (1, 30), (0, 12), (6, 8), (0, 0)] {
            bytes.extend([0, 0, payload, kind, 0, 0, 0, 0, 1]);
            bytes.extend(vec![7; payload.into()]);
        }
        assert_eq!(count(BackendType::Etcd, &bytes), 1);
    }

    #[test]
    fn zookeeper_requests_are_counted_and_pings_are_not() {
        let mut bytes = Vec::new();
        for (number, operation, more) in [(0, 0, 37), (-2, 11, 0), (1, 4, 20), (2, 22, 5)] {
            bytes.extend((8 + more as i32).to_be_bytes());
            bytes.extend(i32::to_be_bytes(number));
            bytes.extend(i32::to_be_bytes(operation));
            bytes.extend(vec![9; more]);
        }
        assert_eq!(count(BackendType::Zookeeper, &bytes), 3);
    }
}
