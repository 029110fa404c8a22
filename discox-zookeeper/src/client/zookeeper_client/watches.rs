//! What `zookeeper-client` tells by itself of nodes, as streams and futures that end instead of
//! panicking.

use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt, StreamExt, stream};
use zookeeper_client::{EventType, OneshotWatcher, PersistentWatcher, WatchedEvent};

use super::ended;
use crate::client::{Events, Fault, Once, Touched};

/// The changes below a directory. Ends with the connection, since the watch is lost with it.
pub(super) fn events(watcher: PersistentWatcher) -> Events {
    stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        let Ok(event) = AssertUnwindSafe(watcher.changed()).catch_unwind().await else {
            return Some((Err(Fault::Closed), None));
        };
        Some(match broken(&event) {
            Some(fault) => (Err(fault), None),
            None => {
                let deleted = event.event_type == EventType::NodeDeleted;
                (Ok(Touched { deleted, path: event.path }), Some(watcher))
            }
        })
    })
    .boxed()
}

/// A change of one node.
pub(super) fn once(watcher: OneshotWatcher) -> Once {
    async move {
        match AssertUnwindSafe(watcher.changed()).catch_unwind().await {
            Ok(event) => broken(&event).map_or(Ok(()), Err),
            Err(_) => Err(Fault::Closed),
        }
    }
    .boxed()
}

/// Why a watch is over, if this event says so.
fn broken(event: &WatchedEvent) -> Option<Fault> {
    let lost = || Fault::Disconnected("the watch is lost with it".into());
    (event.event_type == EventType::Session).then(|| ended(event.session_state).unwrap_or_else(lost))
}
