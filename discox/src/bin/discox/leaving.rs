//! Deregistering, which is begun once and may be waited for in several places.

use std::{sync::Arc, time::Duration};

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
        let registration = &self.registration;
        let under_way = self.under_way.get_or_insert_with(|| {
            let (sender, outcome) = watch::channel(None);
            let registration = registration.clone();
            tokio::spawn(async move { sender.send_replace(Some(registration.stop().await)) });
            outcome
        });
        match under_way.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // The runtime has ended; nobody will read this.
            _ => Ok(()),
        }
    }
}
