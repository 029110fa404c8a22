//! What the parts that use a connection and the part that keeps it tell each other.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use crate::lock::lock;

/// A busy machine must not be taken for a dead one.
const SHORTEST_DETECTION: Duration = Duration::from_secs(1);

/// The signs of life of one connection, shared by everyone who uses it.
#[derive(Clone, Debug)]
pub struct Liveness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    detection: Mutex<Duration>,
    heard: watch::Sender<Instant>,
    suspected: Notify,
    verify: Notify,
}

impl Liveness {
    pub(crate) fn new(detection: Duration) -> Self {
        Self(Arc::new(Inner {
            detection: Mutex::new(detection),
            heard: watch::Sender::new(Instant::now()),
            suspected: Notify::new(),
            verify: Notify::new(),
        }))
    }

    /// The registry has answered.
    pub fn answered(&self) {
        self.0.heard.send_replace(Instant::now());
    }

    /// Within which a server that does not answer is to be given up:
    /// [`ConnectionConfig::detection`](crate::ConnectionConfig::detection), or, where there are other
    /// members, half of the shortest TTL that was granted on this connection: there must be time to
    /// move before a record expires whose last renewal was a third of its TTL ago.
    pub fn detection(&self) -> Duration {
        *self.detection_lock()
    }

    /// A record with this TTL is to be kept alive.
    pub(crate) fn keeps(&self, ttl: Duration) {
        let needed = (ttl / 2).max(SHORTEST_DETECTION);
        let mut detection = self.detection_lock();
        if needed < *detection {
            *detection = needed;
            // Whoever sleeps until the next probe has reckoned with more time.
            self.probe_now();
        }
    }

    fn detection_lock(&self) -> MutexGuard<'_, Duration> {
        lock(&self.0.detection)
    }

    /// Something failed on this connection: is it still alive?
    pub fn probe_now(&self) {
        self.0.suspected.notify_one();
    }

    /// Resolves when somebody suspects the connection. Cancel-safe.
    pub async fn probe_asked(&self) {
        self.0.suspected.notified().await;
    }

    /// Waits until the registry is to be asked whether it is alive: for this pause, or until somebody
    /// suspects the connection. Cancel-safe.
    pub async fn probe_due(&self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.probe_asked() => {}
        }
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
