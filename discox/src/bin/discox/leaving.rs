//! Deregistering, which is begun once and may be waited for in several places.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use discox::{Register, Result};
use tokio::{sync::watch, time::timeout};

use crate::{failure::Failure, signals::Signals};

/// The end of a registration.
pub(crate) struct Leaving {
    registration: Arc<dyn Register>,
    under_way: Option<watch::Receiver<Option<Result<()>>>>,
}

impl Leaving {
    /// Not begun yet.
    pub(crate) fn of(registration: &Arc<dyn Register>) -> Self {
        Self { registration: registration.clone(), under_way: None }
    }

    /// Begins it, unless it has begun, and waits for its end, but not for long.
    pub(crate) async fn begin(&mut self, at_most: Duration) {
        let _ = timeout(at_most, self.outcome()).await;
    }

    /// Begins it, unless it has begun, and waits for its end, or for a signal, which says that this
    /// takes too long.
    pub(crate) async fn finish(mut self, signals: &mut Signals) -> Result<(), Failure> {
        tokio::select! {
            biased;
            outcome = self.outcome() => Ok(outcome?),
            signal = signals.next() => {
                let message = "ended before the registry has answered; it forgets the endpoint after its TTL";
                Err(Failure::new(signal.exit_code(), message))
            }
        }
    }

    /// Cancel-safe: what has begun goes on.
    async fn outcome(&mut self) -> Result<()> {
        let under_way = match &mut self.under_way {
            Some(under_way) => under_way,
            none => none.insert(stop(self.registration.clone()).await),
        };
        match under_way.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // The runtime has ended; nobody will read this.
            _ => Ok(()),
        }
    }
}

/// Begins to stop it. Once that was polled it happens, so it is polled here: a task may begin late.
async fn stop(registration: Arc<dyn Register>) -> watch::Receiver<Option<Result<()>>> {
    let (sender, outcome) = watch::channel(None);
    let mut stopping = Box::pin(async move { registration.stop().await });
    match poll_fn(|cx| Poll::Ready(stopping.as_mut().poll(cx))).await {
        Poll::Ready(stopped) => drop(sender.send_replace(Some(stopped))),
        Poll::Pending => drop(tokio::spawn(async move { sender.send_replace(Some(stopping.await)) })),
    }
    outcome
}
