//! A gRPC service of one's own: the health service, whose client and server tonic has generated, under another name, so
//! that its calls count as calls.

mod pace;
mod process;
mod streams;

use std::{net::TcpListener, time::Duration};

use self::streams::Streams;
pub use self::{
    pace::Pace,
    process::{Served, serve_if_told},
    streams::{Direction, stream},
};
use anyhow::Result;
use discox_http::Traffic;
use discox_tonic::Channel;
use http::{Request, Uri, uri::PathAndQuery};
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
pub use tonic::{Code, Status};
pub use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};
use tower::{
    ServiceExt,
    util::{MapRequest, MapRequestLayer},
};

/// The service's name, and what it is behind it.
const ORDERS: &str = "/shop.Orders/";
const HEALTH: &str = "/grpc.health.v1.Health/";

/// A server that shuts down in order does it by then.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// A server of it, on a runtime of its own, so that it can be killed.
#[derive(Debug)]
pub struct Orders {
    endpoint: String,
    traffic: Traffic,
    reporter: HealthReporter,
    runtime: Option<Runtime>,
    shutdown: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

/// A client of it.
pub type OrdersClient = HealthClient<MapRequest<Channel, fn(Request<Body>) -> Request<Body>>>;

/// A client over a channel.
pub fn client(channel: &Channel) -> OrdersClient {
    HealthClient::new(channel.clone().map_request(as_orders as fn(_) -> _))
}

/// One call.
///
/// # Errors
/// As the channel says.
pub async fn call(client: &OrdersClient) -> Result<(), Status> {
    client.clone().check(HealthCheckRequest::default()).await.map(drop)
}

impl Orders {
    /// Listens on a port of its own, on the loopback.
    ///
    /// # Errors
    /// No port or no thread is left.
    pub fn start() -> Result<Self> {
        Self::start_at("127.0.0.1:0", Pace::default())
    }

    /// As [`Orders::start`], at an address and a pace.
    ///
    /// # Errors
    /// The address is not ours or taken, or no thread is left.
    pub fn start_at(address: &str, pace: Pace) -> Result<Self> {
        Self::serve(address, pace, true)
    }

    /// As [`Orders::start`], without the health service: it answers streams only.
    ///
    /// # Errors
    /// As [`Orders::start`].
    pub fn without_health() -> Result<Self> {
        Self::serve("127.0.0.1:0", Pace::default(), false)
    }

    fn serve(address: &str, pace: Pace, has_health: bool) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let endpoint = listener.local_addr()?.to_string();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (reporter, service) = health_reporter();
        let (shutdown, told) = oneshot::channel::<()>();
        let traffic = Traffic::new();
        let server = tonic::transport::Server::builder()
            .layer(traffic.clone())
            .layer(pace)
            .layer(MapRequestLayer::new(as_health as fn(_) -> _))
            .add_optional_service(has_health.then_some(service))
            .add_service(Streams);
        let serving = runtime.spawn(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            // It is told by a drop, too.
            let told = async { drop(told.await) };
            let _ = server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), told).await;
        });
        let (runtime, shutdown, serving) = (Some(runtime), Some(shutdown), Some(serving));
        Ok(Self { endpoint, traffic, reporter, runtime, shutdown, serving })
    }

    /// `host:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What comes to it.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Changes what it answers.
    pub fn reporter(&self) -> &HealthReporter {
        &self.reporter
    }

    /// As `kill -9` does to the process: connections break at once. Nobody listens there when it returns.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be waited for on a thread of another one.
            let _ = std::thread::spawn(|| drop(runtime)).join();
        }
    }

    /// Tells clients by GOAWAY; what is under way may end.
    pub fn shut_down(&mut self) {
        self.shutdown.take();
    }

    /// As [`Orders::shut_down`], and waits for the end.
    ///
    /// # Errors
    /// It does not end.
    pub async fn end(mut self) -> Result<()> {
        self.shut_down();
        if let Some(serving) = self.serving.take() {
            timeout(ENDS_WITHIN, serving).await??;
        }
        Ok(())
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.kill();
    }
}

fn as_orders(request: Request<Body>) -> Request<Body> {
    rename(request, HEALTH, ORDERS)
}

fn as_health<B>(request: Request<B>) -> Request<B> {
    rename(request, ORDERS, HEALTH)
}

fn rename<B>(mut request: Request<B>, from: &str, to: &str) -> Request<B> {
    let path = request.uri().path().replacen(from, to, 1);
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = PathAndQuery::try_from(path).ok();
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
}
