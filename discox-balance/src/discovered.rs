//! A stream for who keeps tower's balancer.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use discox_core::{Changes, Entry, Snapshot, Update};
use futures_util::Stream;
use tower::discover::Change;

use crate::Endpoints;

/// What comes and goes, as a [`tower::discover::Discover`]: never ends, never errs, and an endpoint that changes again
/// before it was asked for comes once.
///
/// `make` turns an endpoint into a service. It is asked again when the attr changes, and the new service takes the
/// place of the old one: a client that is costly to make is best kept by the endpoint's name.
///
/// ```
/// # use std::sync::Arc;
/// # use discox_balance::Discovered;
/// # use discox_core::{EndpointCacher, Entry, Event, LiteEndpoint};
/// use futures_util::StreamExt;
/// use tower::discover::Change;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let endpoints = Arc::new(LiteEndpoint::new());
/// endpoints.add_or_update("10.0.0.1:80", b""); // a discovery does this
/// # endpoints.on_event(&Event::Synced);
/// let mut discovered = Discovered::new(&endpoints, |entry: &Entry| format!("http://{}", entry.endpoint()));
/// let Some(Ok(Change::Insert(endpoint, client))) = discovered.next().await else { panic!() };
/// assert_eq!((&*endpoint, &*client), ("10.0.0.1:80", "http://10.0.0.1:80"));
/// # }
/// ```
pub struct Discovered<F> {
    endpoints: Endpoints,
    changes: Changes,
    told: Arc<Snapshot>,
    ahead: VecDeque<Update>,
    make: F,
    has_ended: bool,
}

impl<F> Discovered<F> {
    /// Follows `endpoints` from an empty list on.
    pub fn new<S>(endpoints: impl Into<Endpoints>, make: F) -> Self
    where
        F: Fn(&Entry) -> S,
    {
        let endpoints = endpoints.into();
        let changes = endpoints.cache.changes();
        Self { endpoints, changes, told: Arc::default(), ahead: VecDeque::new(), make, has_ended: false }
    }

    fn look(&mut self) {
        let now = self.endpoints.cache.snapshot();
        self.ahead = now.changes_since(&self.told).into();
        self.told = now;
    }
}

impl<F, S> Stream for Discovered<F>
where
    F: Fn(&Entry) -> S + Unpin,
{
    type Item = Result<Change<Arc<str>, S>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.ahead.pop_front() {
                Some(Update::Put(endpoint, attr)) => {
                    let service = (self.make)(&Entry::new(endpoint.clone(), attr));
                    return Poll::Ready(Some(Ok(Change::Insert(endpoint, service))));
                }
                Some(Update::Delete(endpoint)) => return Poll::Ready(Some(Ok(Change::Remove(endpoint)))),
                Some(_) => continue,
                None => {}
            }
            if self.has_ended {
                // The last list stays.
                return Poll::Pending;
            }
            match Pin::new(&mut self.changes).poll_next(cx) {
                Poll::Ready(Some(_)) => self.look(),
                Poll::Ready(None) => {
                    self.has_ended = true;
                    self.look();
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<F> fmt::Debug for Discovered<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovered").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
