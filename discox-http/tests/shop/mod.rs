//! A shop: servers on the loopback, registered on the embedded backend.
#![allow(dead_code)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::{Router, extract::State, routing::any};
use bytes::Bytes;
use discox_core::{Register, RegisterConfig, Registry, RegistryConfig, Watching};
use discox_http::{Channel, Error, Options, Protocol, Traffic};
use http_body_util::{BodyExt, Full};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::oneshot,
    time::{sleep, timeout},
};

/// Within this time everything happens that should.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A registry that nobody else has.
pub(crate) fn registry() -> Result<Arc<dyn Registry>> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let store = format!("memory://shop-{}", NEXT.fetch_add(1, Relaxed));
    Ok(discox_memory::connect(RegistryConfig { backend_endpoints: vec![store], ..Default::default() })?)
}

pub(crate) fn channel(orders: &Watching, protocol: Protocol) -> Channel<Full<Bytes>> {
    Channel::builder(orders).protocol(protocol).options(options()).build()
}

pub(crate) fn options() -> Options {
    // Patient, so that "at once" can be told from it on a machine that is slow
    Options::default().wait(DEADLINE).backoff(Duration::from_millis(20), Duration::from_millis(200))
}

/// Waits for what should come about.
pub(crate) async fn until(holds: impl Fn() -> bool) -> Result<()> {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    Ok(timeout(DEADLINE, waiting).await?)
}

/// Waits until so many more requests were sent.
pub(crate) async fn more_requests(channel: &Channel<Full<Bytes>>, count: u64) -> Result<()> {
    let before = channel.status().picks;
    until(|| channel.status().picks >= before + count).await
}

/// A server that answers who it is, on a runtime of its own, so that it can be killed.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) register: Arc<dyn Register>,
    pub(crate) traffic: Traffic,
    runtime: Option<Runtime>,
    shutdown: Option<oneshot::Sender<()>>,
    stopped: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    pub(crate) async fn start(registry: &Arc<dyn Registry>, attr: &str) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let endpoint = listener.local_addr()?.to_string();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let traffic = Traffic::ignoring(&["/healthz"]);
        let router = Router::new()
            .route("/never", any(std::future::pending::<String>))
            .fallback(any(who))
            .layer(traffic.clone())
            .with_state(endpoint.clone());
        let (shutdown, told) = oneshot::channel::<()>();
        let stopped = runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
                if told.await.is_err() {
                    // Killed rather than shut down.
                    std::future::pending::<()>().await;
                }
            });
            let _ = serving.await;
        });
        let register = registry.register(RegisterConfig {
            service_name: "orders".into(),
            service_endpoint: endpoint.clone(),
            attr: attr.into(),
            ..Default::default()
        })?;
        register.start().await?;
        let (runtime, shutdown, stopped) = (Some(runtime), Some(shutdown), Some(stopped));
        Ok(Self { endpoint, register, traffic, runtime, shutdown, stopped })
    }

    /// As `kill -9` does to the process: the connections break, the record stays. Nobody listens there when it returns.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be waited for on a thread of another one.
            let _ = std::thread::spawn(|| drop(runtime)).join();
        }
    }

    /// As a server does on SIGTERM, once it has left.
    pub(crate) async fn shut_down(&mut self) -> Result<()> {
        let _ = self.shutdown.take().context("shut down before")?.send(());
        self.stopped.take().context("shut down before")?.await?;
        self.kill();
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn who(State(endpoint): State<String>, body: Bytes) -> String {
    format!("{endpoint} {}", body.len())
}

pub(crate) fn get(path: &str) -> http::Request<Full<Bytes>> {
    http::Request::get(path).body(Full::default()).unwrap_or_default()
}

/// Who has answered.
pub(crate) async fn ask(
    channel: &Channel<Full<Bytes>>,
    request: http::Request<Full<Bytes>>,
) -> Result<String> {
    let answer = channel.send(request).await?;
    anyhow::ensure!(answer.status() == 200, "{}", answer.status());
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?)
}

/// What a client sees that asks without a pause until it is told to stop.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answered: u64,
    /// May have been processed by a server that died.
    pub(crate) broken: u64,
    pub(crate) failed: Vec<String>,
    pub(crate) longest: Duration,
}

/// Asks by so many tasks until the future is done.
pub(crate) async fn under_load<T>(
    channel: &Channel<Full<Bytes>>,
    tasks: usize,
    future: impl Future<Output = T>,
) -> Result<(T, Seen)> {
    let (stop, stopped) = tokio::sync::watch::channel(());
    let asking: Vec<_> = (0..tasks)
        .map(|_| {
            let (channel, stopped) = (channel.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut seen = Seen::default();
                while stopped.has_changed().is_ok() {
                    let began = Instant::now();
                    match ask(&channel, get("/orders/7")).await {
                        Ok(_) => seen.answered += 1,
                        Err(error) => match error.downcast_ref::<Error>() {
                            Some(Error::Broken { .. }) => seen.broken += 1,
                            _ if error.is::<hyper::Error>() => seen.broken += 1,
                            _ => seen.failed.push(format!("{error:#}")),
                        },
                    }
                    seen.longest = seen.longest.max(began.elapsed());
                    // All tasks share the processors with the servers.
                    tokio::task::yield_now().await;
                }
                seen
            })
        })
        .collect();
    let outcome = future.await;
    drop(stop);
    let mut all = Seen::default();
    for one in asking {
        let one = one.await?;
        all.answered += one.answered;
        all.broken += one.broken;
        all.failed.extend(one.failed);
        all.longest = all.longest.max(one.longest);
    }
    Ok((outcome, all))
}
