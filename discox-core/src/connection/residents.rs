//! What runs in the task of a connection, beside the connection itself: one loop for each registration.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tracing::error;

use crate::{lock::lock, record::Incarnation};

/// The pause after a loop that panicked, which only a fault in this crate can cause.
const AFTER_A_PANIC: Duration = Duration::from_secs(1);

/// Something that lives as long as it has not been removed: a task that is started anew runs it anew.
pub(crate) trait Resident: Send + Sync {
    /// The loop. It ends when the resident is no longer wanted; dropping it says that it is to run again.
    fn run(self: Arc<Self>) -> BoxFuture<'static, ()>;
}

/// The residents of one connection, with or without a task that runs them.
pub(crate) struct Residents {
    table: Mutex<Table>,
    arrived: Notify,
    left: watch::Sender<()>,
}

#[derive(Default)]
struct Table {
    all: BTreeMap<Incarnation, Arc<dyn Resident>>,
    /// Those that the running task has not seen yet.
    arrivals: Vec<Incarnation>,
}

impl Residents {
    pub(super) fn new(left: watch::Sender<()>) -> Self {
        Self { table: Mutex::default(), arrived: Notify::new(), left }
    }

    pub(crate) fn add(&self, id: Incarnation, resident: Arc<dyn Resident>) {
        let mut table = lock(&self.table);
        table.all.insert(id, resident);
        table.arrivals.push(id);
        drop(table);
        self.arrived.notify_one();
    }

    pub(crate) fn remove(&self, id: Incarnation) {
        let removed = lock(&self.table).all.remove(&id);
        // Not while the table is locked: it may be the last handle.
        drop(removed);
        self.left.send_replace(());
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.table).all.is_empty()
    }

    /// Runs all of them, and those that come later.
    pub(super) async fn run(&self) -> Infallible {
        let mut running = FuturesUnordered::new();
        running.extend(self.all().into_iter().map(run));
        loop {
            tokio::select! {
                biased;
                () = self.arrived.notified() => running.extend(self.arrivals().into_iter().map(run)),
                Some(()) = running.next(), if !running.is_empty() => {}
            }
        }
    }

    fn all(&self) -> Vec<Arc<dyn Resident>> {
        let mut table = lock(&self.table);
        table.arrivals.clear();
        table.all.values().cloned().collect()
    }

    fn arrivals(&self) -> Vec<Arc<dyn Resident>> {
        let Table { all, arrivals } = &mut *lock(&self.table);
        arrivals.drain(..).filter_map(|id| all.get(&id).cloned()).collect()
    }
}

async fn run(resident: Arc<dyn Resident>) {
    while AssertUnwindSafe(resident.clone().run()).catch_unwind().await.is_err() {
        error!("a registration's loop panicked and is started again: please report this fault of discox");
        sleep(AFTER_A_PANIC).await;
    }
}
