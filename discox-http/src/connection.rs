//! A connection to one endpoint, and how it is made.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use discox_balance::{Connect, Connected, Connection, Target};
use futures_util::future::BoxFuture;
use http::{Request, Response, uri::Authority};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;

use crate::{
    Direct, Health, Protocol,
    dial::Dial,
    executor::{Http2Tasks, Running},
    greeting::Greeted,
    outgoing::{RequestBody, Resendable},
    pool::{Lease, Pool},
};

/// Connects by HTTP.
pub(crate) struct Http<B> {
    pub(crate) dial: Arc<Dial>,
    pub(crate) protocol: Protocol,
    pub(crate) keep_alive: Option<Duration>,
    /// What stands as the authority of all requests, instead of their endpoint.
    pub(crate) origin: Option<Arc<Authority>>,
    pub(crate) health: Option<Arc<dyn Health<B>>>,
}

/// A connection to one endpoint; with HTTP/1.1, as many as there are requests.
pub(crate) struct Link<B: RequestBody> {
    wire: Wire<B>,
    /// The endpoint, as requests name it.
    authority: Option<Authority>,
}

enum Wire<B: RequestBody> {
    /// One after the other.
    Http1(Pool<B>),
    /// All at once.
    Http2(http2::SendRequest<Resendable<B>>, Running),
}

/// What came of a request: the answer, and what it came over, where that can be used again.
pub(crate) type Sent<B> = (Response<Incoming>, Option<Lease<B>>);

/// Why none came.
pub(crate) enum Unanswered<B> {
    /// There is no connection for it.
    NotConnected(Request<Resendable<B>>, String),
    Failed(TrySendError<Request<Resendable<B>>>),
}

impl<B: RequestBody> Connect for Http<B> {
    type Connection = Link<B>;

    fn connect(
        &self,
        target: &Arc<Target>,
    ) -> impl Future<Output = Result<Connected<Link<B>>, String>> + Send + 'static {
        let (http, target) = (self.clone(), target.clone());
        async move {
            let authority: Option<Authority> = target.endpoint().parse().ok();
            if http.protocol == Protocol::Http1 {
                let (pool, closed) = Pool::open(http.dial, target).await?;
                return Ok(Connected::new(Link { wire: Wire::Http1(pool), authority }, closed));
            }
            let (sender, running, closed) = http2(&http.dial, &target, http.keep_alive).await?;
            let health = http.health.map(|health| {
                let authority = http.origin.or_else(|| authority.clone().map(Arc::new));
                health.watch(Direct::new(sender.clone(), http.dial.scheme(), authority))
            });
            let connected = Connected::new(Link { wire: Wire::Http2(sender, running), authority }, closed);
            Ok(match health {
                Some(health) => connected.watched(health),
                None => connected,
            })
        }
    }
}

async fn http2<B>(
    dial: &Dial,
    target: &Target,
    keep_alive: Option<Duration>,
) -> Result<(http2::SendRequest<Resendable<B>>, Running, BoxFuture<'static, ()>), String>
where
    B: RequestBody,
{
    let (io, greeted) = Greeted::new(dial.reach(target).await?);
    let tasks = Http2Tasks::default();
    let mut builder = http2::Builder::new(tasks.clone());
    builder.timer(TokioTimer::new()).keep_alive_interval(keep_alive).keep_alive_while_idle(true);
    if let Some(limit) = keep_alive {
        builder.keep_alive_timeout(limit);
    }
    let (sender, connection) =
        builder.handshake(TokioIo::new(io)).await.map_err(|error| error.to_string())?;
    let (ended, closed) = oneshot::channel::<()>();
    let requests = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 connection ended");
        }
        drop(ended);
    });
    let running = Running::new(tasks, &requests);
    greeted.await.map_err(|_| "closed before the server said that it speaks HTTP/2")?;
    let closed = Box::pin(async move {
        // Nothing is sent: it is dropped when the task ends, or is ended.
        let _ = closed.await;
    });
    Ok((sender, running, closed))
}

impl<B: RequestBody> Link<B> {
    pub(crate) async fn send(&self, request: Request<Resendable<B>>) -> Result<Sent<B>, Unanswered<B>> {
        match &self.wire {
            Wire::Http1(pool) => {
                let mut lease = match pool.lease().await {
                    Ok(lease) => lease,
                    Err(why) => return Err(Unanswered::NotConnected(request, why)),
                };
                let answer = lease.send(request).await.map_err(Unanswered::Failed)?;
                Ok((answer, Some(lease)))
            }
            Wire::Http2(sender, _) => {
                let answer = sender.clone().try_send_request(request).await.map_err(Unanswered::Failed)?;
                Ok((answer, None))
            }
        }
    }

    /// The endpoint, as requests name it.
    pub(crate) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    pub(crate) fn is_http1(&self) -> bool {
        matches!(self.wire, Wire::Http1(_))
    }

    /// An answer was read to its end.
    pub(crate) fn give_back(&self, lease: Lease<B>) {
        if let Wire::Http1(pool) = &self.wire {
            pool.give_back(lease);
        }
    }
}

impl<B: RequestBody> Connection for Link<B> {
    fn is_open(&self) -> bool {
        match &self.wire {
            Wire::Http1(pool) => pool.is_open(),
            Wire::Http2(sender, _) => !sender.is_closed(),
        }
    }

    fn close(&self) {
        match &self.wire {
            Wire::Http1(pool) => pool.close(),
            Wire::Http2(_, running) => running.end(),
        }
    }
}

impl<B> Clone for Http<B> {
    fn clone(&self) -> Self {
        Self {
            dial: self.dial.clone(),
            protocol: self.protocol,
            keep_alive: self.keep_alive,
            origin: self.origin.clone(),
            health: self.health.clone(),
        }
    }
}

impl<B> fmt::Debug for Http<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("dial", &self.dial)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}
