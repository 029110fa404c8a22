//! What is wanted of a registration, and how its record leaves the registry.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::keep_alive::KeepAlive;
use crate::{
    Error, ErrorKind, RegisterState, RegisterStatus, Result, backend::Link, connection::Resident, lock::lock,
};

/// What is wanted of a registration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Nothing: not started, or its start was given up. Left by `start` and `stop`.
    New,
    /// To be registered, by the n-th start. Left by `stop`, and when the start is given up.
    Running(u64),
    /// To be gone for good.
    Stopping,
}

/// The phase, and how many loops run: one, or two for a moment when a start follows one that was given up.
///
/// The count is locked while the phase changes and while a record leaves, so that a loop that ends and a call that
/// ends it do not both see to that, or neither.
pub(super) struct Wish {
    loops: Mutex<usize>,
    phase: watch::Sender<Phase>,
    starts: AtomicU64,
}

impl Wish {
    pub(super) fn new() -> Self {
        Self { loops: Mutex::new(0), phase: watch::Sender::new(Phase::New), starts: AtomicU64::new(0) }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }
}

impl<L: Link> KeepAlive<L> {
    /// Wants it registered, unless something else was wanted before, which is returned then.
    pub(super) fn begin(self: &Arc<Self>) -> Result<(), Phase> {
        let _loops = lock(&self.wish.loops);
        let before = self.wish.phase();
        if before != Phase::New {
            return Err(before);
        }
        self.modify(|status| {
            *status = RegisterStatus::new();
            status.enter(RegisterState::Retrying);
        });
        self.shared.withdrawals.forget(&self.record);
        self.gone.begin();
        self.wish.phase.send_replace(Phase::Running(self.wish.starts.fetch_add(1, Ordering::Relaxed)));
        self.shared.residents.add(self.record.incarnation, self.clone());
        Ok(())
    }

    /// Gives the start up. What it wrote is withdrawn.
    pub(super) fn give_up_start(&self) {
        let loops = lock(&self.wish.loops);
        if matches!(self.wish.phase(), Phase::Running(_)) {
            self.enter(Phase::New, RegisterState::New, *loops);
            self.answer(None);
        }
    }

    /// Wants the record to be gone for good.
    pub(super) fn begin_stop(&self) {
        let loops = lock(&self.wish.loops);
        self.enter(Phase::Stopping, RegisterState::Stopped, *loops);
        self.answer(Some(&self.stopped()));
    }

    fn enter(&self, next: Phase, state: RegisterState, loops: usize) {
        let before = self.wish.phase.send_replace(next);
        self.modify(|status| status.enter(state));
        if loops == 0 && matches!(before, Phase::Running(_)) {
            self.leave();
        }
    }

    /// Has withdrawn what the registry may hold of ours. Called with the loops locked.
    fn leave(&self) {
        self.shared.claims.release(&self.record);
        if let Some(receipt) = self.take_written() {
            self.shared.withdrawals.enqueue(self.record.clone(), receipt, self.gone.clone());
        } else if !self.shared.withdrawals.waits(&self.record) {
            self.shared.claims.leave(&self.record);
            self.gone.never_was();
        }
        self.shared.residents.remove(self.record.incarnation);
    }

    /// The loop has ended, though the record is wanted: its runtime has ended.
    fn stranded(&self) {
        self.shared.claims.release(&self.record);
        let error = Error::new(ErrorKind::Unavailable, "the runtime that kept it registered has ended");
        let error = self.shared.place(error).with_subject(&self.record);
        self.report(|status| {
            if status.state != RegisterState::Superseded {
                status.enter(RegisterState::Retrying);
                status.last_error = Some(error);
            }
        });
    }

    /// Tells the status, as long as the record is wanted.
    pub(super) fn report(&self, change: impl FnOnce(&mut RegisterStatus)) {
        let phase = self.wish.phase.borrow();
        if matches!(*phase, Phase::Running(_)) {
            self.modify(change);
        }
    }

    fn modify(&self, change: impl FnOnce(&mut RegisterStatus)) {
        self.status.send_modify(|status| {
            change(status);
            self.meter.report(status);
        });
    }

    pub(super) fn stopped(&self) -> Error {
        self.shared.place(Error::new(ErrorKind::Stopped, "stop was called").with_subject(&self.record))
    }
}

impl<L: Link> Resident for KeepAlive<L> {
    fn run(self: Arc<Self>) -> BoxFuture<'static, ()> {
        let phase = self.wish.phase();
        let this = Loop::new(self);
        Box::pin(async move {
            let mut wanted = this.0.wish.phase.subscribe();
            tokio::select! {
                biased;
                _ = wanted.wait_for(|wanted| *wanted != phase) => {}
                () = this.0.keep_registered(), if matches!(phase, Phase::Running(_)) => {}
            }
            // What it had under way is over before the record leaves.
            drop(this);
        })
    }
}

/// One run of the loop. At its end, however it ends, the record leaves if it is no longer wanted.
struct Loop<L: Link>(Arc<KeepAlive<L>>, Phase);

impl<L: Link> Loop<L> {
    fn new(keep_alive: Arc<KeepAlive<L>>) -> Self {
        *lock(&keep_alive.wish.loops) += 1;
        let phase = keep_alive.wish.phase();
        Self(keep_alive, phase)
    }
}

impl<L: Link> Drop for Loop<L> {
    fn drop(&mut self) {
        let Self(keep_alive, phase) = self;
        let mut loops = lock(&keep_alive.wish.loops);
        *loops -= 1;
        if *loops > 0 {
            return;
        }
        let now = keep_alive.wish.phase();
        if !matches!(now, Phase::Running(_)) || keep_alive.shared.is_closed() {
            keep_alive.leave();
        } else if now == *phase {
            keep_alive.stranded();
        }
    }
}
