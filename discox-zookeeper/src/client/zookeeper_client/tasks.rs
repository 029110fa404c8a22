//! The tasks of `zookeeper-client`, which it would let run on when its handle is gone.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use discox_core::backend::lock;
use spawns_core::{Spawn, Task};
use tokio::task::JoinSet;

/// The tasks that the crate spawns, so that they end when we do.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    set: Mutex<JoinSet<()>>,
    frozen: Arc<AtomicBool>,
}

impl Tasks {
    /// Runs a future; what it spawns is ours.
    pub(super) async fn capture<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| {
            let _scope = spawns_core::enter(self);
            future.as_mut().poll(context)
        })
        .await
    }

    /// Lets them rest. They are not ended before us, because watches would panic.
    pub(super) fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
    }

    /// Waits for their end. Cancel-safe.
    pub(super) async fn ended(&self) {
        while poll_fn(|context| self.lock().poll_join_next(context)).await.is_some() {}
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        lock(&self.set)
    }
}

impl Spawn for Tasks {
    fn spawn(&self, task: Task) {
        let frozen = self.frozen.clone();
        let mut future = Box::into_pin(task.future);
        self.lock().spawn(poll_fn(move |context| {
            if frozen.load(Ordering::Relaxed) { Poll::Pending } else { future.as_mut().poll(context) }
        }));
    }
}
