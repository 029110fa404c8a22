//! A server's whole life: registered while it serves, and gone before it ends.

use std::{
    future::{IntoFuture, pending},
    sync::Arc,
    time::Duration,
};

use discox_core::Register;
use futures_util::future::BoxFuture;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    Leaving, Left, Traffic,
    leaving::{announced, drained, leave},
};

/// Registers an endpoint and serves until `shutdown` resolves, then leaves as [`leave`](crate::leave) does, and only then
/// tells the server to shut down. `server` is given the future that tells it: what axum's `with_graceful_shutdown` and
/// tonic's `serve_with_shutdown` take. The listener should be bound before.
///
/// It waits for a registry that is not there yet, and serves meanwhile. Dropping it withdraws the endpoint.
///
/// # Errors
/// The server's own. A registration that is refused for good ends it in order, with [`Left::error`].
///
/// # Example
/// ```
/// # use discox_core::Register;
/// # async fn example(register: std::sync::Arc<dyn Register>, app: axum::Router) -> std::io::Result<()> {
/// use discox_http::{Leaving, Traffic, serve, terminated};
///
/// let (traffic, listener) = (Traffic::new(), tokio::net::TcpListener::bind("127.0.0.1:8111").await?);
/// let app = app.layer(traffic.clone());
/// serve(register, traffic, Leaving::default(), terminated(), |shutdown| {
///     axum::serve(listener, app).with_graceful_shutdown(shutdown)
/// })
/// .await?;
/// # Ok(())
/// # }
/// ```
pub async fn serve<S, E>(
    register: Arc<dyn Register>,
    traffic: Traffic,
    leaving: Leaving,
    shutdown: impl Future<Output = ()> + Send + 'static,
    server: impl FnOnce(BoxFuture<'static, ()>) -> S,
) -> Result<Left, E>
where
    S: IntoFuture<Output = Result<(), E>, IntoFuture: Send + 'static>,
{
    let (tell, told) = oneshot::channel::<()>();
    let told: BoxFuture<'static, ()> = Box::pin(async move {
        // Dropped means told, too.
        let _ = told.await;
    });
    // Boxed, or else the compiler does not find out that the whole may go to another thread.
    let mut serving: BoxFuture<'static, Result<(), E>> = Box::pin(server(told).into_future());
    let stays =
        (register.clone(), traffic.clone(), leaving.clone().settle(Duration::ZERO).quiet(Duration::ZERO));
    let left: BoxFuture<'static, Left> = Box::pin(stay_until(register, traffic, leaving, shutdown));
    tokio::select! {
        served = &mut serving => {
            // By itself: nobody can come any more.
            let (register, traffic, at_once) = stays;
            let left = leave(&*register, &traffic, at_once.announce(None)).await;
            served.map(|()| left)
        }
        left = left => {
            let _ = tell.send(());
            serving.await.map(|()| left)
        }
    }
}

/// Keeps the endpoint registered until the shutdown, and leaves.
async fn stay_until(
    register: Arc<dyn Register>,
    traffic: Traffic,
    leaving: Leaving,
    shutdown: impl Future<Output = ()> + Send,
) -> Left {
    let mut began = None;
    let until = async {
        shutdown.await;
        began = Some(Instant::now());
        announced(&*register, &leaving).await;
    };
    let stopped = register.run_until(until).await;
    drained(stopped, &traffic, &leaving, began.unwrap_or_else(Instant::now)).await
}

/// Resolves when the process is told to end: by ctrl-C, or on Unix by SIGTERM too. Never where no signal can be had.
pub async fn terminated() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let told = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => pending().await,
        }
    };
    #[cfg(not(unix))]
    let told = pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = told => {}
    }
}
