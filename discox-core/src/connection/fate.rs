//! What became of the record of a registration that has ended.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{Cause, EventKind, History, Result};

/// What became of a record: nothing as long as it may be in the registry.
pub(crate) struct Fate {
    outcome: watch::Sender<Option<Result<()>>>,
    history: History,
    endpoint: Option<Arc<str>>,
}

impl Fate {
    /// Of a record that was never written.
    pub(crate) fn new(history: History, endpoint: Option<Arc<str>>) -> Self {
        Self { outcome: watch::Sender::new(Some(Ok(()))), history, endpoint }
    }

    /// The record may be in the registry from now on.
    pub(crate) fn begin(&self) {
        self.outcome.send_replace(None);
    }

    /// The record is gone, or cannot be withdrawn.
    pub(crate) fn settle(&self, outcome: Result<()>) {
        let (kind, cause) = match &outcome {
            Ok(()) => (EventKind::Withdrawn, Cause::Asked),
            Err(error) => (EventKind::NotWithdrawn, Cause::error(error)),
        };
        self.history.note(self.endpoint.as_ref(), kind, cause);
        self.outcome.send_replace(Some(outcome));
    }

    /// There is nothing to withdraw. What was settled stays.
    pub(crate) fn never_was(&self) {
        self.outcome.send_if_modified(|outcome| {
            let is_news = outcome.is_none();
            if is_news {
                *outcome = Some(Ok(()));
            }
            is_news
        });
    }

    /// To wait for it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Result<()>>> {
        self.outcome.subscribe()
    }
}
