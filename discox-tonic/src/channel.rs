//! The channel that generated clients take.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use discox_balance::{Endpoints, Status as Balance};
use discox_http::{Repeatable, Wish};
use futures_util::future::BoxFuture;
use http::{Extensions, HeaderValue, Request, Response, header::USER_AGENT};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, body::Body};
use tower_service::Service;

use crate::{Builder, deadline, status};

/// Calls the endpoints of a service. Cheap to clone; its connections end with the last clone.
///
/// A `tower` service of errors that are [`Status`], whose [`source`](std::error::Error::source) is the
/// [`discox_http::Error`]. Always ready: a call waits for an endpoint by itself.
#[derive(Clone, Debug)]
pub struct Channel {
    pub(crate) http: discox_http::Channel<Body>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) user_agent: HeaderValue,
}

impl Channel {
    /// A channel with all defaults, in plain text. No I/O.
    pub fn new(endpoints: impl Into<Endpoints>) -> Self {
        Self::builder(endpoints).build()
    }

    /// A channel with settings.
    pub fn builder(endpoints: impl Into<Endpoints>) -> Builder {
        Builder::new(endpoints.into())
    }

    /// The state and the counters, as of now.
    pub fn status(&self) -> Balance {
        self.http.status()
    }

    /// Waits until so many endpoints are ready. Cancel-safe; give it a time-out of your own.
    pub async fn ready(&self, endpoints: usize) {
        self.http.ready(endpoints).await;
    }

    async fn send(self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        request.headers_mut().entry(USER_AGENT).or_insert(self.user_agent);
        keep_wishes(request.extensions_mut());
        let limit = deadline::of(request.headers()).into_iter().chain(self.timeout).min();
        let Some(limit) = limit else {
            return Ok(self.http.send(request).await.map_err(status::of)?.map(Body::new));
        };
        let deadline = Instant::now() + limit;
        let mut wish = request.extensions().get::<Wish>().copied().unwrap_or_default();
        wish.0.deadline = Some(wish.0.deadline.map_or(deadline, |sooner| sooner.min(deadline)));
        request.extensions_mut().insert(wish);
        match timeout_at(deadline, self.http.send(request)).await {
            Ok(answer) => Ok(answer.map_err(status::of)?.map(Body::new)),
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))),
        }
    }
}

/// Drops what is for layers above us (tonic's own, for one): a request is kept until it is answered, with what is left.
fn keep_wishes(extensions: &mut Extensions) {
    let (wish, repeatable) = (extensions.remove::<Wish>(), extensions.remove::<Repeatable>());
    *extensions = Extensions::new();
    if let Some(wish) = wish {
        extensions.insert(wish);
    }
    if let Some(repeatable) = repeatable {
        extensions.insert(repeatable);
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}
