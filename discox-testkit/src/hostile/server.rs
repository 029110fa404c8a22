//! A server that plays a script to everyone who connects.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::Result;
use async_trait::async_trait;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    task::{JoinHandle, JoinSet},
};

/// What a hostile registry does with one connection.
#[async_trait]
pub(super) trait Script: Send + Sync + 'static {
    /// Serves it, to whatever end.
    async fn serve(&self, stream: TcpStream) -> io::Result<()>;
}

/// Ends with all its connections when dropped.
pub(super) struct Hostile {
    address: String,
    accepted: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Hostile {
    /// Starts it in another runtime: it may take all the time there.
    pub(super) async fn start(script: Arc<dyn Script>, elsewhere: &Handle) -> Result<Self> {
        elsewhere.spawn(Self::begin(script)).await?
    }

    async fn begin(script: Arc<dyn Script>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let accepted = Arc::new(AtomicU64::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        count.fetch_add(1, Relaxed);
                        let script = script.clone();
                        connections.spawn(async move { script.serve(stream).await });
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, accepted, task })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Connections so far.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}
