//! The channel: a service that sends each request to an endpoint of another one.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use discox_balance::{Balanced, Endpoints, How, Status};
use futures_util::future::BoxFuture;
use http::{
    Request, Response,
    uri::{Authority, Scheme},
};
use tower_service::Service;

use crate::{
    Answer, Builder, Error,
    address::address,
    connection::Http,
    outgoing::{Outgoing, RequestBody},
    send::send,
};

/// Sends requests to the endpoints of a service. Cheap to clone; its connections end with the last clone.
///
/// It is a `tower` service that is always ready: a request waits for an endpoint by itself, as long as
/// [`Options::wait`](crate::Options::wait) says. The answer's body counts as a request in flight until it has ended or
/// is dropped.
pub struct Channel<B: RequestBody> {
    balanced: Balanced<Http<B>>,
    scheme: Scheme,
    origin: Option<Arc<Authority>>,
}

/// What one request wants, in its [extensions](http::Request::extensions_mut).
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish(
    /// The wish.
    pub How,
);

impl<B: RequestBody> Channel<B> {
    /// A channel with all defaults. No I/O.
    pub fn new(endpoints: impl Into<Endpoints>) -> Self {
        Self::builder(endpoints).build()
    }

    /// A channel with settings.
    pub fn builder(endpoints: impl Into<Endpoints>) -> Builder<B> {
        Builder::new(endpoints.into())
    }

    pub(crate) fn over(balanced: Balanced<Http<B>>, scheme: Scheme, origin: Option<Arc<Authority>>) -> Self {
        Self { balanced, scheme, origin }
    }

    /// The state and the counters, as of now.
    pub fn status(&self) -> Status {
        self.balanced.status()
    }

    /// Waits until so many endpoints are ready. Cancel-safe; give it a time-out of your own.
    pub async fn ready(&self, endpoints: usize) {
        self.balanced.ready(endpoints).await;
    }

    /// Sends a request. As [`Service::call`], for who has no need of a service.
    ///
    /// # Errors
    /// As [`Error`] says. Cancel-safe: a request that is given up is reset.
    pub async fn send(&self, request: Request<B>) -> Result<Response<Answer<B>>, Error> {
        let how = request.extensions().get::<Wish>().map_or(How::default(), |wish| wish.0);
        let outgoing = Outgoing::new(request);
        self.balanced
            .call(how, outgoing, |pick, outgoing| {
                let authority = self.origin.as_deref();
                send(pick, outgoing, move |uri, endpoint| {
                    address(uri, &self.scheme, authority.or(endpoint));
                })
            })
            .await
    }
}

impl<B: RequestBody> Service<Request<B>> for Channel<B> {
    type Response = Response<Answer<B>>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let channel = self.clone();
        Box::pin(async move { channel.send(request).await })
    }
}

impl<B: RequestBody> Clone for Channel<B> {
    fn clone(&self) -> Self {
        Self { balanced: self.balanced.clone(), scheme: self.scheme.clone(), origin: self.origin.clone() }
    }
}

impl<B: RequestBody> fmt::Debug for Channel<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}
