//! The one keep-alive loop: whatever happens to the registry, the record is written again.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    Error, ErrorKind, RegisterState, RegisterStatus, Result,
    backend::{Held, Link, Loss, Registered, Take},
    backoff::{Backoff, jittered},
    claims::Cell,
    key::Record,
    link::{Shared, Up},
    lock::lock,
};

/// A registration's loop and what its handle shares with it.
pub(crate) struct Keeper<L: Link> {
    shared: Arc<Shared<L>>,
    pub(crate) record: Arc<Record>,
    pub(crate) cell: Arc<Cell>,
    pub(crate) status: watch::Sender<RegisterStatus>,
    wanted: watch::Sender<Wish>,
    pub(crate) granted: watch::Sender<Grant>,
    written: Mutex<Written<L::Receipt>>,
}

/// The attr that is wanted; a later wish has a higher number.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    number: u64,
    attr: Arc<str>,
}

/// What became of the wishes up to a number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grant {
    pub(crate) number: u64,
    pub(crate) error: Option<Error>,
}

/// What the registry may hold of ours.
#[derive(Clone)]
enum Written<R> {
    /// Nothing: no attempt was made, or another incarnation has taken the record over.
    Nothing,
    /// An attempt was made and not answered, so that nobody knows.
    Perhaps,
    /// What was acknowledged.
    Certainly(R),
}

impl<L: Link> Keeper<L> {
    pub(crate) fn new(shared: Arc<Shared<L>>, record: Arc<Record>, attr: &str) -> Self {
        Self {
            shared,
            record,
            cell: Arc::default(),
            status: watch::Sender::new(RegisterStatus::new()),
            wanted: watch::Sender::new(Wish { number: 0, attr: attr.into() }),
            granted: watch::Sender::new(Grant::default()),
            written: Mutex::new(Written::Nothing),
        }
    }

    /// Wants another attr, and returns the wish's number.
    pub(crate) fn wish(&self, attr: &str) -> u64 {
        let mut number = 0;
        self.wanted.send_modify(|wish| {
            *wish = Wish { number: wish.number + 1, attr: attr.into() };
            number = wish.number;
        });
        number
    }

    /// Answers all wishes made so far.
    pub(crate) fn answer(&self, error: Option<&Error>) {
        let number = self.wanted.borrow().number;
        self.granted.send_replace(Grant { number, error: error.cloned() });
    }

    /// Whether the registry may hold something of ours, and the receipt if that is known.
    pub(crate) fn written(&self) -> Option<Option<L::Receipt>> {
        match &*lock(&self.written) {
            Written::Nothing => None,
            Written::Perhaps => Some(None),
            Written::Certainly(receipt) => Some(Some(receipt.clone())),
        }
    }

    /// Runs until aborted, or until the connection is closed.
    pub(crate) async fn run(self: Arc<Self>) {
        self.shared.claims.enter(&self.record, &self.cell);
        let mut take = Take::Over;
        let mut backoff = Backoff::new(&self.shared.settings);
        while let Ok(up) = self.shared.up().await {
            let error = match self.register(&up, take).await {
                Ok(()) => {
                    take = Take::Back;
                    backoff.reset();
                    match self.hold(&up).await {
                        Some(error) => error,
                        None => continue,
                    }
                }
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Superseded {
                self.superseded(&error);
                take = Take::Back;
                sleep(jittered(self.record.period)).await;
            } else {
                self.retry(&up, &error, &mut backoff).await;
            }
        }
    }

    /// Writes the record with the attr that is wanted now.
    async fn register(&self, (_, link): &Up<L>, take: Take) -> Result<()> {
        let claims = &self.shared.claims;
        if !claims.enter_if_free(&self.record, &self.cell) {
            return Err(self.told_superseded());
        }
        let _permit = self.shared.in_flight.acquire().await;
        let _turn = claims.turn(&self.record).await;
        if !claims.owns(&self.record) {
            return Err(self.told_superseded());
        }
        let wish = self.wanted.borrow().clone();
        let limit = self.shared.settings.request_timeout;
        let known = self.written().flatten().filter(|_| self.granted.borrow().number < wish.number);
        self.note_written(Written::Perhaps);
        let writing = async {
            match known {
                Some(receipt) if take == Take::Back => link.update(&self.record, &wish.attr, &receipt).await,
                _ => link.register(&self.record, &wish.attr, take).await,
            }
        };
        let answer = timeout(limit, writing).await;
        match answer.unwrap_or_else(|_| Err(Error::timed_out("register", limit))) {
            Ok(registered) => {
                self.registered(wish, registered);
                Ok(())
            }
            Err(error) => {
                let error = self.shared.place(error.during("register").of(&self.record));
                self.granted.send_replace(Grant { number: wish.number, error: Some(error.clone()) });
                Err(error)
            }
        }
    }

    fn registered(&self, wish: Wish, registered: Registered<L::Receipt>) {
        self.note_written(Written::Certainly(registered.receipt.clone()));
        self.cell.registered();
        let held = Held { record: self.record.clone(), attr: wish.attr, receipt: registered.receipt };
        self.shared.claims.hold(held, &self.cell);
        self.shared.pulse.beat();
        if L::members(&self.shared.connector) > 1 {
            self.shared.pulse.keeps(registered.ttl);
        }
        let before = self.status.borrow().clone();
        if before.state != RegisterState::Registered {
            let after =
                before.granted_ttl.map(|_| Instant::now().into_std().saturating_duration_since(before.since));
            info!(backend = %L::BACKEND, service = %self.record.service, endpoint = %self.record.endpoint, ?after, "registered");
        }
        self.status.send_modify(|status| {
            status.enter(RegisterState::Registered);
            status.attempts = 0;
            status.granted_ttl = Some(registered.ttl);
        });
        self.granted.send_replace(Grant { number: wish.number, error: None });
    }

    /// Waits until the record must be written again, and returns the error if that is because
    /// another incarnation holds it.
    async fn hold(&self, (generation, _): &Up<L>) -> Option<Error> {
        let mut wanted = self.wanted.subscribe();
        let granted = self.granted.borrow().number;
        tokio::select! {
            biased;
            loss = self.cell.lost() => self.lost(loss),
            error = self.shared.lost(*generation) => {
                self.shared.claims.release(&self.record);
                self.lose(&error);
                None
            }
            _ = wanted.wait_for(|wish| wish.number > granted) => None,
        }
    }

    fn lost(&self, loss: Loss) -> Option<Error> {
        if loss == Loss::Superseded {
            return Some(self.told_superseded());
        }
        let error = Error::new(ErrorKind::Unavailable, format!("the record is {loss}")).of(&self.record);
        self.lose(&self.shared.place(error));
        None
    }

    fn lose(&self, error: &Error) {
        info!(backend = %L::BACKEND, service = %self.record.service, endpoint = %self.record.endpoint, %error, "registration lost");
        self.status.send_modify(|status| {
            status.enter(RegisterState::Retrying);
            status.last_error = Some(error.clone());
        });
    }

    fn superseded(&self, error: &Error) {
        self.shared.claims.release(&self.record);
        self.note_written(Written::Nothing);
        if self.status.borrow().state != RegisterState::Superseded {
            warn!(backend = %L::BACKEND, service = %self.record.service, endpoint = %self.record.endpoint, "superseded: a later start of this endpoint holds the record");
        }
        self.status.send_modify(|status| {
            status.enter(RegisterState::Superseded);
            status.last_error = Some(error.clone());
        });
        self.answer(Some(error));
    }

    /// Pauses before the next attempt, but no longer than the connection that failed is in use.
    async fn retry(&self, (generation, _): &Up<L>, error: &Error, backoff: &mut Backoff) {
        self.shared.claims.release(&self.record);
        debug!(backend = %L::BACKEND, service = %self.record.service, endpoint = %self.record.endpoint, %error, "not registered yet");
        self.status.send_modify(|status| {
            status.enter(RegisterState::Retrying);
            status.failed(error);
        });
        self.shared.pulse.suspect();
        let pause: Duration = backoff.pause(error.kind());
        tokio::select! {
            biased;
            () = sleep(pause) => {}
            _ = self.shared.lost(*generation) => {}
        }
    }

    fn told_superseded(&self) -> Error {
        let error =
            Error::new(ErrorKind::Superseded, "another incarnation holds the record").during("register");
        self.shared.place(error.of(&self.record))
    }

    fn note_written(&self, written: Written<L::Receipt>) {
        *lock(&self.written) = written;
    }
}
