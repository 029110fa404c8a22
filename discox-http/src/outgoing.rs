//! A request on its way, and what is kept of it so that it can be sent again.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use discox_core::backend::lock;
use http::{Request, request::Parts};
use http_body::{Body, Frame, SizeHint};

/// The longest part of a body that is kept.
const LONGEST: usize = 64 * 1024;

/// In a request's [extensions](Request::extensions_mut): it may be sent again also when its connection broke before
/// an answer began, so that an endpoint may already have processed it. A body of more than 64 KiB is not kept, and
/// then it is not sent again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Repeatable;

/// The body of a request: any whose errors can be told, and that need not stay where it is in memory (else box it).
pub trait RequestBody:
    Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static
{
}

impl<B> RequestBody for B where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static
{
}

/// A request as its caller made it.
pub(crate) struct Outgoing<B> {
    pub(crate) parts: Parts,
    pub(crate) body: Resendable<B>,
}

/// What is left of a request while it is under way.
pub(crate) struct Spare<B> {
    parts: Parts,
    home: Home<B>,
}

impl<B> Outgoing<B> {
    pub(crate) fn new(request: Request<B>) -> Self {
        let (parts, body) = request.into_parts();
        Self { parts, body: Resendable::new(body) }
    }

    /// The request to be sent, and what is left here.
    pub(crate) fn depart(self) -> (Request<Resendable<B>>, Spare<B>) {
        let spare = Spare { parts: self.parts.clone(), home: self.body.home.clone() };
        (Request::from_parts(self.parts, self.body), spare)
    }
}

impl<B> Spare<B> {
    pub(crate) fn is_repeatable(&self) -> bool {
        self.parts.extensions.get::<Repeatable>().is_some()
    }

    /// The request again, with a body of which nothing was read.
    pub(crate) fn with(self, body: Resendable<B>) -> Outgoing<B> {
        Outgoing { parts: self.parts, body }
    }

    /// The request again, if its body is back and what was read of it was kept.
    pub(crate) fn again(self) -> Option<Outgoing<B>> {
        let returned = lock(&self.home).take()?;
        let body = Resendable {
            rest: returned.rest,
            ahead: returned.kept.iter().cloned().collect(),
            kept: Some(returned.kept),
            home: self.home,
        };
        Some(Outgoing { parts: self.parts, body })
    }
}

/// Where a body leaves itself when its connection has no use for it any more.
type Home<B> = Arc<Mutex<Option<Returned<B>>>>;

struct Returned<B> {
    /// None when it was read to its end.
    rest: Option<B>,
    kept: Vec<Bytes>,
}

/// A body that keeps what is read of it, up to 64 KiB, and leaves itself behind when it is dropped.
pub(crate) struct Resendable<B> {
    rest: Option<B>,
    /// To be sent before the rest: it was sent before, elsewhere.
    ahead: VecDeque<Bytes>,
    /// None when it is too long, or has trailers.
    kept: Option<Vec<Bytes>>,
    home: Home<B>,
}

impl<B> Resendable<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { rest: Some(body), ahead: VecDeque::new(), kept: Some(Vec::new()), home: Arc::default() }
    }

    fn keep(&mut self, bytes: &Bytes) {
        let Some(kept) = &mut self.kept else { return };
        let length: usize = kept.iter().map(Bytes::len).sum();
        if length + bytes.len() > LONGEST {
            self.kept = None;
        } else {
            kept.push(bytes.clone());
        }
    }
}

impl<B: Body + Unpin> Body for Resendable<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(bytes) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let frame = match ready!(Pin::new(rest).poll_frame(cx)) {
            None => {
                self.rest = None;
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                self.kept = None;
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => frame.map_data(|mut data| data.copy_to_bytes(data.remaining())),
        };
        match frame.data_ref() {
            Some(bytes) => self.keep(bytes),
            None => self.kept = None,
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        let rest = self.rest.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}

impl<B> Drop for Resendable<B> {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            *lock(&self.home) = Some(Returned { rest: self.rest.take(), kept });
        }
    }
}
