//! Connections of HTTP/1.1 to one endpoint: each carries one request at a time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use discox_balance::Target;
use discox_core::backend::lock;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::{sync::watch, time::timeout};

use crate::{
    dial::Dial,
    executor::Alive,
    outgoing::{RequestBody, Resendable},
};

/// Connections that are kept for the next requests. A burst may open more.
const IDLE: usize = 64;

/// How long a request waits for a connection of its own, where all others are taken.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);

/// The connections to one endpoint. They are lost when the server has closed the last one, or lets us make none.
pub(crate) struct Pool<B: RequestBody> {
    dial: Arc<Dial>,
    target: Arc<Target>,
    idle: Mutex<Vec<Lease<B>>>,
    state: watch::Sender<State>,
    alive: Alive,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// For good: another pool takes its place.
    is_lost: bool,
}

/// A connection for one request. Dropped before its answer has ended, it is closed by us.
pub(crate) struct Lease<B> {
    sender: http1::SendRequest<Resendable<B>>,
    is_left: Arc<AtomicBool>,
}

impl<B: RequestBody> Lease<B> {
    pub(crate) async fn send(
        &mut self,
        request: Request<Resendable<B>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Resendable<B>>>> {
        self.sender.try_send_request(request).await
    }
}

impl<B> Drop for Lease<B> {
    fn drop(&mut self) {
        self.is_left.store(true, SeqCst);
    }
}

impl<B: RequestBody> Pool<B> {
    /// Makes the first connection. The future resolves when they are lost.
    pub(crate) async fn open(
        dial: Arc<Dial>,
        target: Arc<Target>,
    ) -> Result<(Self, BoxFuture<'static, ()>), String> {
        let (state, alive) = (watch::Sender::default(), Alive::default());
        let pool = Self { dial, target, idle: Mutex::default(), state, alive };
        let first = pool.connect().await?;
        pool.give_back(first);
        let mut state = pool.state.subscribe();
        let closed = async move {
            // An error says that the pool is gone.
            let _ = state.wait_for(|state| state.is_lost).await;
        };
        Ok((pool, Box::pin(closed)))
    }

    /// A connection that carries no request now.
    pub(crate) async fn lease(&self) -> Result<Lease<B>, String> {
        loop {
            let Some(mut idle) = lock(&self.idle).pop() else { break };
            // Not where it was closed, or where its last answer was not read to the end.
            if idle.sender.ready().await.is_ok() {
                return Ok(idle);
            }
        }
        let in_time = timeout(CONNECTS_WITHIN, self.connect()).await;
        let made = in_time.unwrap_or_else(|_| Err(format!("no connection within {CONNECTS_WITHIN:?}")));
        if made.is_err() {
            self.state.send_modify(|state| state.is_lost |= state.open == 0);
        }
        made
    }

    pub(crate) fn give_back(&self, lease: Lease<B>) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE && !lease.sender.is_closed() {
            idle.push(lease);
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.state.borrow().is_lost
    }

    pub(crate) fn close(&self) {
        self.alive.end();
    }

    async fn connect(&self) -> Result<Lease<B>, String> {
        let io = TokioIo::new(self.dial.reach(&self.target).await?);
        let (sender, connection) = http1::handshake(io).await.map_err(|error| error.to_string())?;
        let open = Open::new(&self.state);
        let is_left = open.is_left.clone();
        self.alive.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/1.1 connection ended");
            }
            drop(open);
        });
        Ok(Lease { sender, is_left })
    }
}

/// Counts one connection as open.
struct Open {
    state: watch::Sender<State>,
    is_left: Arc<AtomicBool>,
}

impl Open {
    fn new(state: &watch::Sender<State>) -> Self {
        state.send_modify(|state| state.open += 1);
        Self { state: state.clone(), is_left: Arc::default() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let is_left = self.is_left.load(SeqCst);
        self.state.send_modify(|state| {
            state.open = state.open.saturating_sub(1);
            state.is_lost |= state.open == 0 && !is_left;
        });
    }
}
