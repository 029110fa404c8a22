//! The task of a connection: the only place that connects and connects again, and that ends it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use super::{
    call::{call, guarded},
    heartbeat,
    shared::{Ending, Shared, State},
    withdraw,
};
use crate::{Error, ErrorKind, backend::Link, backoff::Backoff, metrics::ConnectionMeter};

/// A connection that lived this long was a good one: the next loss starts with a short pause again.
pub(crate) const STEADY: Duration = Duration::from_secs(5);

/// The task's hold on the connection. Where the task ends before its time, with its runtime say, everyone hears it.
pub(super) struct Task<L: Link> {
    shared: Arc<Shared<L>>,
    has_ended: bool,
}

impl<L: Link> Task<L> {
    pub(super) fn new(shared: Arc<Shared<L>>) -> Self {
        Self { shared, has_ended: false }
    }

    /// Ends, unless the connection is wanted again.
    fn end(&mut self) -> bool {
        self.shared.condition.send_if_modified(|now| {
            self.has_ended = now.ending().is_some();
            now.is_running &= !self.has_ended;
            self.has_ended
        });
        self.has_ended
    }
}

impl<L: Link> Drop for Task<L> {
    fn drop(&mut self) {
        if !self.has_ended {
            let error = Error::new(ErrorKind::Unavailable, "the runtime that ran this connection has ended");
            let mut state = State::Down(self.shared.place(error), self.shared.attempts());
            self.shared.condition.send_modify(|now| {
                std::mem::swap(&mut now.state, &mut state);
                now.is_running = false;
            });
        }
    }
}

/// Runs until the connection is to end.
pub(super) async fn run<L: Link>(mut task: Task<L>) {
    let shared = task.shared.clone();
    loop {
        let ending = tokio::select! {
            biased;
            ending = to_be_ended(&shared) => ending,
            never = keep_connected(&shared) => match never {},
            never = shared.residents.run() => match never {},
        };
        close(&shared, ending).await;
        if task.end() {
            return;
        }
    }
}

/// Waits until the connection is to end and has nothing to withdraw any more, or no time to do it.
async fn to_be_ended<L: Link>(shared: &Shared<L>) -> Ending {
    let mut condition = shared.condition.subscribe();
    loop {
        let ending = condition.borrow_and_update().ending();
        let over = async {
            match ending {
                None => std::future::pending().await,
                Some(ending) => tokio::select! {
                    () = shared.emptied() => ending,
                    () = sleep_until(ending.withdraw_until) => ending,
                },
            }
        };
        tokio::select! {
            biased;
            ending = over => return ending,
            // The sender lives as long as `shared`, so that this cannot fail.
            _ = condition.changed() => {}
        }
    }
}

/// Ends the session or revokes the leases of a link that is up. All that used it has been dropped.
async fn close<L: Link>(shared: &Shared<L>, ending: Ending) {
    shared.withdrawals.give_up_all(|last| {
        let last = last.or_else(|| shared.outage());
        let error = last.unwrap_or_else(|| Error::timed_out("withdraw", shared.settings.request_timeout));
        shared.place(error.with_operation("withdraw"))
    });
    if let State::Up(_, link) = shared.set(State::Connecting) {
        let closing = guarded("close", async {
            link.close().await;
            Ok(())
        });
        match timeout_at(ending.close_until, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(backend = %L::BACKEND, %error, "the end of the connection failed"),
            Err(_) => {
                debug!(backend = %L::BACKEND, "the registry did not answer to the end of the connection");
            }
        }
    }
}

/// Connects, and connects again.
async fn keep_connected<L: Link>(shared: &Shared<L>) -> Infallible {
    let mut backoff = Backoff::new(&shared.settings);
    let mut outage = Outage::default();
    let mut meter = ConnectionMeter::new(L::BACKEND);
    let mut attempts = 0_u32;
    loop {
        let error =
            match call::<L, _>("connect", shared.connect_timeout(), L::connect(&shared.connector)).await {
                Ok(link) => {
                    attempts = 0;
                    meter.connected(outage.over::<L>(shared));
                    let made = Instant::now();
                    let error = serve(shared, Arc::new(link)).await;
                    if made.elapsed() >= STEADY {
                        backoff.reset();
                    }
                    meter.lost();
                    error
                }
                Err(error) => {
                    attempts = attempts.saturating_add(1);
                    meter.failed(&error, outage.0.is_none());
                    error
                }
            };
        let error = shared.place(error);
        outage.tell::<L>(shared, &error);
        let pause = backoff.pause(error.kind());
        shared.set(State::Down(error, attempts));
        sleep(pause).await;
    }
}

/// Lets everyone use the link, until it is lost.
async fn serve<L: Link>(shared: &Shared<L>, link: Arc<L>) -> Error {
    shared.liveness.answered();
    shared.set(State::Up(shared.next_generation(), link.clone()));
    let kept = guarded("keep", async { Err::<Infallible, _>(link.keep(&shared.liveness).await) });
    tokio::select! {
        biased;
        lost = kept => match lost {
            Ok(never) => match never {},
            Err(error) => error,
        },
        never = heartbeat::run(shared, &*link) => match never {},
        never = withdraw::run(shared, &*link) => match never {},
    }
}

/// One warning an outage, another one when it begins to need a person, and one line when it is over.
#[derive(Default)]
struct Outage(Option<(Instant, ErrorKind)>);

impl Outage {
    fn tell<L: Link>(&mut self, shared: &Shared<L>, error: &Error) {
        let known = self.0.map(|(_, kind)| kind);
        let refused_now = error.kind().needs_a_person() && known != Some(error.kind());
        let since = self.0.map_or_else(Instant::now, |(since, _)| since);
        if known.is_none() || refused_now {
            self.0 = Some((since, error.kind()));
            warn!(backend = %L::BACKEND, at = L::place(&shared.connector), %error, "registry lost");
        } else {
            debug!(backend = %L::BACKEND, at = L::place(&shared.connector), %error, "registry still lost");
        }
    }

    /// How long it was, if there was one.
    fn over<L: Link>(&mut self, shared: &Shared<L>) -> Option<Duration> {
        let after = self.0.take().map(|(since, _)| since.elapsed());
        info!(backend = %L::BACKEND, at = L::place(&shared.connector), ?after, "registry connected");
        after
    }
}
