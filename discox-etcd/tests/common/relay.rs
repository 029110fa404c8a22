//! A relay that knows the frames of HTTP/2 (RFC 9113, section 4.1), and can swallow those of some streams.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use anyhow::Result;
use discox_core::backend::lock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    task::JoinHandle,
};

const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// Ends when dropped.
pub(crate) struct Relay {
    address: String,
    streams: Arc<Streams>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Streams {
    /// The server has begun to answer, and has not ended.
    open: Mutex<HashSet<u32>>,
    swallowed: Mutex<HashSet<u32>>,
    frames: AtomicUsize,
}

impl Relay {
    pub(crate) async fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (streams, target) = (Arc::new(Streams::default()), target.to_owned());
        let task = tokio::spawn({
            let streams = streams.clone();
            async move {
                while let Ok((near, _)) = listener.accept().await {
                    let Ok(far) = TcpStream::connect(&target).await else { continue };
                    let ((mut from_near, to_near), (from_far, mut to_far)) =
                        (near.into_split(), far.into_split());
                    tokio::spawn(async move { copy(&mut from_near, &mut to_far).await });
                    tokio::spawn(streams.clone().pass(from_far, to_near));
                }
            }
        });
        Ok(Self { address, streams, task })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What is sent on the streams that are open now is swallowed from now on; of a connection that is quiet those
    /// are the watches.
    pub(crate) fn swallow_open_streams(&self) -> usize {
        let open = lock(&self.streams.open).clone();
        let count = open.len();
        lock(&self.streams.swallowed).extend(open);
        count
    }

    /// Frames that were swallowed.
    pub(crate) fn swallowed(&self) -> usize {
        self.streams.frames.load(Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Streams {
    async fn pass(self: Arc<Self>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
        loop {
            let mut frame = vec![0; 9];
            from.read_exact(&mut frame).await?;
            let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
            let (kind, flags) = (frame[3], frame[4]);
            let stream = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
            frame.resize(9 + length as usize, 0);
            from.read_exact(&mut frame[9..]).await?;
            if stream > 0 {
                let mut open = lock(&self.open);
                if kind == RST_STREAM || flags & END_STREAM > 0 && kind <= 1 {
                    open.remove(&stream);
                } else {
                    open.insert(stream);
                }
            }
            if kind == DATA && lock(&self.swallowed).contains(&stream) {
                self.frames.fetch_add(1, Relaxed);
            } else {
                to.write_all(&frame).await?;
            }
        }
    }
}
