//! Records whose registrations are gone but which may still be in the registry.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{sync::Notify, time::timeout};
use tracing::debug;

use crate::{Error, backend::Link, backoff::Backoff, key::Record, link::Shared, lock::lock};

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
        self.queue().push_back((record, receipt));
        self.pushed.notify_one();
    }

    /// Whether this registration's record is still to be withdrawn.
    fn waits(&self, record: &Record) -> bool {
        self.queue().iter().any(|(waiting, _)| waiting.incarnation == record.incarnation)
    }

    /// The record is wanted again, or has been withdrawn.
    pub(crate) fn forget(&self, record: &Record) {
        self.queue().retain(|(waiting, _)| waiting.incarnation != record.incarnation);
    }

    fn first(&self) -> Option<Departure<R>> {
        self.queue().front().cloned()
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Departure<R>>> {
        lock(&self.queue)
    }

    /// Withdraws what has been left, one after the other, as long as the link is in use.
    pub(crate) async fn run<L: Link<Receipt = R>>(&self, shared: &Shared<L>, link: &L) -> Infallible {
        let mut backoff = Backoff::new(&shared.settings);
        loop {
            let Some((record, receipt)) = self.first() else {
                self.pushed.notified().await;
                continue;
            };
            match withdraw(shared, link, &record, receipt.as_ref(), || self.waits(&record)).await {
                Ok(()) => {
                    self.forget(&record);
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
/// the record over, or it is wanted again by the time it is its turn.
pub(crate) async fn withdraw<L: Link>(
    shared: &Shared<L>,
    link: &L,
    record: &Record,
    receipt: Option<&L::Receipt>,
    still_unwanted: impl Fn() -> bool,
) -> Result<(), Error> {
    let Some(_turn) = shared.claims.turn(record).await else { return Ok(()) };
    if shared.claims.owns(record) && still_unwanted() {
        let limit = shared.settings.request_timeout;
        let answer = timeout(limit, link.withdraw(record, receipt)).await;
        answer
            .unwrap_or_else(|_| Err(Error::timed_out("withdraw", limit)))
            .map_err(|error| shared.place(error.during("withdraw").of(record)))?;
        if still_unwanted() {
            shared.claims.leave(record);
        }
    }
    Ok(())
}
