//! The changes of a cache as a stream.

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::{runtime::Handle, sync::watch, time::timeout};

use crate::Snapshot;

/// What those who await changes must know.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// How many changes there were.
    pub(super) changes: u64,
    /// The discovery has ended.
    pub(super) has_ended: bool,
}

/// A stream of snapshots, made by [`LiteEndpoint::changes`](crate::LiteEndpoint::changes). It begins with the current
/// one, and ends when the discovery has ended and its last list was returned.
pub struct Changes(BoxStream<'static, Arc<Snapshot>>);

/// How long a cache whose discovery has ended waits for another one to begin, before it says that it has ended: a
/// task that was just spawned has not run yet.
const NEXT: Duration = Duration::from_secs(1);

/// Whether another discovery begins soon. Outside a runtime nothing is waited for. Cancel-safe.
pub(super) async fn begins_again(progress: &mut watch::Receiver<Progress>) -> bool {
    let begun = progress.wait_for(|now| !now.has_ended);
    Handle::try_current().is_ok() && timeout(NEXT, begun).await.is_ok()
}

impl Changes {
    pub(super) fn new(current: Arc<ArcSwap<Snapshot>>, progress: watch::Receiver<Progress>) -> Self {
        let (none_seen, has_ended) = (None::<u64>, progress.borrow().has_ended);
        let start = (current, progress, none_seen, has_ended);
        let snapshots = stream::unfold(start, async |(current, mut progress, seen, mut had_ended)| {
            loop {
                let is_news = |now: &Progress| seen != Some(now.changes) || now.has_ended;
                let now = *progress.wait_for(is_news).await.ok()?;
                if seen != Some(now.changes) {
                    return Some((current.load_full(), (current, progress, Some(now.changes), had_ended)));
                }
                if !mem::take(&mut had_ended) || !begins_again(&mut progress).await {
                    return None;
                }
            }
        });
        Self(snapshots.fuse().boxed())
    }

    /// Waits for a snapshot that is newer than the last one returned; the first call returns at
    /// once. None when the discovery has ended or the cache is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<Snapshot>> {
        self.0.next().await
    }

    /// Waits for a snapshot for which `wanted` is true. None when the discovery has ended or the cache is gone.
    /// Cancel-safe.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&Snapshot) -> bool) -> Option<Arc<Snapshot>> {
        loop {
            let snapshot = self.next().await?;
            if wanted(&snapshot) {
                return Some(snapshot);
            }
        }
    }
}

impl Stream for Changes {
    type Item = Arc<Snapshot>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Arc<Snapshot>>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}
