//! One registered endpoint: the handle, and what `start`, `update_attr` and `stop` do.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tracing::info;

use crate::{
    Error, ErrorKind, Register, RegisterConfig, RegisterState, RegisterStatus, Result, backend::Link,
    backoff::Backoff, departures, keeper::Keeper, key::Record, link::Hub, lock::lock,
};

/// What is left of a stop's time for ending a connection of its own.
const CLOSING: Duration = Duration::from_millis(500);

/// The handle of one registered endpoint.
pub(crate) struct Registration<L: Link> {
    hub: Arc<Hub<L>>,
    /// The connection serves this registration only, and ends with it.
    owns_hub: bool,
    keeper: Arc<Keeper<L>>,
    phase: Mutex<Phase>,
}

enum Phase {
    New,
    Running(JoinHandle<()>),
    Stopped,
}

impl<L: Link> Registration<L> {
    pub(crate) fn new(hub: Arc<Hub<L>>, owns_hub: bool, config: &RegisterConfig) -> Result<Self> {
        let record = Arc::new(Record::parse(config)?);
        check_attr::<L>(&hub, &record, &config.attr)?;
        let keeper = Arc::new(Keeper::new(hub.shared(), record, &config.attr));
        Ok(Self { hub, owns_hub, keeper, phase: Mutex::new(Phase::New) })
    }

    fn record(&self) -> &Arc<Record> {
        &self.keeper.record
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        lock(&self.phase)
    }

    fn stopped(&self) -> Error {
        self.hub.place(Error::new(ErrorKind::Stopped, "stop was called").of(self.record()))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.hub.settings.request_timeout
    }

    /// Starts the task, once.
    fn launch(&self) -> Result<()> {
        let mut phase = self.phase();
        match &*phase {
            Phase::New => {
                self.keeper.status.send_modify(|status| {
                    *status = RegisterStatus::new();
                    status.enter(RegisterState::Retrying);
                });
                self.hub.departures.forget(self.record());
                self.hub.ensure_running();
                *phase = Phase::Running(tokio::spawn(self.keeper.clone().run()));
                Ok(())
            }
            Phase::Running(_) => {
                Err(self.hub.place(Error::new(ErrorKind::AlreadyStarted, "start was called before")))
            }
            Phase::Stopped => Err(self.stopped()),
        }
    }

    /// Undoes a start that failed or was cancelled, without waiting for the registry.
    fn abandon(&self) {
        let mut phase = self.phase();
        if let Phase::Running(task) = &*phase {
            task.abort();
            *phase = Phase::New;
            self.keeper.status.send_modify(|status| status.enter(RegisterState::New));
            self.leave();
        }
    }

    /// Lets the connection withdraw the record, or ends a connection of our own, so that the record
    /// ends with its TTL.
    fn leave(&self) {
        self.hub.claims.release(self.record());
        if self.owns_hub {
            self.hub.halt();
        } else if let Some(receipt) = self.keeper.written() {
            self.hub.departures.push(self.record().clone(), receipt);
        } else {
            self.hub.claims.leave(self.record());
        }
    }

    /// Waits until the first registration has succeeded, or cannot.
    async fn first_answer(&self) -> Result<()> {
        let mut status = self.keeper.status.subscribe();
        let deadline = self.deadline();
        let settled = status.wait_for(|status| match status.state {
            RegisterState::Registered | RegisterState::Stopped | RegisterState::Superseded => true,
            _ => status.last_error.as_ref().is_some_and(Error::is_refusal),
        });
        let answered = async {
            tokio::select! {
                biased;
                // The guard must not live across the use of the status below.
                status = settled => status.map(|status| status.clone()).map_err(|_| self.stopped()),
                error = self.hub.refused() => Err(error.during("register").of(self.record())),
            }
        };
        match timeout_at(deadline, answered).await {
            Ok(Ok(status)) if status.state == RegisterState::Registered => Ok(()),
            Ok(Ok(status)) if status.state == RegisterState::Stopped => Err(self.stopped()),
            Ok(Ok(status)) => Err(status.last_error.unwrap_or_else(|| self.stopped())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.why_not_yet("register")),
        }
    }

    fn why_not_yet(&self, operation: &'static str) -> Error {
        let known = self.hub.trouble().or_else(|| self.keeper.status.borrow().last_error.clone());
        let error = known.unwrap_or_else(|| Error::timed_out(operation, self.hub.settings.request_timeout));
        self.hub.place(error.during(operation)).of(self.record())
    }

    /// Removes the record, trying until the deadline.
    async fn withdraw(&self, deadline: Instant) -> Result<()> {
        let mut backoff = Backoff::new(&self.hub.settings);
        let mut last = None;
        let trying = async {
            loop {
                let (_, link) = self.hub.up().await?;
                let Some(receipt) = self.keeper.written() else { return Ok(()) };
                match departures::withdraw(&self.hub, &*link, self.record(), receipt.as_ref(), || true).await
                {
                    Ok(()) => return Ok(()),
                    Err(error) if !error.kind().is_retryable() => return Err(error),
                    Err(error) => {
                        self.hub.pulse.suspect();
                        let pause = backoff.pause(error.kind());
                        last = Some(error);
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        };
        match timeout_at(deadline, trying).await {
            Ok(answer) => answer,
            Err(_) => {
                let error = last.or_else(|| self.hub.trouble());
                let error =
                    error.unwrap_or_else(|| Error::timed_out("withdraw", self.hub.settings.request_timeout));
                Err(self.hub.place(error.during("withdraw")).of(self.record()))
            }
        }
    }
}

#[async_trait]
impl<L: Link> Register for Registration<L> {
    async fn start(&self) -> Result<()> {
        self.launch()?;
        let undo = Undo(Some(self));
        self.first_answer().await?;
        undo.keep();
        Ok(())
    }

    async fn update_attr(&self, attr: &str) -> Result<()> {
        check_attr::<L>(&self.hub, self.record(), attr)?;
        let number = self.keeper.wish(attr);
        match &*self.phase() {
            Phase::New => return Ok(()),
            Phase::Stopped => return Err(self.stopped()),
            Phase::Running(_) => {}
        }
        let status = self.keeper.status.borrow().clone();
        if status.state == RegisterState::Superseded {
            return Err(status.last_error.unwrap_or_else(|| self.stopped()));
        }
        let mut granted = self.keeper.granted.subscribe();
        let answered = granted.wait_for(|granted| granted.number >= number);
        match timeout_at(self.deadline(), answered)
            .await
            .map(|answer| answer.map(|granted| granted.error.clone()))
        {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(error))) => Err(error),
            Ok(Err(_)) => Err(self.stopped()),
            Err(_) => Err(self.why_not_yet("update")),
        }
    }

    async fn stop(&self) -> Result<()> {
        let deadline = self.deadline();
        let before = std::mem::replace(&mut *self.phase(), Phase::Stopped);
        self.keeper.status.send_modify(|status| status.enter(RegisterState::Stopped));
        self.keeper.answer(Some(&self.stopped()));
        let Phase::Running(task) = before else { return Ok(()) };
        task.abort();
        // What it had under way must be over before the withdrawal.
        let _ = task.await;
        self.keeper.status.send_modify(|status| status.enter(RegisterState::Stopped));
        self.hub.claims.release(self.record());
        let outcome = if self.keeper.written().is_some() {
            self.withdraw(deadline - CLOSING.min(self.hub.settings.request_timeout / 2)).await
        } else {
            self.hub.claims.leave(self.record());
            Ok(())
        };
        match &outcome {
            Ok(()) => {
                info!(backend = %L::BACKEND, service = %self.record().service, endpoint = %self.record().endpoint, "deregistered")
            }
            Err(_) => self.leave(),
        }
        if self.owns_hub {
            self.hub.close(deadline.saturating_duration_since(Instant::now())).await;
        }
        outcome
    }

    fn status(&self) -> RegisterStatus {
        let mut status = self.keeper.status.borrow().clone();
        status.last_confirmed = self.keeper.cell.confirmed().map(Instant::into_std);
        if status.state == RegisterState::Retrying {
            status.attempts = status.attempts.saturating_add(self.hub.attempts());
            status.last_error = self.hub.trouble().or(status.last_error);
        }
        status
    }
}

impl<L: Link> Drop for Registration<L> {
    fn drop(&mut self) {
        if let Phase::Running(task) = &*self.phase() {
            task.abort();
            self.leave();
        }
    }
}

/// Undoes a start unless it is told that the start went well.
struct Undo<'a, L: Link>(Option<&'a Registration<L>>);

impl<L: Link> Undo<'_, L> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl<L: Link> Drop for Undo<'_, L> {
    fn drop(&mut self) {
        if let Some(registration) = self.0 {
            registration.abandon();
        }
    }
}

fn check_attr<L: Link>(hub: &Hub<L>, record: &Record, attr: &str) -> Result<()> {
    if attr.len() > L::ATTR_LIMIT {
        let reason = format!("{} bytes are too many, {} carries {}", attr.len(), L::BACKEND, L::ATTR_LIMIT);
        return Err(Error::config("attr", attr, reason).on(L::BACKEND));
    }
    L::check(&hub.connector, record, attr)
}
