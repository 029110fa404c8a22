//! Records whose registrations are gone but which may still be in the registry.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::Notify, time::timeout};
use tracing::debug;

use crate::{Error, backend::Link, backoff::Backoff, key::Record, link::Shared};

/// A record to be withdrawn, with what fences the withdrawal.
type Departure<R> = (Arc<Record>, Option<R>);

/// The queue of withdrawals that nobody waits for: of handles that were dropped, and of those that
/// the registry did not answer in time. It holds at most one entry a registration.
#[derive(Debug)]
pub(crate) struct Departures<R> {
    queue: Mutex<VecDeque<Departure<R>>>,
    pushed: Notify,
}

impl<R> Default for Departures<R> {
    fn default() -> Self {
        Self { queue: Mutex::default(), pushed: Notify::new() }
    }
}

impl<R: Clone + Send + Sync> Departures<R> {
    /// Leaves a record to be withdrawn as soon as the connection can.
    pub(crate) fn push(&self, record: Arc<Record>, receipt: Option<R>) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back((record, receipt));
        self.pushed.notify_one();
    }

    fn first(&self) -> Option<Departure<R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }

    fn done(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }

    /// Withdraws what has been left, one after the other, as long as the link is in use.
    pub(crate) async fn run<L: Link<Receipt = R>>(&self, shared: &Shared<L>, link: &L) -> Infallible {
        let mut backoff = Backoff::new(&shared.settings);
        loop {
            let Some((record, receipt)) = self.first() else {
                self.pushed.notified().await;
                continue;
            };
            match withdraw(shared, link, &record, receipt.as_ref()).await {
                Ok(()) => {
                    self.done();
                    backoff.reset();
                }
                Err(error) => {
                    debug!(backend = %L::BACKEND, %error, "a record that was left could not be withdrawn yet");
                    shared.pulse.suspect();
                    tokio::time::sleep(backoff.pause(error.kind())).await;
                }
            }
        }
    }
}

/// Removes a record and gives its slot up, unless another registration of this process has taken
/// the record over: then there is nothing of ours to remove.
pub(crate) async fn withdraw<L: Link>(
    shared: &Shared<L>,
    link: &L,
    record: &Record,
    receipt: Option<&L::Receipt>,
) -> Result<(), Error> {
    let Some(_turn) = shared.claims.turn(record).await else { return Ok(()) };
    if shared.claims.owns(record) {
        let limit = shared.settings.request_timeout;
        let answer = timeout(limit, link.withdraw(record, receipt)).await;
        answer
            .unwrap_or_else(|_| Err(Error::timed_out("withdraw", limit)))
            .map_err(|error| shared.place(error.during("withdraw").of(record)))?;
        shared.claims.leave(record);
    }
    Ok(())
}
