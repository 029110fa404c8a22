//! What `zookeeper-client` tells by itself: the session's state and changes of nodes.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use zookeeper_client::{
    EventType, OneshotWatcher, PersistentWatcher, SessionState, StateWatcher, WatchedEvent,
};

use crate::client::{Fault, State, Touched};

/// Follows the state of a session.
#[derive(Debug)]
pub(crate) struct States(pub(super) StateWatcher);

impl States {
    /// The state now.
    pub(crate) fn now(&mut self) -> State {
        match self.0.state() {
            SessionState::SyncConnected => State::Connected,
            SessionState::Disconnected | SessionState::ConnectedReadOnly => State::Disconnected,
            SessionState::AuthFailed => State::Ended(Fault::Denied("authentication failed")),
            SessionState::Closed => State::Ended(Fault::Closed),
            SessionState::Expired => State::Ended(Fault::Expired),
        }
    }

    /// Resolves when the state is or was another one since the client was made, or since
    /// [`States::now`]. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        self.0.changed().await;
    }

    /// Resolves when the connection is or was lost since then. Cancel-safe.
    pub(crate) async fn broken(&mut self) -> Fault {
        self.changed().await;
        match self.now() {
            State::Ended(fault) => fault,
            State::Connected | State::Disconnected => Fault::Disconnected("closed or silent".into()),
        }
    }
}

/// The changes below a directory.
#[derive(Debug)]
pub(crate) struct Events {
    watcher: PersistentWatcher,
    ended: Option<Fault>,
}

impl From<PersistentWatcher> for Events {
    fn from(watcher: PersistentWatcher) -> Self {
        Self { watcher, ended: None }
    }
}

impl Events {
    /// Waits for the next change. Cancel-safe. Fails as soon as the connection is lost, since the
    /// watch is lost with it.
    pub(crate) async fn next(&mut self) -> Result<Touched, Fault> {
        if let Some(fault) = &self.ended {
            return Err(fault.clone());
        }
        let Ok(event) = AssertUnwindSafe(self.watcher.changed()).catch_unwind().await else {
            return Err(self.ended.insert(Fault::Closed).clone());
        };
        match broken(&event) {
            Some(fault) => Err(self.ended.insert(fault).clone()),
            None => Ok(Touched { deleted: event.event_type == EventType::NodeDeleted, path: event.path }),
        }
    }

    /// The next change if there is one already.
    pub(crate) fn ready(&mut self) -> Option<Result<Touched, Fault>> {
        self.next().now_or_never()
    }
}

/// A watch for one change.
#[derive(Debug)]
pub(crate) struct Once(pub(super) OneshotWatcher);

impl Once {
    /// Waits for the change.
    pub(crate) async fn fired(self) -> Result<(), Fault> {
        match broken(&self.0.changed().await) {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }
}

/// Why a watch is over, if this event says so.
fn broken(event: &WatchedEvent) -> Option<Fault> {
    match (event.event_type, event.session_state) {
        (EventType::Session, SessionState::Expired) => Some(Fault::Expired),
        (EventType::Session, SessionState::Closed) => Some(Fault::Closed),
        (EventType::Session, SessionState::AuthFailed) => Some(Fault::Denied("authentication failed")),
        (EventType::Session, _) => Some(Fault::Disconnected("the watch is lost with it".into())),
        _ => None,
    }
}
