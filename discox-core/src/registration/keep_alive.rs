//! The one keep-alive loop: whatever happens to the registry, the record is written again.

use std::sync::{Arc, Mutex};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

use super::{chronicle::Chronicle, phase::Wish};
use crate::{
    Cause, Error, ErrorKind, EventKind, RegisterState, RegisterStatus, Result,
    backend::{Held, Link, Loss, Registered, Replace},
    backoff::{Backoff, jittered},
    connection::{ClaimSignal, Fate, Shared, Up, call},
    lock::lock,
    metrics::RegistrationMeter,
    record::Record,
};

/// A registration's loop and what its handle shares with it.
pub(crate) struct KeepAlive<L: Link> {
    pub(super) shared: Arc<Shared<L>>,
    pub(super) record: Arc<Record>,
    pub(super) wish: Wish,
    pub(super) cell: Arc<ClaimSignal>,
    pub(super) status: watch::Sender<RegisterStatus>,
    wanted: watch::Sender<Requested>,
    pub(super) granted: watch::Sender<Outcome>,
    written: Mutex<OnServer<L::Receipt>>,
    /// What became of the record after the last start.
    pub(super) gone: Arc<Fate>,
    pub(super) chronicle: Chronicle,
    pub(super) meter: RegistrationMeter,
}

/// The attr that is wanted; a later request has a higher number.
#[derive(Clone, Debug)]
struct Requested {
    number: u64,
    attr: Arc<str>,
}

/// What became of the requests up to a number.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) number: u64,
    pub(super) error: Option<Error>,
}

/// What the registry may hold of ours.
#[derive(Clone)]
enum OnServer<R> {
    /// Nothing: no attempt was made, or another incarnation has taken the record over.
    No,
    /// An attempt was made and not answered: it may or may not be there.
    Unknown,
    /// What was acknowledged.
    Yes(R),
}

impl<R> OnServer<R> {
    /// Whether there may be something, and its receipt if that is known.
    fn receipt(self) -> Option<Option<R>> {
        match self {
            Self::No => None,
            Self::Unknown => Some(None),
            Self::Yes(receipt) => Some(Some(receipt)),
        }
    }
}

impl<L: Link> KeepAlive<L> {
    pub(super) fn new(shared: Arc<Shared<L>>, record: Arc<Record>, attr: &str) -> Self {
        let chronicle = Chronicle::new(shared.settings.history, record.endpoint.as_str());
        Self {
            gone: Arc::new(chronicle.fate()),
            chronicle,
            meter: RegistrationMeter::new(L::BACKEND, &record.service),
            shared,
            record,
            wish: Wish::new(),
            cell: Arc::default(),
            status: watch::Sender::new(RegisterStatus::new()),
            wanted: watch::Sender::new(Requested { number: 0, attr: attr.into() }),
            granted: watch::Sender::new(Outcome::default()),
            written: Mutex::new(OnServer::No),
        }
    }

    /// Wants another attr, and returns the request's number.
    pub(super) fn request(&self, attr: &str) -> u64 {
        let mut number = 0;
        self.wanted.send_modify(|requested| {
            *requested = Requested { number: requested.number + 1, attr: attr.into() };
            number = requested.number;
        });
        number
    }

    /// Answers all requests made so far.
    pub(super) fn answer(&self, error: Option<&Error>) {
        let number = self.wanted.borrow().number;
        self.granted.send_replace(Outcome { number, error: error.cloned() });
    }

    /// What the registry may hold of ours is seen to by the caller from now on.
    pub(super) fn take_written(&self) -> Option<Option<L::Receipt>> {
        std::mem::replace(&mut *lock(&self.written), OnServer::No).receipt()
    }

    /// Runs until the connection is closed.
    pub(super) async fn keep_registered(&self) {
        self.shared.claims.release(&self.record);
        if self.replace() == Replace::Anyone {
            self.shared.claims.enter(&self.record, &self.cell);
        }
        let mut backoff = Backoff::new(&self.shared.settings);
        while let Ok(up) = self.shared.up().await {
            self.chronicle.connected(|| up.1.member());
            let ended = match self.register(&up).await {
                Ok(()) => self.hold(&up).await,
                Err(error) => Err(error),
            };
            match ended {
                Ok(()) => backoff.reset(),
                Err(_) if self.shared.is_closed() => break,
                Err(error) if error.kind() == ErrorKind::Superseded => {
                    backoff.reset();
                    self.superseded(&error);
                    sleep(jittered(self.record.period)).await;
                }
                Err(error) => self.retry(&up, &error, &mut backoff).await,
            }
        }
        let stopped = self.shared.trouble().unwrap_or_else(|| self.stopped());
        self.answer(Some(&self.shared.place(stopped).with_subject(&self.record)));
        self.report(|status| status.enter(RegisterState::Stopped));
    }

    /// The first registration of a start takes the record from anyone, later ones take nothing back.
    fn replace(&self) -> Replace {
        let status = self.status.borrow();
        let is_first = status.granted_ttl.is_none() && status.state != RegisterState::Superseded;
        if is_first { Replace::Anyone } else { Replace::OnlyOwn }
    }

    /// Writes the record with the attr that is wanted now. Does not wait for a link that is lost.
    async fn register(&self, (generation, link): &Up<L>) -> Result<()> {
        tokio::select! {
            biased;
            error = self.shared.lost(*generation) => Err(error),
            answer = self.write(link) => answer,
        }
    }

    async fn write(&self, link: &L) -> Result<()> {
        let claims = &self.shared.claims;
        if !claims.enter_if_free(&self.record, &self.cell) {
            return Err(self.told_superseded());
        }
        let _permit = self.shared.writes.acquire().await;
        let _turn = claims.turn(&self.record).await;
        if !claims.owns(&self.record) {
            return Err(self.told_superseded());
        }
        let requested = self.wanted.borrow().clone();
        let replace = self.replace();
        let known = lock(&self.written).clone().receipt().flatten();
        let known = known.filter(|_| self.granted.borrow().number < requested.number);
        self.note_written(OnServer::Unknown);
        let writing = async {
            match known {
                Some(receipt) if replace == Replace::OnlyOwn => {
                    link.update(&self.record, &requested.attr, &receipt).await
                }
                _ => link.register(&self.record, &requested.attr, replace).await,
            }
        };
        match call::<L, _>("register", self.shared.settings.request_timeout, writing).await {
            Ok(registered) => self.registered(requested, registered),
            Err(error) => {
                let error = self.shared.place(error.with_subject(&self.record));
                // Of what time mends, a caller hears only if that takes too long.
                if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut) {
                    self.granted
                        .send_replace(Outcome { number: requested.number, error: Some(error.clone()) });
                }
                Err(error)
            }
        }
    }

    fn registered(&self, requested: Requested, registered: Registered<L::Receipt>) -> Result<()> {
        self.note_written(OnServer::Yes(registered.receipt.clone()));
        self.shared.liveness.answered();
        if L::members(&self.shared.connector) > 1 {
            self.shared.liveness.keeps(registered.ttl);
        }
        let held = Held { record: self.record.clone(), attr: requested.attr, receipt: registered.receipt };
        let is_held = self.shared.claims.hold(held, &self.cell);
        let before = self.status.borrow().clone();
        let is_again = before.granted_ttl.is_some();
        let is_back = is_held && before.state != RegisterState::Registered;
        if is_held {
            self.chronicle.registered(&before, registered.ttl);
        }
        if is_back {
            let after = is_again.then(|| Instant::now().into_std().saturating_duration_since(before.since));
            info!(backend = %L::BACKEND, service = %self.record.service, endpoint = %self.record.endpoint, ?after, "registered");
        }
        self.report(|status| {
            if is_held {
                status.enter(RegisterState::Registered);
            }
            status.attempts = 0;
            status.granted_ttl = Some(registered.ttl);
            status.registered_again += u64::from(is_back && is_again);
        });
        if !is_held {
            return Err(self.told_superseded());
        }
        self.granted.send_replace(Outcome { number: requested.number, error: None });
        Ok(())
    }

    /// Waits until the record must be written again.
    ///
    /// # Errors
    /// That is not to be done at once: another incarnation holds the record, or the registry refuses to keep it.
    async fn hold(&self, (generation, _): &Up<L>) -> Result<()> {
        let mut wanted = self.wanted.subscribe();
        let granted = self.granted.borrow().number;
        tokio::select! {
            biased;
            loss = self.cell.lost() => self.lost(loss),
            error = self.shared.lost(*generation) => {
                self.shared.claims.release(&self.record);
                if error.kind() != ErrorKind::Stopped {
                    self.lose(&error, || Cause::error(&error));
                }
                Ok(())
            }
            _ = wanted.wait_for(|requested| requested.number > granted) => Ok(()),
        }
    }

    fn lost(&self, loss: Loss) -> Result<()> {
        let kind = match loss {
            Loss::Superseded => return Err(self.told_superseded()),
            Loss::Denied => ErrorKind::Denied,
            Loss::Gone | Loss::Altered | Loss::Unconfirmed => ErrorKind::Unavailable,
        };
        let error = Error::new(kind, format!("the record is {loss}")).answered().with_subject(&self.record);
        let error = self.shared.place(error);
        self.lose(&error, || Cause::Record { loss });
        if kind == ErrorKind::Denied { Err(error) } else { Ok(()) }
    }

    fn lose(&self, error: &Error, cause: impl FnOnce() -> Cause) {
        self.chronicle.note(EventKind::Lost, cause);
        info!(backend = %L::BACKEND, service = %self.record.service, endpoint = %self.record.endpoint, %error, "registration lost");
        self.report(|status| {
            status.enter(RegisterState::Retrying);
            status.last_error = Some(error.clone());
            status.outages += 1;
        });
    }

    fn superseded(&self, error: &Error) {
        self.shared.claims.release(&self.record);
        self.note_written(OnServer::No);
        self.chronicle.superseded(&self.status.borrow(), error);
        if self.status.borrow().state != RegisterState::Superseded {
            warn!(backend = %L::BACKEND, service = %self.record.service, endpoint = %self.record.endpoint, "superseded: a later start of this endpoint holds the record");
        }
        self.report(|status| {
            status.enter(RegisterState::Superseded);
            status.last_error = Some(error.clone());
        });
        self.answer(Some(error));
    }

    /// Pauses before the next attempt, but no longer than the connection that failed is in use.
    async fn retry(&self, (generation, _): &Up<L>, error: &Error, backoff: &mut Backoff) {
        self.shared.claims.release(&self.record);
        debug!(backend = %L::BACKEND, service = %self.record.service, endpoint = %self.record.endpoint, %error, "not registered yet");
        self.chronicle.failed(&self.status.borrow(), error);
        self.report(|status| {
            status.enter(RegisterState::Retrying);
            status.failed(error);
        });
        self.shared.liveness.probe_now();
        tokio::select! {
            biased;
            () = sleep(backoff.pause(error.kind())) => {}
            _ = self.shared.lost(*generation) => {}
        }
    }

    fn told_superseded(&self) -> Error {
        let error = Error::new(ErrorKind::Superseded, "another incarnation holds the record")
            .with_operation("register");
        self.shared.place(error.with_subject(&self.record))
    }

    fn note_written(&self, written: OnServer<L::Receipt>) {
        *lock(&self.written) = written;
    }
}
