//! One connection kept alive, shared by many: the only place that connects and connects again.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    ConnectionConfig, Error, ErrorKind, Result,
    backend::{Link, Pulse},
    backoff::Backoff,
    claims::Claims,
    departures::Departures,
    heartbeat,
    lock::lock,
};

/// Requests that registrations and discoveries have under way at once on one connection, when all
/// of them act after an outage.
const IN_FLIGHT: usize = 64;

/// A connection that lived this long was a good one: the next loss starts with a short pause again.
pub(crate) const STEADY: Duration = Duration::from_secs(5);

/// A link that is up, and which one it is.
pub(crate) type Up<L> = (u64, Arc<L>);

/// The state of the connection.
pub(crate) enum State<L> {
    /// Not yet connected. Left by the first answer.
    Connecting,
    /// Connected, for the n-th time. Left when the link says that it is lost.
    Up(u64, Arc<L>),
    /// Lost, or never made, and how many attempts to connect have failed since. Left when one succeeds.
    Down(Error, u32),
    /// Ended for good.
    Closed,
}

/// The handle: starts the task that keeps the connection, and ends it when dropped.
pub(crate) struct Hub<L: Link> {
    shared: Arc<Shared<L>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the task and the users of a connection share.
pub(crate) struct Shared<L: Link> {
    pub(crate) connector: Arc<L::Connector>,
    pub(crate) settings: ConnectionConfig,
    pub(crate) pulse: Pulse,
    pub(crate) claims: Claims<L::Receipt>,
    pub(crate) departures: Departures<L::Receipt>,
    pub(crate) in_flight: Semaphore,
    state: watch::Sender<State<L>>,
}

impl<L: Link> std::ops::Deref for Hub<L> {
    type Target = Shared<L>;

    fn deref(&self) -> &Shared<L> {
        &self.shared
    }
}

impl<L: Link> Hub<L> {
    pub(crate) fn new(connector: L::Connector, settings: &ConnectionConfig) -> Self {
        let shared = Shared {
            connector: Arc::new(connector),
            settings: settings.clone(),
            pulse: Pulse::new(settings.detection),
            claims: Claims::default(),
            departures: Departures::default(),
            in_flight: Semaphore::new(IN_FLIGHT),
            state: watch::Sender::new(State::Connecting),
        };
        Self { shared: Arc::new(shared), task: Mutex::default() }
    }

    /// What the users of the connection need, without keeping it alive.
    pub(crate) fn shared(&self) -> Arc<Shared<L>> {
        self.shared.clone()
    }

    /// Starts the task unless it runs or the connection was closed. Needs a runtime.
    pub(crate) fn ensure_running(&self) {
        let mut task = lock(&self.task);
        if task.is_none() && !matches!(*self.state.borrow(), State::Closed) {
            *task = Some(tokio::spawn(keep_connected(self.shared.clone())));
        }
    }

    /// Ends the task at once, without a word to the registry. A later start begins anew.
    pub(crate) fn halt(&self) {
        if let Some(task) = self.take_task() {
            task.abort();
            self.state.send_replace(State::Connecting);
        }
    }

    /// Ends the connection for good: the session is closed, leases are revoked, within `at_most`.
    pub(crate) async fn close(&self, at_most: Duration) {
        let last = self.state.send_replace(State::Closed);
        if let Some(task) = self.take_task() {
            task.abort();
            // Its futures hold the link; wait until they are gone.
            let _ = task.await;
        }
        if let State::Up(_, link) = last
            && timeout(at_most, link.close()).await.is_err()
        {
            debug!(backend = %L::BACKEND, "the registry did not answer to the end of the connection");
        }
    }

    fn take_task(&self) -> Option<JoinHandle<()>> {
        lock(&self.task).take()
    }
}

impl<L: Link> Drop for Hub<L> {
    fn drop(&mut self) {
        if let Some(task) = self.take_task() {
            task.abort();
        }
    }
}

impl<L: Link> Shared<L> {
    /// Waits until the connection is up. Cancel-safe.
    ///
    /// # Errors
    /// [`ErrorKind::Stopped`] when the connection has been closed.
    pub(crate) async fn up(&self) -> Result<Up<L>> {
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| matches!(state, State::Up(..) | State::Closed)).await;
        match state.as_deref() {
            Ok(State::Up(generation, link)) => Ok((*generation, link.clone())),
            _ => Err(Error::new(ErrorKind::Stopped, "the connection was closed")),
        }
    }

    /// Waits until the link of this generation is no longer the one in use, and returns why.
    /// Cancel-safe.
    pub(crate) async fn lost(&self, generation: u64) -> Error {
        let mut state = self.state.subscribe();
        let current = |state: &State<L>| matches!(state, State::Up(now, _) if *now == generation);
        match state.wait_for(|state| !current(state)).await.as_deref() {
            Ok(State::Down(error, _)) => error.clone(),
            _ => self.place(Error::new(ErrorKind::Unavailable, "the connection was lost")),
        }
    }

    /// Waits until an attempt to connect has failed, and returns why. Cancel-safe.
    pub(crate) async fn failed(&self) -> Error {
        let mut state = self.state.subscribe();
        match state.wait_for(|state| matches!(state, State::Down(..) | State::Closed)).await.as_deref() {
            Ok(State::Down(error, _)) => error.clone(),
            _ => Error::new(ErrorKind::Stopped, "the connection was closed"),
        }
    }

    /// Waits until an attempt to connect has failed for a reason that time does not mend, and returns
    /// it. Cancel-safe.
    pub(crate) async fn refused(&self) -> Error {
        let mut state = self.state.subscribe();
        let refused = |state: &State<L>| matches!(state, State::Down(error, _) if error.is_refusal());
        match state.wait_for(refused).await.as_deref() {
            Ok(State::Down(error, _)) => error.clone(),
            _ => Error::new(ErrorKind::Stopped, "the connection was closed"),
        }
    }

    /// Why the connection is not up, if it is not.
    pub(crate) fn trouble(&self) -> Option<Error> {
        match &*self.state.borrow() {
            State::Down(error, _) => Some(error.clone()),
            State::Closed => Some(Error::new(ErrorKind::Stopped, "the connection was closed")),
            State::Connecting | State::Up(..) => None,
        }
    }

    /// How many attempts to connect have failed since the connection was lost.
    pub(crate) fn attempts(&self) -> u32 {
        if let State::Down(_, attempts) = &*self.state.borrow() { *attempts } else { 0 }
    }

    /// Adds backend and address to an error that has none yet.
    pub(crate) fn place(&self, error: Error) -> Error {
        if error.backend().is_some() { error } else { error.on(L::BACKEND).at(L::place(&self.connector)) }
    }

    /// The longest that connecting may take: backends try members side by side, and may have to talk
    /// to the one that answered.
    fn connect_timeout(&self) -> Duration {
        self.settings.connect_timeout + self.settings.request_timeout
    }
}

/// Runs until aborted.
async fn keep_connected<L: Link>(shared: Arc<Shared<L>>) {
    let mut backoff = Backoff::new(&shared.settings);
    let mut outage = Outage::default();
    let (mut generation, mut attempts) = (0, 0_u32);
    loop {
        let limit = shared.connect_timeout();
        let connected = timeout(limit, L::connect(&shared.connector)).await;
        let error = match connected.unwrap_or_else(|_| Err(Error::timed_out("connect", limit))) {
            Ok(link) => {
                (generation, attempts) = (generation + 1, 0);
                outage.over::<L>(&shared);
                let made = Instant::now();
                let error = serve(&shared, generation, Arc::new(link)).await;
                if made.elapsed() >= STEADY {
                    backoff.reset();
                }
                error
            }
            Err(error) => {
                attempts = attempts.saturating_add(1);
                error.during("connect")
            }
        };
        let error = shared.place(error);
        outage.tell::<L>(&shared, &error);
        let pause = backoff.pause(error.kind());
        shared.state.send_replace(State::Down(error, attempts));
        tokio::time::sleep(pause).await;
    }
}

/// Lets everyone use the link, until it is lost.
async fn serve<L: Link>(shared: &Shared<L>, generation: u64, link: Arc<L>) -> Error {
    shared.pulse.beat();
    shared.state.send_replace(State::Up(generation, link.clone()));
    tokio::select! {
        biased;
        error = link.keep(&shared.pulse) => error,
        never = heartbeat::run(shared, &*link) => match never {},
        never = shared.departures.run(shared, &*link) => match never {},
    }
}

/// One warning an outage, and one line when it is over.
#[derive(Default)]
struct Outage(Option<Instant>);

impl Outage {
    fn tell<L: Link>(&mut self, shared: &Shared<L>, error: &Error) {
        if self.0.is_none() {
            self.0 = Some(Instant::now());
            warn!(backend = %L::BACKEND, at = L::place(&shared.connector), %error, "registry lost");
        } else {
            debug!(backend = %L::BACKEND, at = L::place(&shared.connector), %error, "registry still lost");
        }
    }

    fn over<L: Link>(&mut self, shared: &Shared<L>) {
        let after = self.0.take().map(|since| since.elapsed());
        info!(backend = %L::BACKEND, at = L::place(&shared.connector), ?after, "registry connected");
    }
}
