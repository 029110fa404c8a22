//! The body of an answer, which counts as a request in flight until it has ended.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use discox_balance::Pick;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{connection::Link, outgoing::RequestBody, pool::Lease, send::grpc_outcome};

/// The body of an answer. Its request is in flight until it has ended or is dropped.
pub struct Answer<B: RequestBody> {
    body: Incoming,
    under_way: Option<UnderWay<B>>,
}

/// What the request holds.
struct UnderWay<B: RequestBody> {
    pick: Pick<Link<B>>,
    lease: Option<Lease<B>>,
}

impl<B: RequestBody> Answer<B> {
    pub(crate) fn new(body: Incoming, pick: Pick<Link<B>>, lease: Option<Lease<B>>) -> Self {
        let mut answer = Self { body, under_way: Some(UnderWay { pick, lease }) };
        if answer.body.is_end_stream() {
            answer.end();
        }
        answer
    }

    /// The endpoint that answers, `host:port`. None when the answer has ended.
    pub fn endpoint(&self) -> Option<&str> {
        self.under_way.as_ref().map(|under_way| under_way.pick.endpoint())
    }

    fn end(&mut self) {
        if let Some(UnderWay { pick, lease: Some(lease) }) = self.under_way.take() {
            pick.connection().give_back(lease);
        }
    }
}

impl<B: RequestBody> Body for Answer<B> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let pick = self.under_way.as_ref().map(|under_way| &under_way.pick);
        match (&frame, pick) {
            (Some(Err(_)), Some(pick)) => pick.failure(),
            (Some(Ok(frame)), Some(pick)) => match frame.trailers_ref().and_then(grpc_outcome) {
                Some(true) => pick.success(),
                Some(false) => pick.failure(),
                None => {}
            },
            _ => {}
        }
        match &frame {
            Some(Ok(_)) if !self.body.is_end_stream() => {}
            Some(Err(_)) => self.under_way = None,
            _ => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: RequestBody> fmt::Debug for Answer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("endpoint", &self.endpoint()).finish_non_exhaustive()
    }
}
