//! Endpoints that say themselves whether they are well.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{TryFutureExt, future::BoxFuture, stream::BoxStream};
use http::{
    Request, Response,
    uri::{Authority, Scheme},
};
use hyper::{body::Incoming, client::conn::http2};
use tower_service::Service;

use crate::{
    address::address,
    outgoing::{RequestBody, Resendable},
};

/// Asks an endpoint of HTTP/2, over its own connection, whether it is well.
pub trait Health<B>: Send + Sync + 'static {
    /// What the endpoint says: that it is well, or why it is not. It is not picked before it has said that it is well,
    /// and while it says that it is not. The stream should end when the connection is closed.
    fn watch(&self, connection: Direct<B>) -> BoxStream<'static, Result<(), String>>;
}

/// One connection of a channel: a `tower` service that is always ready.
pub struct Direct<B> {
    sender: http2::SendRequest<Resendable<B>>,
    scheme: Scheme,
    authority: Option<Arc<Authority>>,
}

impl<B: RequestBody> Direct<B> {
    pub(crate) fn new(
        sender: http2::SendRequest<Resendable<B>>,
        scheme: Scheme,
        authority: Option<Arc<Authority>>,
    ) -> Self {
        Self { sender, scheme, authority }
    }

    /// Whether it is closed. It does not open again.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl<B: RequestBody> Service<Request<B>> for Direct<B> {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, hyper::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        address(request.uri_mut(), &self.scheme, self.authority.as_deref());
        let request = request.map(Resendable::new);
        Box::pin(self.sender.try_send_request(request).map_err(|error| error.into_error()))
    }
}

impl<B> Clone for Direct<B> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), scheme: self.scheme.clone(), authority: self.authority.clone() }
    }
}

impl<B> fmt::Debug for Direct<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").field("authority", &self.authority).finish_non_exhaustive()
    }
}
