//! The handle of a connection: starts the task that keeps it, on the runtime that calls, and ends it.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use super::{
    shared::{Ending, Shared, Wanted},
    supervisor::{Task, run},
};
use crate::{ConnectionConfig, Error, ErrorKind, Result, backend::Link};

/// The handle: the connection ends when it is dropped.
pub(crate) struct Hub<L: Link> {
    shared: Arc<Shared<L>>,
}

impl<L: Link> std::ops::Deref for Hub<L> {
    type Target = Shared<L>;

    fn deref(&self) -> &Shared<L> {
        &self.shared
    }
}

impl<L: Link> Hub<L> {
    pub(crate) fn new(connector: L::Connector, settings: &ConnectionConfig) -> Self {
        Self { shared: Arc::new(Shared::new(connector, settings)) }
    }

    /// What the users of the connection need, without keeping it alive.
    pub(crate) fn shared(&self) -> Arc<Shared<L>> {
        self.shared.clone()
    }

    /// Wants the connection, and starts its task unless one runs or the connection was closed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] outside a runtime.
    pub(crate) fn open(&self) -> Result<()> {
        let runtime = runtime()?;
        self.condition.send_if_modified(|now| {
            let is_idle = matches!(now.wanted, Wanted::Idle(_));
            if is_idle {
                now.wanted = Wanted::Open;
            }
            is_idle
        });
        self.ensure_task(&runtime);
        Ok(())
    }

    /// To be polled beside all that waits for the connection: where its task ends without its owner, as with
    /// its runtime, it is started anew on this one.
    pub(crate) async fn keep_running(&self) -> Infallible {
        let Ok(runtime) = runtime() else { return pending().await };
        let mut condition = self.condition.subscribe();
        loop {
            condition.mark_unchanged();
            self.ensure_task(&runtime);
            // The sender lives as long as self, so that this cannot fail.
            let _ = condition.changed().await;
        }
    }

    fn ensure_task(&self, runtime: &Handle) {
        let is_started = self.condition.send_if_modified(|now| {
            let needed = match now.ending() {
                None => true,
                Some(ending) => Instant::now() < ending.withdraw_until && !self.is_empty(),
            };
            let is_started = needed && !now.is_running;
            now.is_running |= is_started;
            is_started
        });
        if is_started {
            runtime.spawn(run(Task::new(self.shared.clone())));
        }
    }

    /// Lets the connection end, unless it is wanted again before.
    pub(crate) fn release(&self) {
        let ending = Ending::within(self.settings.request_timeout);
        self.condition.send_if_modified(|now| {
            let is_open = matches!(now.wanted, Wanted::Open);
            if is_open {
                now.wanted = Wanted::Idle(ending);
            }
            is_open
        });
    }

    /// Lets the connection end for good: what is registered is withdrawn, then the session is closed or the
    /// leases are revoked, all within `at_most`. Does not wait.
    pub(crate) fn ask_close(&self, at_most: Duration) {
        self.condition.send_if_modified(|now| {
            let is_new = !now.is_closed();
            if is_new {
                now.wanted = Wanted::Closed(Ending::within(at_most));
            }
            is_new
        });
    }

    /// Ends the connection for good, within `at_most`. Cancel-safe: what was asked for happens.
    pub(crate) async fn close(&self, at_most: Duration) {
        self.ask_close(at_most);
        let Ok(runtime) = runtime() else { return };
        let over = self.condition.borrow().ending().map_or_else(Instant::now, |ending| ending.over);
        // One that lost its task has records to withdraw.
        self.ensure_task(&runtime);
        let mut condition = self.condition.subscribe();
        let ended = condition.wait_for(|now| !now.is_running);
        tokio::select! {
            biased;
            // Nobody may be driving the runtime that the task is on.
            _ = timeout_at(over, ended) => {}
            never = self.keep_running() => match never {},
        }
    }
}

impl<L: Link> Drop for Hub<L> {
    /// Its task withdraws what it has to, and ends.
    fn drop(&mut self) {
        self.release();
    }
}

/// The runtime that calls.
///
/// # Errors
/// [`ErrorKind::Config`], saying what to do.
pub(crate) fn runtime() -> Result<Handle> {
    Handle::try_current().map_err(|_| {
        let message = "there is no Tokio runtime here: call it in a task, below `#[tokio::main]`, or in \
                       `Runtime::block_on`";
        Error::new(ErrorKind::Config, message)
    })
}
