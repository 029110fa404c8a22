//! Servers that are slow.

use std::{
    mem::replace,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{BoxFuture, Either};
use http::Request;
use tokio::{sync::Semaphore, time::sleep};
use tower::{Layer, Service};

/// How slow a server is. Clones share its places.
#[derive(Clone, Debug, Default)]
pub struct Pace(Option<Slow>);

#[derive(Clone, Debug)]
struct Slow {
    takes: Duration,
    places: Arc<Semaphore>,
}

impl Pace {
    /// Each call takes so long, and no more than so many are worked on at once: the others wait.
    pub fn new(takes: Duration, at_once: usize) -> Self {
        Self(Some(Slow { takes, places: Arc::new(Semaphore::new(at_once)) }))
    }
}

impl<S> Layer<S> for Pace {
    type Service = Paced<S>;

    fn layer(&self, inner: S) -> Paced<S> {
        Paced { inner, pace: self.clone() }
    }
}

/// A service at a pace.
#[derive(Clone, Debug)]
pub struct Paced<S> {
    inner: S,
    pace: Pace,
}

impl<S, B> Service<Request<B>> for Paced<S>
where
    S: Service<Request<B>, Future: Send> + Clone + Send + 'static,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(slow) = self.pace.0.clone() else { return Either::Left(self.inner.call(request)) };
        // The one that is ready
        let next = self.inner.clone();
        let mut inner = replace(&mut self.inner, next);
        Either::Right(Box::pin(async move {
            // It is never closed.
            let _place = slow.places.acquire().await;
            sleep(slow.takes).await;
            inner.call(request).await
        }))
    }
}
