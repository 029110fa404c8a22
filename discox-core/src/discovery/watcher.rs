//! The one watch loop: open, follow, and after any failure open again and diff.

use std::{
    convert::Infallible,
    future::poll_fn,
    mem,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::{
    callbacks::Callbacks,
    chronicle::{Chronicle, Origin},
    fold::Fold,
    mirror::Mirror,
    summary::Summary,
    target::{Target, TargetWatch},
};
use crate::{
    DiscoverState, DiscoverStatus, Error, ErrorKind, Event, EventKind, History, Result, Snapshot, Update,
    backend::{Link, Listing, Watch},
    backoff::Backoff,
    connection::{STEADY, Shared, Up, call, guarded},
    lock::lock,
    metrics::DiscoveryMeter,
    record::Service,
};

/// A first list that takes longer than the request timeout gets more time at each further attempt,
/// up to 2^3 times as much: a large one over a slow network must arrive in the end.
const MOST_DOUBLINGS: u32 = 3;

/// What is to be watched, and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What log lines and errors call it.
    pub(crate) service: Service,
    pub(crate) target: Target,
    pub(crate) grace: Duration,
    pub(crate) host_name: String,
}

/// What the cacher knows of the registry.
enum Session {
    /// Nothing yet. Left by the first list ([`Event::Synced`]) and by the first failure ([`Event::Lost`]).
    First,
    /// The registry's list, as the watch follows it. A watch that only lost its position is opened again in this
    /// state. Left by any other failure ([`Event::Lost`]).
    Live,
    /// The last known list, if there was one. Left by the next list ([`Event::Recovered`], or
    /// [`Event::Synced`] if it is the first).
    Lost(Outage),
}

/// An outage that the cacher was told of.
struct Outage {
    since: Instant,
    /// The kind of the last error that the cacher was told.
    told: ErrorKind,
    /// There was a list before.
    is_known: bool,
}

/// The loop of one discovery.
pub(crate) struct Watcher<'a, L: Link> {
    shared: Arc<Shared<L>>,
    plan: &'a Plan,
    callbacks: &'a Callbacks<'a>,
    status: &'a Mutex<DiscoverStatus>,
    /// What named records mean, in another system's layout.
    fold: Option<Fold>,
    mirror: Mirror,
    summary: Summary,
    chronicle: Chronicle,
    meter: DiscoveryMeter,
    session: Session,
    slow_opens: u32,
}

impl<'a, L: Link> Watcher<'a, L> {
    /// `shown` is what the cacher shows already: the first list is told as the difference to it.
    pub(crate) fn new(
        shared: Arc<Shared<L>>,
        plan: &'a Plan,
        callbacks: &'a Callbacks<'a>,
        (status, history): (&'a Mutex<DiscoverStatus>, History),
        shown: Arc<Snapshot>,
    ) -> Self {
        let fold = Fold::of(L::BACKEND, &plan.service, &shared.settings);
        let mirror = Mirror::new(plan.grace, &shared.settings, shown).noting_holds(history.is_on());
        let (summary, chronicle, session) = (Summary::default(), Chronicle::new(history), Session::First);
        let meter = DiscoveryMeter::new(L::BACKEND, &plan.service);
        Self {
            shared,
            plan,
            callbacks,
            status,
            fold,
            mirror,
            summary,
            chronicle,
            meter,
            session,
            slow_opens: 0,
        }
    }

    /// Runs until an error that no retry can mend.
    pub(crate) async fn run(mut self) -> Error {
        let mut backoff = Backoff::new(&self.shared.settings);
        loop {
            let mut opened = None;
            let error = match self.follow(&mut opened).await {
                Ok(never) => match never {},
                Err(error) => self.shared.place(error).with_subject(&self.plan.service),
            };
            if opened.is_some_and(|opened: Instant| opened.elapsed() >= STEADY) {
                backoff.reset();
            }
            let told = match error.kind() {
                ErrorKind::Stale => {
                    self.resync(&error);
                    Ok(())
                }
                kind if kind.is_retryable() => self.lost(&error),
                _ => Err(error.clone()),
            };
            if let Err(error) = told {
                self.failed(&error);
                return error;
            }
            sleep(backoff.pause(error.kind())).await;
        }
    }

    /// From the connection to the failure of the watch. Notes when the watch was opened.
    async fn follow(&mut self, opened: &mut Option<Instant>) -> Result<Infallible> {
        let up = self.connected().await?;
        let (list, mut watch) = self.open(&up).await?;
        *opened = Some(Instant::now());
        let list = match &mut self.fold {
            None => list,
            Some(fold) => fold.reset(list)?,
        };
        if self.chronicle.is_on() {
            self.chronicle.connected(up.1.member());
        }
        let applied = self.change(Origin::List, |mirror| mirror.reset(list, Instant::now())).await;
        self.chronicle.explain(&mut watch);
        applied?;
        self.in_sync()?;
        let mut heard = self.shared.liveness.heard();
        let shared = self.shared.clone();
        let mut lost = pin!(shared.lost(up.0));
        loop {
            let changes = {
                // One call of `next` goes on while other things are done.
                let mut next = pin!(guarded("watch", watch.next()));
                loop {
                    let due = self.mirror.due(Instant::now());
                    tokio::select! {
                        biased;
                        error = &mut lost => return Err(error),
                        changes = &mut next => break changes,
                        () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                            self.change(Origin::Grace, |mirror| mirror.release(Instant::now())).await?;
                        }
                        Ok(()) = heard.changed(), if L::LIVENESS_CONFIRMS_WATCH => self.confirmed()?,
                        () = self.chronicle.explained() => {}
                    }
                }
            };
            let changes = changes.inspect_err(|error| self.suspect(error))?;
            let changes = match &mut self.fold {
                None => changes,
                Some(fold) => fold.change(changes)?,
            };
            let origin = Origin::of(&changes);
            let applied = self.change(origin, |mirror| mirror.change(changes, Instant::now())).await;
            self.chronicle.explain(&mut watch);
            applied?;
            self.confirmed()?;
        }
    }

    /// The watch itself has shown that it reports everything.
    fn confirmed(&mut self) -> Result<()> {
        self.summary.tell(&self.plan.service, self.mirror.len());
        self.report(|status| status.last_confirmed = Some(Instant::now().into_std()));
        self.callbacks.call(|cacher| cacher.on_event(&Event::Confirmed))
    }

    /// Waits for the connection. A failure to connect is told: the first one, and each that begins to refuse us.
    async fn connected(&mut self) -> Result<Up<L>> {
        loop {
            let known = if let Session::Lost(outage) = &self.session { Some(outage.told) } else { None };
            let is_news = |error: &Error| {
                known.is_none_or(|known| error.kind().needs_a_person() && error.kind() != known)
            };
            let error = tokio::select! {
                biased;
                up = self.shared.up() => return up,
                error = self.shared.failed_so(is_news) => error,
            };
            if !error.kind().is_retryable() {
                return Err(error);
            }
            self.lost(&error)?;
        }
    }

    async fn open(&mut self, (generation, link): &Up<L>) -> Result<(Listing, TargetWatch<L>)> {
        let limit = self.shared.settings.request_timeout * 2_u32.pow(self.slow_opens.min(MOST_DOUBLINGS));
        let _permit = self.shared.lists.acquire().await;
        let opened = tokio::select! {
            biased;
            error = self.shared.lost(*generation) => return Err(error),
            opened = call::<L, _>("discover", limit, self.plan.target.open(link)) => opened,
        };
        let is_slow = opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut);
        self.slow_opens = if is_slow { self.slow_opens.saturating_add(1) } else { 0 };
        opened.inspect_err(|error| self.suspect(error))
    }

    fn suspect(&self, error: &Error) {
        if error.kind() != ErrorKind::Stale {
            self.shared.liveness.probe_now();
        }
    }

    /// Applies a change to the mirror, and tells the cacher the difference.
    async fn change(
        &mut self,
        origin: Origin,
        change: impl FnOnce(&mut Mirror) -> Vec<Update>,
    ) -> Result<()> {
        let from = self.mirror.shown().clone();
        let updates = change(&mut self.mirror);
        self.meter.changed(&from, &updates);
        self.chronicle.changed(origin, &from, &updates, self.mirror.take_holds());
        if !updates.is_empty() {
            self.summary.note(&self.plan.service, &from, &updates);
            // A slow cacher blocks this thread.
            let_others_run().await;
            self.callbacks.call(|cacher| cacher.advance(&from, self.mirror.shown(), &updates))?;
        }
        self.report(|_| {});
        // With a limit exceeded, what was told is true but incomplete.
        self.mirror.exceeded().map_or(Ok(()), |exceeded| Err(exceeded.into()))
    }

    /// A full list has been applied: the first one, one after an outage, or one after a lost position.
    fn in_sync(&mut self) -> Result<()> {
        let before = mem::replace(&mut self.session, Session::Live);
        self.report(|status| {
            status.enter(DiscoverState::Synced);
            status.attempts = 0;
            status.last_confirmed = Some(Instant::now().into_std());
        });
        let (event, after) = match before {
            Session::Live => return self.callbacks.call(|cacher| cacher.on_event(&Event::Confirmed)),
            Session::First => (Event::Synced, None),
            Session::Lost(Outage { is_known: false, since, .. }) => (Event::Synced, Some(since.elapsed())),
            Session::Lost(Outage { since, .. }) => (Event::Recovered, Some(since.elapsed())),
        };
        self.chronicle.synced(self.mirror.len(), after.filter(|_| matches!(event, Event::Recovered)));
        self.summary = Summary::default();
        let Plan { service, host_name, .. } = self.plan;
        let endpoints = self.mirror.len();
        info!(backend = %L::BACKEND, %service, host_name, endpoints, ?after, "discovery synced");
        if endpoints == 0 && matches!(event, Event::Synced) {
            let (prefix, service) = (service.prefix(), service.name());
            warn!(
                backend = %L::BACKEND, prefix, service, host_name,
                "nothing is registered under this prefix and service: are both right?"
            );
        }
        self.callbacks.call(|cacher| cacher.on_event(&event))
    }

    /// The registry is fine, only the position of the watch is lost.
    fn resync(&mut self, error: &Error) {
        debug!(backend = %L::BACKEND, service = %self.plan.service, %error, "resync");
        self.chronicle.failed(EventKind::Resynced, error);
        self.report(|status| status.resyncs += 1);
    }

    /// The registry is lost: told once an outage, and again when it begins to refuse us.
    fn lost(&mut self, error: &Error) -> Result<()> {
        let now = Instant::now();
        self.mirror.lost(now);
        let (since, told, is_known) = match &self.session {
            Session::First => (now, None, false),
            Session::Live => (now, None, true),
            Session::Lost(outage) => (outage.since, Some(outage.told), outage.is_known),
        };
        let (begins, kind) = (told.is_none(), error.kind());
        let is_refused_now = kind.needs_a_person() && told != Some(kind);
        self.report(|status| {
            status.enter(if is_known { DiscoverState::Lost } else { DiscoverState::Connecting });
            status.outages += u64::from(begins);
            status.attempts = status.attempts.saturating_add(1);
            status.last_error = Some(error.clone());
        });
        let Plan { service, host_name, .. } = self.plan;
        if !begins && !is_refused_now {
            debug!(backend = %L::BACKEND, %service, host_name, %error, "discovery still lost");
            return Ok(());
        }
        self.session = Session::Lost(Outage { since, told: kind, is_known });
        self.chronicle.failed(if begins && is_known { EventKind::Lost } else { EventKind::Failed }, error);
        // What concerns the whole connection is the connection's own warning.
        if is_refused_now && self.shared.trouble().is_none() {
            warn!(backend = %L::BACKEND, %service, host_name, %error, "discovery refused");
        } else {
            info!(backend = %L::BACKEND, %service, host_name, %error, "discovery lost");
        }
        self.callbacks.call(|cacher| {
            cacher.add_error(error);
            if begins {
                cacher.on_event(&Event::Lost(error.clone()));
            }
        })
    }

    /// Discovery ends by an error. That is no loss of the registry.
    fn failed(&mut self, error: &Error) {
        self.report(|status| status.last_error = Some(error.clone()));
        self.chronicle.failed(EventKind::Failed, error);
        // A cacher that panics here ends a discovery that ends anyway.
        let _ = self.callbacks.call(|cacher| cacher.add_error(error));
    }

    fn report(&mut self, change: impl FnOnce(&mut DiscoverStatus)) {
        let (held, grace_left) = self.mirror.holding(Instant::now());
        let mut status = lock(self.status);
        status.endpoints = self.mirror.len();
        status.held = held;
        status.grace_left = grace_left;
        change(&mut status);
        self.meter.report(&status);
    }
}

/// Moves this task behind all others that wait for this thread: another thread may run those while a cacher
/// blocks this one. `tokio::task::yield_now` does not: it parks the task where no other thread takes from.
async fn let_others_run() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
