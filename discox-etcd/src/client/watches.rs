//! All watches of a connection on one stream: etcd's RPC is made for that, and servers and proxies limit the streams
//! of a connection.
//!
//! A stream takes further watches as long as the token it was opened with is good. After that a new stream takes
//! them, and the watches of the old one stay where they are.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use discox_core::{Error, ErrorKind, Result, backend::lock};
use etcd_client::{WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Duration, timeout},
};

use super::{
    feed::{Feed, News},
    watch_table::{Created, Request, Table},
};
use crate::error;

/// A range of keys, and the revision to begin with; 0 is now.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
    pub(crate) revision: i64,
}

impl Range {
    pub(crate) fn options(&self) -> WatchOptions {
        let options = WatchOptions::new()
            .with_key(self.start.clone())
            .with_start_revision(self.revision)
            // Otherwise a batch of many changes is one message, however long.
            .with_fragment();
        if self.end.is_empty() { options } else { options.with_range(self.end.clone()) }
    }

    /// For the watch that opens a stream.
    pub(crate) fn first_options(&self) -> WatchOptions {
        self.options().with_watch_id(Table::FIRST)
    }
}

/// One Watch stream and the watches on it. Its task ends with it.
pub(crate) struct WatchStream {
    shared: Arc<Shared>,
    /// How often we had logged in when it was opened.
    pub(crate) logins: u64,
    retired: AtomicBool,
    task: AbortHandle,
}

struct Shared {
    table: Mutex<Table>,
    /// There is something to send.
    wanted: Notify,
    /// Messages so far.
    heard: watch::Sender<u64>,
}

/// One watch. Dropping it cancels it at the server.
pub(crate) struct Watching {
    shared: Arc<Shared>,
    number: i64,
    feed: Arc<Feed>,
}

/// Why there is no watch.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The token of the stream is not good any more.
    LogIn(Error),
    /// All else.
    Failed(Error),
}

impl WatchStream {
    /// Serves a stream on which one watch has been asked for already, which nobody reads.
    pub(crate) fn serve(
        (requests, responses): (WatchRequestSender, WatchResponseStream),
        logins: u64,
        failed: impl Fn(etcd_client::Error) -> Error + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            table: Mutex::new(Table::begun()),
            wanted: Notify::new(),
            heard: watch::Sender::new(0),
        });
        let served = shared.clone();
        let task = tokio::spawn(async move {
            // Also when the client crate panics.
            let ends = EndsWithTask(served.clone());
            let error = tokio::select! {
                error = served.send(requests) => error,
                error = served.receive(responses) => error,
            };
            ends.0.end(&if error::is_too_large(&error) { too_large() } else { failed(error) });
        });
        Self { shared, logins, retired: AtomicBool::new(false), task: task.abort_handle() }
    }

    /// Whether it takes further watches.
    pub(crate) fn takes_more(&self) -> bool {
        self.is_open() && !self.retired.load(Relaxed)
    }

    /// It takes no further watches.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    /// Whether it still serves.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.shared.table).ended().is_none()
    }

    /// Whether nobody watches on it.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.shared.table).is_idle()
    }

    /// Ends all its watches.
    pub(crate) fn end(&self, error: &Error) {
        self.shared.end(error);
    }

    /// Watches, and returns when the server has accepted that, with the server's revision. Cancel-safe in that
    /// nothing is left of a watch whose future was dropped.
    pub(crate) async fn watch(&self, range: Range) -> Result<(Watching, i64), Refused> {
        let feed = Arc::new(Feed::default());
        let number = lock(&self.shared.table).create(range, feed.clone());
        let watching = Watching { shared: self.shared.clone(), number, feed };
        self.shared.wanted.notify_one();
        match watching.feed.created().await {
            Ok(revision) => Ok((watching, revision)),
            Err(error) if error::is_login_needed(&error) => Err(Refused::LogIn(error)),
            Err(error) => Err(Refused::Failed(error)),
        }
    }

    /// Asks whether the stream works: for another watch, which is answered at once by every etcd and every proxy
    /// (etcd's own proxy ignores requests for progress). If nothing at all comes in time, all watches end.
    pub(crate) async fn check(&self, range: Range, limit: Duration) {
        let heard = *self.shared.heard.borrow();
        let answered = timeout(limit, self.watch(range)).await.is_ok();
        if answered {
            lock(&self.shared.table).confirm();
        } else if *self.shared.heard.borrow() == heard {
            self.end(&Error::timed_out("watch", limit));
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    /// Cancel-safe.
    pub(crate) async fn next(&self) -> Result<News> {
        self.feed.next().await
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        lock(&self.shared.table).leave(self.number);
        self.shared.wanted.notify_one();
    }
}

impl Shared {
    async fn send(&self, mut requests: WatchRequestSender) -> etcd_client::Error {
        loop {
            let next = lock(&self.table).next_request();
            let sent = match next {
                Some(Request::Create(number, range)) => {
                    requests.watch(range.start.clone(), Some(range.options().with_watch_id(number))).await
                }
                Some(Request::Cancel(id)) => requests.cancel(id).await,
                None => {
                    self.wanted.notified().await;
                    continue;
                }
            };
            if let Err(error) = sent {
                return error;
            }
        }
    }

    async fn receive(&self, mut responses: WatchResponseStream) -> etcd_client::Error {
        loop {
            match responses.message().await {
                Ok(Some(response)) => self.take(response),
                Ok(None) => {
                    return etcd_client::Error::WatchError("the server has ended the watch stream".into());
                }
                Err(error) => return error,
            }
        }
    }

    fn take(&self, response: WatchResponse) {
        let mut table = lock(&self.table);
        if response.created() {
            let revision = response.header().map_or(0, |header| header.revision());
            let refused = response.canceled().then(|| cancelled(&response));
            table.created(response.watch_id(), Created { revision, refused });
        } else if response.canceled() {
            table.cancelled(response.watch_id(), cancelled(&response));
        } else {
            table.events(response.watch_id(), response);
        }
        drop(table);
        self.wanted.notify_one();
        self.heard.send_modify(|heard| *heard += 1);
    }

    fn end(&self, error: &Error) {
        lock(&self.table).end(error);
    }
}

fn cancelled(response: &WatchResponse) -> Error {
    error::cancelled(response.cancel_reason(), response.compact_revision())
}

/// Of whom, is not known: all read their lists again, and step over what is too large there.
fn too_large() -> Error {
    Error::new(ErrorKind::Stale, "a change is longer than what is taken: the list is read again")
}

/// Nobody waits for a task that is not there.
struct EndsWithTask(Arc<Shared>);

impl Drop for EndsWithTask {
    fn drop(&mut self) {
        self.0.end(&Error::new(ErrorKind::Unavailable, "the watch stream has ended"));
    }
}
