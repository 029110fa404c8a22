//! What the parts that use a connection and the part that keeps it tell each other.

use std::sync::Arc;

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// The signs of life of one connection, shared by everyone who uses it.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    heard: watch::Sender<Instant>,
    suspected: Notify,
    verify: Notify,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            heard: watch::Sender::new(Instant::now()),
            suspected: Notify::new(),
            verify: Notify::new(),
        }))
    }

    /// The registry has answered.
    pub fn beat(&self) {
        self.0.heard.send_replace(Instant::now());
    }

    /// Something failed on this connection: is it still alive?
    pub fn suspect(&self) {
        self.0.suspected.notify_one();
    }

    /// Resolves when somebody suspects the connection. Cancel-safe.
    pub async fn suspected(&self) {
        self.0.suspected.notified().await;
    }

    /// Asks for all records to be verified now rather than at their next heart beat: the registry
    /// was restarted, say.
    pub fn verify(&self) {
        self.0.verify.notify_one();
    }

    pub(crate) async fn verify_asked(&self) {
        self.0.verify.notified().await;
    }

    pub(crate) fn last_heard(&self) -> Instant {
        *self.0.heard.borrow()
    }

    pub(crate) fn heard(&self) -> watch::Receiver<Instant> {
        self.0.heard.subscribe()
    }
}
