//! What one watch has been sent and has not read yet.

use std::{collections::VecDeque, sync::Mutex};

use discox_core::{Error, ErrorKind, backend::lock};
use etcd_client::WatchResponse;
use tokio::sync::Notify;

/// The most that waits for a reader, in bytes: one that is slower reads the list again. Readers are slow one at a
/// time, since a callback blocks its thread.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// An event takes this much beside its key and value.
const EVENT: usize = 128;

/// One watch's part of a stream.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    state: Mutex<State>,
    /// There is something to read. One reader waits.
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The revision of the server when it confirmed the watch.
    created: Option<i64>,
    messages: VecDeque<WatchResponse>,
    bytes: usize,
    confirmed: bool,
    end: Option<Error>,
}

/// What there is to read.
#[derive(Debug)]
pub(crate) enum News {
    /// Events.
    Events(WatchResponse),
    /// The stream works, and there is nothing new.
    Confirmed,
}

impl Feed {
    /// The server has accepted the watch.
    pub(crate) fn create(&self, revision: i64) {
        lock(&self.state).created = Some(revision);
        self.ready.notify_one();
    }

    /// The stream has shown that it works.
    pub(crate) fn confirm(&self) {
        lock(&self.state).confirmed = true;
        self.ready.notify_one();
    }

    /// Whether the reader keeps up with this message.
    pub(crate) fn push(&self, message: WatchResponse) -> bool {
        let mut state = lock(&self.state);
        let bytes: usize = message
            .events()
            .iter()
            .map(|event| EVENT + event.kv().map_or(0, |kv| kv.key().len() + kv.value().len()))
            .sum();
        let keeps_up = state.messages.is_empty() || state.bytes + bytes <= MOST_BYTES;
        if keeps_up {
            state.bytes += bytes;
            state.messages.push_back(message);
        } else {
            state.messages.clear();
            state.end.get_or_insert_with(|| {
                Error::new(ErrorKind::Stale, "there are more changes than are taken: the list is read again")
            });
        }
        drop(state);
        self.ready.notify_one();
        keeps_up
    }

    /// There is nothing more. What came before is still read.
    pub(crate) fn end(&self, error: Error) {
        lock(&self.state).end.get_or_insert(error);
        self.ready.notify_one();
    }

    /// Waits until the server has accepted the watch, and returns its revision. Cancel-safe.
    pub(crate) async fn created(&self) -> Result<i64, Error> {
        self.when(|state| match (state.created, &state.end) {
            (Some(revision), _) => Some(Ok(revision)),
            (None, Some(error)) => Some(Err(error.clone())),
            (None, None) => None,
        })
        .await
    }

    /// Waits for the next news. Cancel-safe.
    pub(crate) async fn next(&self) -> Result<News, Error> {
        self.when(|state| {
            if let Some(message) = state.messages.pop_front() {
                if state.messages.is_empty() {
                    state.bytes = 0;
                }
                return Some(Ok(News::Events(message)));
            }
            if let Some(error) = &state.end {
                return Some(Err(error.clone()));
            }
            std::mem::take(&mut state.confirmed).then_some(Ok(News::Confirmed))
        })
        .await
    }

    async fn when<T>(&self, mut found: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            if let Some(found) = found(&mut lock(&self.state)) {
                return found;
            }
            self.ready.notified().await;
        }
    }
}
