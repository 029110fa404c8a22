//! The one watch loop: open, follow, and after any failure open again and diff.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use crate::{
    DiscoverState, DiscoverStatus, Error, ErrorKind, Event, Result, Update,
    backend::{Link, Snapshot, Source, Watch},
    backoff::Backoff,
    discovery::{Callbacks, Plan},
    link::{STEADY, Shared, Up},
    lock::lock,
    mirror::Mirror,
};

/// A first list that takes longer than the request timeout gets more time at each further attempt,
/// up to 2^3 times as much: a large one over a slow network must arrive in the end.
const MOST_DOUBLINGS: u32 = 3;

/// The loop of one discovery.
pub(crate) struct Watcher<'a, L: Link> {
    shared: Arc<Shared<L>>,
    plan: &'a Plan,
    callbacks: Callbacks<'a>,
    status: &'a Mutex<DiscoverStatus>,
    mirror: Mirror,
    synced: bool,
    /// The outage that the cacher has been told of.
    outage: Option<Outage>,
    slow_opens: u32,
}

struct Outage {
    since: Instant,
    kind: ErrorKind,
}

impl<'a, L: Link> Watcher<'a, L> {
    pub(crate) fn new(
        shared: Arc<Shared<L>>,
        plan: &'a Plan,
        callbacks: Callbacks<'a>,
        status: &'a Mutex<DiscoverStatus>,
    ) -> Self {
        let mirror = Mirror::new(plan.grace, &shared.settings);
        Self { shared, plan, callbacks, status, mirror, synced: false, outage: None, slow_opens: 0 }
    }

    /// Runs until an error that no retry can mend.
    pub(crate) async fn run(mut self) -> Error {
        let mut backoff = Backoff::new(&self.shared.settings);
        loop {
            let began = Instant::now();
            let error = match self.session().await {
                Ok(never) => match never {},
                Err(error) => self.shared.place(error).of(&self.plan.service),
            };
            if began.elapsed() >= STEADY {
                backoff.reset();
            }
            let told = if error.kind() == ErrorKind::Stale { self.resync(&error) } else { self.lost(&error) };
            if let Some(error) = told.err().or((!error.kind().is_retryable()).then(|| error.clone())) {
                return error;
            }
            sleep(backoff.pause(error.kind())).await;
        }
    }

    /// From open to the failure of the watch.
    async fn session(&mut self) -> Result<Infallible> {
        let up = self.connected().await?;
        let (list, mut watch) = self.open(&up).await?;
        self.take_in(|mirror| mirror.reset(list, Instant::now())).await?;
        self.in_sync()?;
        let mut heard = self.shared.pulse.heard();
        let shared = self.shared.clone();
        let mut lost = pin!(shared.lost(up.0));
        loop {
            let changes = {
                // What it has under way is kept while other things are done.
                let mut next = pin!(watch.next());
                loop {
                    let due = self.mirror.due(Instant::now());
                    tokio::select! {
                        biased;
                        error = &mut lost => return Err(error),
                        changes = &mut next => break changes,
                        () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                            self.take_in(|mirror| mirror.release(Instant::now())).await?;
                        }
                        Ok(()) = heard.changed() => self.confirmed()?,
                    }
                }
            };
            let changes = changes.inspect_err(|error| self.suspect(error))?;
            self.take_in(|mirror| mirror.change(changes, Instant::now())).await?;
        }
    }

    fn confirmed(&self) -> Result<()> {
        self.report(|_| {});
        self.callbacks.call(|cacher| cacher.on_event(&Event::Confirmed))
    }

    /// Waits for the connection, and tells when it cannot be made.
    async fn connected(&mut self) -> Result<Up<L>> {
        let error = tokio::select! {
            biased;
            up = self.shared.up() => return up,
            error = self.shared.failed() => error,
        };
        self.lost(&error)?;
        self.shared.up().await
    }

    async fn open(&mut self, (generation, link): &Up<L>) -> Result<(Snapshot, <L::Source as Source>::Watch)> {
        let source = link.source(&self.plan.service, &self.plan.options);
        let limit = self.shared.settings.request_timeout * 2_u32.pow(self.slow_opens.min(MOST_DOUBLINGS));
        let _permit = self.shared.in_flight.acquire().await;
        let answer = tokio::select! {
            biased;
            error = self.shared.lost(*generation) => return Err(error),
            answer = timeout(limit, source.open()) => answer,
        };
        self.slow_opens = if answer.is_err() { self.slow_opens.saturating_add(1) } else { 0 };
        let opened = answer.unwrap_or_else(|_| Err(Error::timed_out("discover", limit)));
        opened.map_err(|error| error.during("discover")).inspect_err(|error| self.suspect(error))
    }

    fn suspect(&self, error: &Error) {
        if error.kind() != ErrorKind::Stale {
            self.shared.pulse.suspect();
        }
    }

    /// Lets the mirror take something in, and the cacher know what that changes.
    async fn take_in(&mut self, change: impl FnOnce(&mut Mirror) -> Vec<Update>) -> Result<()> {
        let from = self.mirror.shown().clone();
        let updates = change(&mut self.mirror);
        if !updates.is_empty() {
            // A slow cacher blocks this thread: first let run what waits for it and cannot be stolen.
            let_others_run().await;
            self.callbacks.call(|cacher| cacher.advance(&from, self.mirror.shown(), &updates))?;
        }
        self.report(|_| {});
        // What was told is true, but with a limit exceeded not all that there is.
        self.mirror.exceeded().map_or(Ok(()), |exceeded| Err(exceeded.into()))
    }

    /// A full list has been applied: for the first time, or again.
    fn in_sync(&mut self) -> Result<()> {
        let after = self.outage.take().map(|outage| outage.since.elapsed());
        self.report(|status| {
            status.enter(DiscoverState::Synced);
            status.attempts = 0;
        });
        let event = match (std::mem::replace(&mut self.synced, true), after) {
            (false, _) => Event::Synced,
            (true, Some(_)) => Event::Recovered,
            (true, None) => return Ok(()),
        };
        let Plan { service, host_name, .. } = self.plan;
        info!(backend = %L::BACKEND, %service, host_name, endpoints = self.mirror.len(), ?after, "discovery synced");
        self.callbacks.call(|cacher| cacher.on_event(&event))
    }

    /// The registry is fine, only the position of the watch is lost.
    fn resync(&mut self, error: &Error) -> Result<()> {
        debug!(backend = %L::BACKEND, service = %self.plan.service, %error, "resync");
        Ok(())
    }

    /// The registry is lost: told once an outage, and again only when it begins to refuse us.
    fn lost(&mut self, error: &Error) -> Result<()> {
        self.mirror.lost(Instant::now());
        self.report(|status| {
            status.enter(if self.synced { DiscoverState::Lost } else { DiscoverState::Connecting });
            status.attempts = status.attempts.saturating_add(1);
            status.last_error = Some(error.clone());
        });
        let known = self.outage.as_ref().map(|outage| outage.kind);
        let refused_now = error.kind().needs_a_person() && known != Some(error.kind());
        if known.is_some() && !refused_now && error.kind().is_retryable() {
            debug!(backend = %L::BACKEND, service = %self.plan.service, %error, "discovery still lost");
            return Ok(());
        }
        self.outage.get_or_insert(Outage { since: Instant::now(), kind: error.kind() }).kind = error.kind();
        info!(backend = %L::BACKEND, service = %self.plan.service, host_name = self.plan.host_name, %error, "discovery lost");
        self.callbacks.call(|cacher| {
            cacher.add_error(error);
            if known.is_none() {
                cacher.on_event(&Event::Lost(error.clone()));
            }
        })
    }

    fn report(&self, change: impl FnOnce(&mut DiscoverStatus)) {
        let (held, grace_left): (usize, Duration) = self.mirror.holding(Instant::now());
        let mut status = lock(self.status);
        status.endpoints = self.mirror.len();
        status.held = held;
        status.grace_left = grace_left;
        if status.state == DiscoverState::Synced {
            status.last_confirmed = Some(Instant::now().into_std());
        }
        change(&mut status);
    }
}

/// Steps to the end of this thread's queue, from which other threads may take it. `tokio::task::yield_now` waits aside
/// instead, until this thread next looks for I/O: what waits there with us would wait for a slow cacher, too.
async fn let_others_run() {
    let mut stepped_back = false;
    poll_fn(|context| {
        if std::mem::replace(&mut stepped_back, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
