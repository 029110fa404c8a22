//! A connection to one endpoint, and how it is made.

use std::{fmt, future::Future, marker::PhantomData, sync::Arc, time::Duration};

use discox_balance::{Connect, Connected, Connection, Target};
use futures_util::future::BoxFuture;
use http::{Request, Response, uri::Authority};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http2},
};
use hyper_util::rt::TokioTimer;
use tokio::sync::oneshot;

use crate::{
    Protocol,
    dial::Dial,
    executor::{Http2Tasks, Running},
    outgoing::{RequestBody, Resendable},
    pool::{Lease, Pool},
};

/// Connects by HTTP.
pub(crate) struct Http<B> {
    dial: Arc<Dial>,
    protocol: Protocol,
    keep_alive: Option<Duration>,
    _body: PhantomData<fn(B)>,
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

impl<B> Http<B> {
    pub(crate) fn new(dial: Dial, protocol: Protocol, keep_alive: Option<Duration>) -> Self {
        Self { dial: Arc::new(dial), protocol, keep_alive, _body: PhantomData }
    }
}

impl<B: RequestBody> Connect for Http<B> {
    type Connection = Link<B>;

    fn connect(
        &self,
        target: &Arc<Target>,
    ) -> impl Future<Output = Result<Connected<Link<B>>, String>> + Send + 'static {
        let (dial, target, keep_alive) = (self.dial.clone(), target.clone(), self.keep_alive);
        let protocol = self.protocol;
        async move {
            let authority = target.endpoint().parse().ok();
            let (wire, closed) = match protocol {
                Protocol::Http1 => {
                    let (pool, closed) = Pool::open(dial, target).await?;
                    (Wire::Http1(pool), closed)
                }
                Protocol::Http2 => http2(&dial, &target, keep_alive).await?,
            };
            Ok(Connected { connection: Link { wire, authority }, closed })
        }
    }
}

async fn http2<B>(
    dial: &Dial,
    target: &Target,
    keep_alive: Option<Duration>,
) -> Result<(Wire<B>, BoxFuture<'static, ()>), String>
where
    B: RequestBody,
{
    let io = dial.reach(target).await?;
    let tasks = Http2Tasks::default();
    let mut builder = http2::Builder::new(tasks.clone());
    builder.timer(TokioTimer::new()).keep_alive_interval(keep_alive).keep_alive_while_idle(true);
    if let Some(limit) = keep_alive {
        builder.keep_alive_timeout(limit);
    }
    let (sender, connection) = builder.handshake(io).await.map_err(|error| error.to_string())?;
    let (ended, closed) = oneshot::channel::<()>();
    let requests = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 connection ended");
        }
        drop(ended);
    });
    let closed = Box::pin(async move {
        // Nothing is sent: it is dropped when the task ends, or is ended.
        let _ = closed.await;
    });
    Ok((Wire::Http2(sender, Running::new(tasks, &requests)), closed))
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

impl<B> fmt::Debug for Http<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("dial", &self.dial)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}
