//! Changes as server-sent events: `list` first, then `change` by `change`, and what happened and why as `history`. A
//! reader that falls behind gets another `list`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{body::Body, http::HeaderValue, response::Response};
use bytes::Bytes;
use discox::History;
use futures_util::stream;
use tokio::{sync::watch, time::sleep};

use super::{
    Shared,
    counts::Present,
    json, reply,
    view::{Subject, View, event},
    watched::Feed,
};

const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// How often a word is sent when nothing happens, so that a peer that is gone is noticed.
const QUIET: Duration = Duration::from_secs(10);

/// A comment, which readers skip.
const WORD: Bytes = Bytes::from_static(b":\n\n");

/// One reader. It holds no events: what it has not read yet is not made yet.
struct Reader {
    views: watch::Receiver<Arc<View>>,
    ending: watch::Receiver<bool>,
    /// The index of the view that it has seen last.
    seen: Option<u64>,
    history: History,
    /// The number of the last event of the history that it was told.
    heard: u64,
    _feed: Arc<Feed>,
    _present: Present,
}

/// The changes of what is fed, until the reader goes or the server ends.
pub(super) fn stream(shared: &Arc<Shared>, feed: Arc<Feed>) -> Response {
    let mut views = feed.views();
    views.mark_changed();
    let history = match feed.view().subject {
        Subject::Names => History::default(),
        Subject::Service(_) => feed.history(),
    };
    let reader = Reader {
        views,
        ending: shared.ending.subscribe(),
        seen: None,
        history,
        heard: 0,
        _feed: feed,
        _present: Present::new(shared, |counts| &counts.streams),
    };
    let events = stream::unfold(reader, |mut reader| async {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    reply::with_type(EVENTS, Body::from_stream(events))
}

impl Reader {
    /// The next event; none when the server ends.
    async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            _ = self.ending.wait_for(|ending| *ending) => return None,
            changed = self.views.changed() => changed.ok()?,
            events = self.history.wait_after(self.heard) => {
                self.heard = events.last().map_or(self.heard, |event| event.number);
                return Some(event("history", self.heard, &json::events(&events)).all);
            }
            () = sleep(QUIET) => return Some(WORD),
        }
        let view = self.views.borrow_and_update().clone();
        let event = if self.seen == Some(view.follows) { view.change_event() } else { view.list_event() };
        self.seen = Some(view.index);
        Some(event)
    }
}
