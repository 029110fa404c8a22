//! One `zookeeper-async` client in a runtime of its own, so that it ends when it should: dropped, it
//! would go on for ever. It is used up to its first loss of the connection: what it does after that
//! (another session without a word, watches forgotten, answers to the wrong requests, attempts without
//! a pause) is never waited for.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use discox_core::backend::lock;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tracing::{Dispatch, dispatcher};
use zookeeper_async::{ZkError, ZkResult, ZkState, ZooKeeper};

use super::told::Told;
use crate::{
    client::{Fault, Options, Session},
    security::Login,
};

/// Requests under way at once: with many, the crate can come to a standstill when a connection breaks.
const IN_FLIGHT: u32 = 8;

/// Below this its pings come too late for a busy machine.
const SHORTEST_SESSION: Duration = Duration::from_secs(6);

/// Its pause between two attempts. It makes them until it is noticed that the connection is lost.
const RETRY: Duration = Duration::from_millis(100);

/// Probes that may fail one after the other.
const MISSES: u32 = 2;

/// A client with its connection.
pub(super) struct Handle {
    runtime: Mutex<Option<Runtime>>,
    spawner: tokio::runtime::Handle,
    zookeeper: Arc<ZooKeeper>,
    places: Arc<Semaphore>,
    /// Why it is over, when it is.
    over: watch::Sender<Option<Fault>>,
    pub(super) session: Session,
}

impl Handle {
    /// Connects to this member. Dropping the future ends the attempt.
    pub(super) async fn connect(address: SocketAddr, options: &Options) -> Result<Self, Fault> {
        let told = watch::Sender::new(None);
        let runtime = Owned(Some(runtime(&told)?));
        let spawner = runtime.0.as_ref().ok_or(Fault::Closed)?.handle().clone();
        let over = watch::Sender::new(None);
        let (mut session, ended) = (told.subscribe(), over.clone());
        let session_timeout = options.session_timeout.max(SHORTEST_SESSION);
        let login = options.security.login.as_ref().map(Login::digest);
        let connecting = spawner.spawn(async move {
            let (address, watcher) = (address.to_string(), |_| {});
            let zookeeper =
                ZooKeeper::connect_with_retry_time(&address, session_timeout, watcher, RETRY).await?;
            // Its tasks have not run yet, since the runtime has one thread: no state is missed.
            zookeeper.add_listener(move |state| end(&ended, lost(state)));
            if let Some(login) = login {
                zookeeper.add_auth("digest", login.as_bytes().to_vec()).await?;
            }
            Ok(zookeeper)
        });
        let zookeeper =
            Arc::new(connecting.await.map_err(panicked)?.map_err(|error: ZkError| Fault::from(error))?);
        let session = session.wait_for(Option::is_some).await.ok().and_then(|session| *session);
        let session = session.ok_or(Fault::Closed)?;
        spawner.spawn(watch_over(zookeeper.clone(), over.clone(), session.timeout / 3));
        let places = Arc::new(Semaphore::new(IN_FLIGHT as usize));
        let runtime = Mutex::new(runtime.release());
        Ok(Self { runtime, spawner, zookeeper, places, over, session })
    }

    /// Sends `requests` requests together, and waits for their answer. They are answered even if
    /// nobody waits any longer, and keep their places until then.
    pub(super) async fn ask<T, F>(
        &self,
        requests: u32,
        ask: impl FnOnce(Arc<ZooKeeper>) -> F + Send,
    ) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = ZkResult<T>> + Send + 'static,
    {
        let places = self.places.clone().acquire_many_owned(requests).await.map_err(|_| Fault::Closed)?;
        self.check()?;
        let (asked, limit) = (ask(self.zookeeper.clone()), self.session.timeout);
        let answer = self.spawner.spawn(async move {
            let answer = timeout(limit, asked).await;
            drop(places);
            answer
        });
        let answer = answer.await.map_err(panicked)?;
        // After a loss it may be the answer to something else.
        self.check()?;
        match answer {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                end(&self.over, Some(Fault::TimedOut));
                Err(Fault::TimedOut)
            }
        }
    }

    /// Whether it is not over yet.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.over.borrow().clone().map_or(Ok(()), Err)
    }

    /// Resolves when the connection is lost.
    pub(super) fn broken(&self) -> impl Future<Output = Fault> + Send + 'static {
        let mut over = self.over.subscribe();
        async move {
            let fault = over.wait_for(Option::is_some).await.ok().and_then(|over| over.clone());
            fault.unwrap_or(Fault::Closed)
        }
    }

    /// Ends everything at once, without a word to the servers.
    pub(super) fn end(&self, fault: Fault) {
        end(&self.over, Some(fault));
        let runtime = lock(&self.runtime).take();
        drop(Owned(runtime));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end(Fault::Closed);
    }
}

/// A runtime that can be dropped anywhere: it does not wait for its tasks.
struct Owned(Option<Runtime>);

impl Owned {
    fn release(mut self) -> Option<Runtime> {
        self.0.take()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// One thread, whose log lines go to `told` and nowhere else.
fn runtime(told: &watch::Sender<Option<Session>>) -> Result<Runtime, Fault> {
    let log = Dispatch::new(Told(told.clone()));
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("zookeeper-async")
        .enable_all()
        // Until the end of the thread.
        .on_thread_start(move || std::mem::forget(dispatcher::set_default(&log)))
        .build()
        .map_err(|error| Fault::Other(format!("no thread for zookeeper-async: {error}")))
}

/// Asks whether the server still answers. The client pings late, and never tells that no answer came.
async fn watch_over(zookeeper: Arc<ZooKeeper>, over: watch::Sender<Option<Fault>>, period: Duration) {
    let mut missed = 0;
    while missed < MISSES {
        if missed == 0 {
            sleep(period).await;
        }
        match timeout(period, zookeeper.exists("/", false)).await {
            Ok(Ok(_)) => missed = 0,
            Ok(Err(_)) | Err(_) => missed += 1,
        }
    }
    end(&over, Some(Fault::Disconnected("the member does not answer".into())));
}

/// Only the first end counts.
fn end(over: &watch::Sender<Option<Fault>>, fault: Option<Fault>) {
    over.send_if_modified(|known| {
        let ends = known.is_none() && fault.is_some();
        if ends {
            *known = fault;
        }
        ends
    });
}

/// Why the connection is lost, in this state.
fn lost(state: ZkState) -> Option<Fault> {
    match state {
        ZkState::Connected => None,
        ZkState::AuthFailed => Some(Fault::AuthFailed),
        ZkState::Closed => Some(Fault::Closed),
        ZkState::ConnectedReadOnly => Some(Fault::Busy("the member is read-only".into())),
        ZkState::Connecting => Some(Fault::Disconnected("closed or silent".into())),
        // `NotConnected`, which is deprecated, and what it says when the session has expired.
        _ => Some(Fault::Expired),
    }
}

/// A task ends early with its runtime, or by a panic on an answer that cannot be read.
fn panicked(error: tokio::task::JoinError) -> Fault {
    if error.is_panic() {
        Fault::Other("zookeeper-async panicked".into())
    } else {
        Fault::Disconnected("the client was ended".into())
    }
}

impl From<ZkError> for Fault {
    fn from(error: ZkError) -> Self {
        use ZkError as E;
        match error {
            E::NoNode => Self::NoNode,
            E::NodeExists => Self::NodeExists,
            E::BadVersion => Self::BadVersion,
            E::NotEmpty => Self::NotEmpty,
            E::NoChildrenForEphemerals => Self::EphemeralParent,
            E::NoAuth => Self::NoAuth,
            E::AuthFailed => Self::AuthFailed,
            E::InvalidACL => Self::InvalidAcl,
            E::OperationTimeout => Self::TimedOut,
            E::SessionExpired => Self::Expired,
            E::ConnectionLoss | E::SessionMoved => Self::Disconnected(error.to_string()),
            E::NotReadOnly => Self::Busy(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}
