//! Records whose registrations are gone but which may still be in the registry.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::fate::Fate;
use crate::{
    ConnectionConfig, Error, ErrorKind, Result,
    backoff::Backoff,
    lock::lock,
    record::{Incarnation, Record},
};

/// How long a record whose withdrawal is refused is tried at least: the right may only be on its way.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// The records to be withdrawn: of handles that were stopped or dropped, and of starts that were given up. At most
/// one entry a registration.
pub(crate) struct Withdrawals<R> {
    settings: ConnectionConfig,
    queue: Mutex<BTreeMap<Incarnation, Withdrawal<R>>>,
    pub(super) pushed: Notify,
    left: watch::Sender<()>,
}

struct Withdrawal<R> {
    record: Arc<Record>,
    receipt: Option<R>,
    gone: Arc<Fate>,
    backoff: Backoff,
    due: Instant,
    /// An attempt is under way.
    is_busy: bool,
    last_error: Option<Error>,
    refused_since: Option<Instant>,
}

impl<R: Clone + Send + Sync> Withdrawals<R> {
    pub(super) fn new(settings: &ConnectionConfig, left: watch::Sender<()>) -> Self {
        Self { settings: settings.clone(), queue: Mutex::default(), pushed: Notify::new(), left }
    }

    /// Has a record withdrawn as soon as the connection can.
    pub(crate) fn enqueue(&self, record: Arc<Record>, receipt: Option<R>, gone: Arc<Fate>) {
        let withdrawal = Withdrawal {
            receipt,
            gone,
            backoff: Backoff::new(&self.settings),
            due: Instant::now(),
            is_busy: false,
            last_error: None,
            refused_since: None,
            record: record.clone(),
        };
        self.queue().insert(record.incarnation, withdrawal);
        self.pushed.notify_one();
    }

    /// Whether this registration's record is still to be withdrawn.
    pub(crate) fn waits(&self, record: &Record) -> bool {
        self.queue().contains_key(&record.incarnation)
    }

    /// Why this registration's record could not be withdrawn yet.
    pub(crate) fn last_error(&self, record: &Record) -> Option<Error> {
        self.queue().get(&record.incarnation)?.last_error.clone()
    }

    /// The record is wanted again.
    pub(crate) fn forget(&self, record: &Record) {
        self.queue().remove(&record.incarnation);
        self.left.send_replace(());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue().is_empty()
    }

    /// All may be tried at once: the link is new, and no attempt is under way.
    pub(super) fn renew(&self) {
        let now = Instant::now();
        for withdrawal in self.queue().values_mut() {
            (withdrawal.due, withdrawal.is_busy) = (now, false);
        }
    }

    /// The next one that is due, or when there will be one.
    pub(super) fn next(&self) -> Result<(Arc<Record>, Option<R>), Option<Instant>> {
        let mut queue = self.queue();
        let next = queue.values_mut().filter(|withdrawal| !withdrawal.is_busy).min_by_key(|next| next.due);
        match next {
            Some(next) if next.due <= Instant::now() => {
                next.is_busy = true;
                Ok((next.record.clone(), next.receipt.clone()))
            }
            later => Err(later.map(|later| later.due)),
        }
    }

    /// It is gone.
    pub(super) fn done(&self, record: &Record) {
        // Under the lock, so that a record that is wanted again is not said to be gone afterwards.
        let mut queue = self.queue();
        if let Some(withdrawal) = queue.remove(&record.incarnation) {
            withdrawal.gone.settle(Ok(()));
        }
        drop(queue);
        self.left.send_replace(());
    }

    /// An attempt failed: another one follows after a pause, unless none can help. Returns whether one follows.
    pub(super) fn failed(&self, record: &Record, error: &Error) -> bool {
        let mut queue = self.queue();
        let Some(withdrawal) = queue.get_mut(&record.incarnation) else { return true };
        let now = Instant::now();
        withdrawal.is_busy = false;
        withdrawal.due = now + withdrawal.backoff.pause(error.kind());
        withdrawal.last_error = Some(error.clone());
        let since = withdrawal.refused_since.filter(|_| error.kind() == ErrorKind::Denied);
        withdrawal.refused_since = since.or((error.kind() == ErrorKind::Denied).then_some(now));
        let patience = record.ttl.max(REFUSED_FOR);
        let is_refused = withdrawal.refused_since.is_some_and(|since| now - since >= patience);
        let goes_on = error.kind().is_retryable() && !is_refused;
        if !goes_on && let Some(given_up) = queue.remove(&record.incarnation) {
            given_up.gone.settle(Err(error.clone()));
        }
        drop(queue);
        self.left.send_replace(());
        goes_on
    }

    /// The connection ends: no record is withdrawn any more. `why` makes an error out of the last one, if any.
    pub(super) fn give_up_all(&self, why: impl Fn(Option<Error>) -> Error) {
        let all = std::mem::take(&mut *self.queue());
        for withdrawal in all.into_values() {
            let error = why(withdrawal.last_error).with_subject(&withdrawal.record);
            withdrawal.gone.settle(Err(error));
        }
        self.left.send_replace(());
    }

    fn queue(&self) -> MutexGuard<'_, BTreeMap<Incarnation, Withdrawal<R>>> {
        lock(&self.queue)
    }
}
