//! The loop that a program writes around a registration, written once.

use std::{future::Future, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::sleep;

use crate::{Error, ErrorKind, Register, RegisterState, Result, backoff::jittered};

/// Between two starts; each waits for the registry by itself.
const PAUSE: Duration = Duration::from_secs(1);

impl dyn Register {
    /// Waits for a registry that is not there yet, registers, keeps the endpoint registered, and withdraws it when
    /// `shutdown` resolves, at whatever moment. Returns Ok then, or when the registration was stopped elsewhere.
    ///
    /// Blocks all that time. Dropping it withdraws the endpoint, as `shutdown` does.
    ///
    /// # Errors
    /// What time does not mend: the registry refuses the first registration
    /// ([`Denied`](crate::ErrorKind::Denied)), or the handle was started or stopped before. After `shutdown`, as
    /// [`stop`](Register::stop).
    ///
    /// # Example
    /// ```no_run
    /// # async fn example(register: std::sync::Arc<dyn discox_core::Register>) -> discox_core::Result<()> {
    /// let shutdown = async { tokio::time::sleep(std::time::Duration::from_secs(60)).await };
    /// register.run_until(shutdown).await
    /// # }
    /// ```
    pub async fn run_until(&self, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        let withdraw = Withdraw(Some(self));
        let ended = tokio::select! {
            biased;
            () = shutdown => Ok(()),
            ended = keep(self) => ended,
        };
        if ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyStarted) {
            withdraw.keep();
            return ended;
        }
        let stopped = self.stop().await;
        withdraw.keep();
        ended.and(stopped)
    }
}

/// Returns when it was stopped, or cannot be started.
async fn keep(register: &dyn Register) -> Result<()> {
    while let Err(error) = register.start().await {
        if error.is_refusal() || error.kind() == ErrorKind::Superseded {
            return Err(error);
        }
        sleep(jittered(PAUSE)).await;
    }
    register.wait_for(RegisterState::Stopped).await.map(|_| ())
}

/// Stops it when it is dropped before the end.
struct Withdraw<'a>(Option<&'a dyn Register>);

impl Withdraw<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if let Some(register) = self.0 {
            // Once polled, it happens.
            let _: Option<Result<(), Error>> = register.stop().now_or_never();
        }
    }
}
