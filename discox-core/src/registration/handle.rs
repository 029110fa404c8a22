//! One registered endpoint: the handle, and what `start`, `update_attr` and `stop` do.

use std::{borrow::Cow, fmt, sync::Arc};

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::{keep_alive::KeepAlive, phase::Phase};
use crate::{
    Error, ErrorKind, History, Register, RegisterConfig, RegisterState, RegisterStatus, Result,
    backend::Link,
    connection::{Hub, runtime},
    record::Record,
};

/// The handle of one registered endpoint.
pub(crate) struct Registration<L: Link> {
    hub: Arc<Hub<L>>,
    /// The connection serves this registration only, and ends with it.
    owns_hub: bool,
    keep_alive: Arc<KeepAlive<L>>,
}

impl<L: Link> Registration<L> {
    pub(crate) fn new(hub: Arc<Hub<L>>, owns_hub: bool, config: &RegisterConfig) -> Result<Self> {
        let record = Arc::new(Record::parse_on(L::BACKEND, config)?);
        let value = checked::<L>(&hub, &record, &config.attr)?;
        let keep_alive = Arc::new(KeepAlive::new(hub.shared(), record.clone(), &value));
        Ok(Self { hub, owns_hub, keep_alive })
    }

    fn record(&self) -> &Record {
        &self.keep_alive.record
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.hub.settings.request_timeout
    }

    /// Adds what this handle knows to an error.
    fn place(&self, error: Error) -> Error {
        self.hub.place(error).with_subject(self.record())
    }

    /// Wants it registered, once.
    fn launch(&self) -> Result<Undo<'_, L>> {
        runtime().map_err(|error| self.place(error))?;
        let closed = self.hub.trouble().filter(|_| self.hub.is_closed());
        if let (Phase::New | Phase::Running(_), Some(closed)) = (self.keep_alive.wish.phase(), closed) {
            return Err(self.place(closed));
        }
        match self.keep_alive.begin() {
            Ok(()) => {
                let undo = Undo(Some(self));
                self.hub.open()?;
                Ok(undo)
            }
            Err(Phase::Stopping) => Err(self.keep_alive.stopped()),
            Err(_) => {
                // It may have lost its task.
                self.hub.open()?;
                Err(self.place(Error::new(ErrorKind::AlreadyStarted, "start was called before")))
            }
        }
    }

    /// Waits until the first registration has succeeded, or cannot.
    async fn first_answer(&self) -> Result<()> {
        let mut status = self.keep_alive.status.subscribe();
        let deadline = self.deadline();
        let settled = status.wait_for(|status| match status.state {
            RegisterState::Retrying => status.last_error.as_ref().is_some_and(Error::is_refusal),
            _ => true,
        });
        let answered = async {
            tokio::select! {
                biased;
                // The guard must not live across the use of the status below.
                status = settled => status.map(|status| status.clone()).map_err(|_| self.keep_alive.stopped()),
                error = self.hub.refused() => Err(self.place(error.with_operation("register"))),
                never = self.hub.keep_running() => match never {},
            }
        };
        let status = match timeout_at(deadline, answered).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.why_not_yet("register")),
        };
        match status {
            RegisterStatus { state: RegisterState::Stopped, .. } => Err(self.keep_alive.stopped()),
            // It was acknowledged, whatever became of it.
            RegisterStatus { granted_ttl: Some(_), .. } => Ok(()),
            status => Err(status.last_error.unwrap_or_else(|| self.keep_alive.stopped())),
        }
    }

    fn why_not_yet(&self, operation: &'static str) -> Error {
        let known = self.hub.trouble().or_else(|| self.keep_alive.status.borrow().last_error.clone());
        let error = known.unwrap_or_else(|| Error::timed_out(operation, self.hub.settings.request_timeout));
        self.place(error.with_operation(operation))
    }

    /// Waits until the record is gone, or cannot be withdrawn.
    async fn gone(&self) -> Result<()> {
        let mut gone = self.keep_alive.gone.subscribe();
        let known = gone.borrow().clone();
        if let Some(known) = known {
            return known;
        }
        runtime().map_err(|error| self.place(error))?;
        let answered = async {
            tokio::select! {
                biased;
                gone = gone.wait_for(Option::is_some) => gone.ok().and_then(|gone| gone.clone()),
                never = self.hub.keep_running() => match never {},
            }
        };
        match timeout_at(self.deadline(), answered).await {
            Ok(answer) => answer.unwrap_or(Ok(())),
            Err(_) => {
                let last = self.hub.withdrawals.last_error(self.record()).or_else(|| self.hub.trouble());
                let error =
                    last.unwrap_or_else(|| Error::timed_out("withdraw", self.hub.settings.request_timeout));
                Err(self.place(error.with_operation("withdraw")))
            }
        }
    }
}

#[async_trait]
impl<L: Link> Register for Registration<L> {
    async fn start(&self) -> Result<()> {
        let undo = self.launch()?;
        self.first_answer().await?;
        undo.keep();
        Ok(())
    }

    async fn update_attr(&self, attr: &str) -> Result<()> {
        let value = checked::<L>(&self.hub, self.record(), attr)?;
        let number = self.keep_alive.request(&value);
        match self.keep_alive.wish.phase() {
            Phase::New => return Ok(()),
            Phase::Stopping => return Err(self.keep_alive.stopped()),
            Phase::Running(_) => runtime().map_err(|error| self.place(error))?,
        };
        let status = self.keep_alive.status.borrow().clone();
        match status.state {
            RegisterState::Superseded => {
                return Err(status.last_error.unwrap_or_else(|| self.keep_alive.stopped()));
            }
            RegisterState::Stopped => return Err(self.keep_alive.stopped()),
            _ => {}
        }
        let mut granted = self.keep_alive.granted.subscribe();
        let answered = async {
            tokio::select! {
                biased;
                answer = granted.wait_for(|granted| granted.number >= number) => {
                    answer.ok().and_then(|answer| answer.error.clone())
                }
                never = self.hub.keep_running() => match never {},
            }
        };
        match timeout_at(self.deadline(), answered).await {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(error),
            Err(_) => Err(self.why_not_yet("update")),
        }
    }

    async fn stop(&self) -> Result<()> {
        let within = self.hub.settings.request_timeout;
        self.keep_alive.begin_stop();
        if self.owns_hub {
            self.hub.ask_close(within);
        }
        let outcome = self.gone().await;
        if self.owns_hub {
            self.hub.close(within).await;
        }
        outcome
    }

    async fn wait_for(&self, state: RegisterState) -> Result<RegisterStatus> {
        let mut status = self.keep_alive.status.subscribe();
        let settled = status.wait_for(|now| now.state == state || now.state == RegisterState::Stopped);
        let found = tokio::select! {
            biased;
            status = settled => status.map(|status| status.clone()).map_err(|_| self.keep_alive.stopped())?,
            never = self.hub.keep_running() => match never {},
        };
        if found.state == state { Ok(found) } else { Err(self.keep_alive.stopped()) }
    }

    fn status(&self) -> RegisterStatus {
        let mut status = self.keep_alive.status.borrow().clone();
        status.last_confirmed = self.keep_alive.cell.confirmed().map(Instant::into_std);
        if status.state == RegisterState::Retrying {
            status.attempts = status.attempts.saturating_add(self.hub.attempts());
            status.last_error = self.hub.trouble().or(status.last_error);
        }
        status
    }

    fn history(&self) -> History {
        self.keep_alive.chronicle.history()
    }
}

impl<L: Link> fmt::Debug for Registration<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("backend", &L::BACKEND)
            .field("record", &format_args!("{}", self.record()))
            .field("state", &self.keep_alive.status.borrow().state)
            .finish_non_exhaustive()
    }
}

impl<L: Link> Drop for Registration<L> {
    fn drop(&mut self) {
        let is_ended = self.keep_alive.status.borrow().state == RegisterState::Stopped;
        if matches!(self.keep_alive.wish.phase(), Phase::Running(_)) && !is_ended {
            let Record { service, endpoint, .. } = self.record();
            warn!(backend = %L::BACKEND, %service, %endpoint, "dropped without stop: the endpoint is withdrawn");
            self.keep_alive.begin_stop();
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
        if let Some(Registration { hub, owns_hub, keep_alive }) = self.0 {
            keep_alive.give_up_start();
            if *owns_hub {
                hub.release();
            }
        }
    }
}

/// What is to be written for an attr, if the layout and the backend can carry it.
fn checked<'a, L: Link>(hub: &Hub<L>, record: &Record, attr: &'a str) -> Result<Cow<'a, str>> {
    let value = record.value(attr).map_err(|error| error.with_backend(L::BACKEND))?;
    if value.len() > L::ATTR_LIMIT {
        let reason = format!("{} bytes are too many, {} carries {}", value.len(), L::BACKEND, L::ATTR_LIMIT);
        return Err(Error::config("attr", attr, reason).with_backend(L::BACKEND));
    }
    L::check(&hub.connector, record, &value)?;
    Ok(value)
}
