//! One call into a backend: it takes bounded time, and a panic of a client crate is an error.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout};

use crate::{Error, ErrorKind, Result, backend::Link, metrics};

/// Runs a call into a backend for at most `limit`.
pub(crate) async fn call<L: Link, T>(
    operation: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let began = Instant::now();
    let answer = timeout(limit, guarded(operation, call)).await;
    let answer = answer.unwrap_or_else(|_| Err(Error::timed_out(operation, limit)));
    metrics::request(L::BACKEND, operation, began, &answer);
    answer
}

/// Runs a call that may take any time.
pub(crate) async fn guarded<T>(operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
    // The link that panicked is given up or asked again by the loop that called it, as after any other failure.
    let answer = AssertUnwindSafe(call).catch_unwind().await;
    answer.unwrap_or_else(|panic| Err(panicked(&*panic))).map_err(|error| error.with_operation(operation))
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    Error::new(ErrorKind::Protocol, format!("the client panicked: {message}"))
}
