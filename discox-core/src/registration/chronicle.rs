//! What a registration writes into its history.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{Cause, Error, EventKind, History, RegisterState, RegisterStatus, connection::Fate, lock::lock};

/// A registration's history. Does nothing while the history is off. Clones write into the same one.
#[derive(Clone)]
pub(super) struct Chronicle(Option<Arc<Pages>>);

struct Pages {
    history: History,
    endpoint: Arc<str>,
    /// The member that the connection went to last.
    member: Mutex<Option<String>>,
}

impl Chronicle {
    /// Keeps the last `limit` events.
    pub(super) fn new(limit: usize, endpoint: &str) -> Self {
        let pages =
            || Pages { history: History::new(limit), endpoint: endpoint.into(), member: Mutex::default() };
        Self((limit > 0).then(|| Arc::new(pages())))
    }

    pub(super) fn history(&self) -> History {
        self.0.as_ref().map_or_else(History::default, |pages| pages.history.clone())
    }

    /// To tell there what becomes of the record.
    pub(super) fn fate(&self) -> Fate {
        Fate::new(self.history(), self.0.as_ref().map(|pages| pages.endpoint.clone()))
    }

    pub(super) fn note(&self, kind: EventKind, cause: impl FnOnce() -> Cause) {
        if let Some(pages) = &self.0 {
            pages.history.note(Some(&pages.endpoint), kind, cause());
        }
    }

    /// The connection is up, to this member.
    pub(super) fn connected(&self, member: impl FnOnce() -> Option<String>) {
        let Some(pages) = &self.0 else { return };
        let Some(to) = member() else { return };
        let before = lock(&pages.member).replace(to.clone());
        if let Some(from) = before.filter(|from| *from != to) {
            self.note(EventKind::FailedOver { from, to }, || Cause::None);
        }
    }

    /// The registry has acknowledged the record. `before` is the status before that.
    pub(super) fn registered(&self, before: &RegisterStatus, ttl: Duration) {
        let since = || tokio::time::Instant::now().into_std().saturating_duration_since(before.since);
        match (before.state, before.granted_ttl) {
            (RegisterState::Registered, _) => self.note(EventKind::Changed, || Cause::Asked),
            (_, None) => self.note(EventKind::Registered { ttl }, || Cause::Asked),
            (_, Some(_)) => self.note(EventKind::Repaired { after: since() }, || Cause::None),
        }
    }

    /// Another incarnation holds the record. By which one may be known later. `before` is the status before that.
    pub(super) fn superseded(&self, before: &RegisterStatus, error: &Error) {
        let told = before.last_error.as_ref().filter(|_| before.state == RegisterState::Superseded);
        if told.is_none_or(|told| told.message() != error.message()) {
            self.note(EventKind::Superseded, || Cause::Superseded { by: error.message().to_owned() });
        }
    }

    /// An attempt to register has failed. `before` is the status before that.
    pub(super) fn failed(&self, before: &RegisterStatus, error: &Error) {
        let last = before.last_error.as_ref().filter(|_| before.attempts > 0);
        if last.is_none_or(|last| last.kind() != error.kind()) {
            self.note(EventKind::Failed, || Cause::error(error));
        }
    }
}
