//! Counts the requests of a server, so that it can leave when there are none.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::{sync::Notify, time::Instant};
use tower_layer::Layer;
use tower_service::Service;

/// The service by which gRPC's clients ask whether a server is well.
const GRPC_HEALTH: &str = "/grpc.health.v1.Health/";

/// Counts the requests of a server: a `tower` layer for axum, tonic and others. Clones count together.
///
/// A request counts from its arrival to the end of the answer's body. What asks only whether the server is well does
/// not count: gRPC's health service, and the paths given to [`Traffic::ignoring`].
#[derive(Clone, Debug)]
pub struct Traffic {
    counts: Arc<Counts>,
    ignored: Arc<[String]>,
}

#[derive(Debug)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
    /// When the last request began or ended, in microseconds since `origin`.
    last: AtomicU64,
    origin: Instant,
    ends: Notify,
}

impl Traffic {
    /// Counts all requests but those of gRPC's health service.
    pub fn new() -> Self {
        Self::ignoring(&[])
    }

    /// As [`Traffic::new`], and does not count requests whose path begins with one of these.
    pub fn ignoring(paths: &[&str]) -> Self {
        let counts = Counts {
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            last: AtomicU64::new(0),
            origin: Instant::now(),
            ends: Notify::new(),
        };
        let ignored = paths.iter().copied().chain([GRPC_HEALTH]).map(str::to_owned).collect();
        Self { counts: Arc::new(counts), ignored }
    }

    /// Requests that have arrived so far.
    pub fn requests(&self) -> u64 {
        self.counts.begun.load(SeqCst)
    }

    /// Requests that are under way.
    pub fn in_flight(&self) -> u64 {
        let ended = self.counts.ended.load(SeqCst);
        self.counts.begun.load(SeqCst).saturating_sub(ended)
    }

    /// Waits until no request has come for so long and none is under way. Cancel-safe.
    pub async fn quiet(&self, quiet: Duration) {
        loop {
            let ends = self.counts.ends.notified();
            let silence = self.counts.silence();
            if self.in_flight() > 0 {
                ends.await;
            } else if silence < quiet {
                tokio::time::sleep(quiet - silence).await;
            } else {
                return;
            }
        }
    }

    fn counts(&self, path: &str) -> bool {
        !self.ignored.iter().any(|ignored| path.starts_with(ignored.as_str()))
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self::new()
    }
}

impl Counts {
    fn silence(&self) -> Duration {
        self.origin.elapsed().saturating_sub(Duration::from_micros(self.last.load(SeqCst)))
    }

    fn touch(&self) {
        let now = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.fetch_max(now, SeqCst);
    }
}

/// One request that is under way.
struct InFlight(Arc<Counts>);

impl InFlight {
    fn begin(counts: &Arc<Counts>) -> Self {
        counts.begun.fetch_add(1, SeqCst);
        counts.touch();
        Self(counts.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.touch();
        self.0.ended.fetch_add(1, SeqCst);
        self.0.ends.notify_waiters();
    }
}

impl<S> Layer<S> for Traffic {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, traffic: self.clone() }
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    traffic: Traffic,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<CountedBody<B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let counted = self.traffic.counts(request.uri().path());
        let in_flight = counted.then(|| InFlight::begin(&self.traffic.counts));
        let answering = self.inner.call(request);
        Box::pin(async move {
            let response = answering.await?;
            Ok(response.map(|body| CountedBody { body, in_flight }))
        })
    }
}

pin_project_lite::pin_project! {
    /// A body whose request is under way until it has ended or is dropped.
    pub struct CountedBody<B> {
        #[pin]
        body: B,
        in_flight: Option<InFlight>,
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            *this.in_flight = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for CountedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountedBody").field("is_counted", &self.in_flight.is_some()).finish_non_exhaustive()
    }
}
