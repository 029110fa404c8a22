//! The connections: how many, how long a request may take to come, and how they end.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{
    Shared, api,
    counts::{Present, add},
    io::Patient,
};

/// Connections at once. Each needs a file descriptor.
pub(super) const AT_ONCE: usize = 4096;
/// How long the head of a request may take, and a connection may wait for the next one.
const HEAD: Duration = Duration::from_secs(15);
/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// How long a reader that is gone without a word is waited for.
const GONE: Duration = Duration::from_secs(30);
/// How long answers may take to end with the server.
const ENDING: Duration = Duration::from_secs(2);
/// Before the next connection is accepted, when that has failed.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Allows as many open files as we may have.
pub(super) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(AT_ONCE as u64 * 2, |most| most.min(AT_ONCE as u64 * 2));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        // With fewer files there are fewer connections.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Accepts connections and answers them. Never returns.
pub(super) async fn serve(listener: TcpListener, shared: &Arc<Shared>) {
    let free = Arc::new(Semaphore::new(shared.most_connections));
    let router = api::router(shared);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        let Ok(place) = free.clone().try_acquire_owned() else {
            // Closed at once: a reader that has no place must not take any.
            add(&shared.counts.refused_connections);
            continue;
        };
        prepare(&stream);
        let (router, shared) = (router.clone(), shared.clone());
        tokio::spawn(async move {
            answer(stream, router, &shared).await;
            drop(place);
        });
    }
}

/// Ends answers that go on, and waits a moment for all.
pub(super) async fn end(shared: &Arc<Shared>) {
    shared.ending.send_replace(true);
    let none_left = async {
        while shared.counts.connections.load(std::sync::atomic::Ordering::Relaxed) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = timeout(ENDING, none_left).await;
}

/// Answers the requests of one connection.
async fn answer(stream: TcpStream, router: Router, shared: &Arc<Shared>) {
    let _present = Present::new(shared, |counts| &counts.connections);
    let io = TokioIo::new(Patient::new(stream, shared));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LONGEST_HEAD);
    let mut connection = std::pin::pin!(builder.serve_connection(io, TowerToHyperService::new(router)));
    let mut ending = shared.ending.subscribe();
    let end = async { drop(ending.wait_for(|ending| *ending).await) };
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        () = end => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "a connection has ended");
    }
}

/// Small answers are sent at once, and a peer that is gone without a word is noticed.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(GONE));
}
