//! The handle of a balancer: what a request asks.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};

use crate::{
    Cause, Connect, Endpoints, Options, Pick, Status, Unavailable,
    manager::Manager,
    ready::Ready,
    shared::{Counters, Shared, Signals, Turns, count, lock},
    table::{Ask, Phase, Table},
};

/// How often a request is sent again, at most.
const RETRIES: usize = 2;

/// Connections to the endpoints of a service, of which each request gets one.
///
/// One manager task follows the cache, connects ahead and publishes the connections that are ready;
/// requests never pass through it. It ends, and the connections with it, when the last clone is dropped.
pub struct Balanced<C: Connect> {
    handle: Arc<Handle<C>>,
}

/// Lives as long as a clone does, or a request that waits.
struct Handle<C: Connect> {
    shared: Arc<Shared<C::Connection>>,
    /// Dropped with this handle: that ends the manager.
    _alive: oneshot::Sender<()>,
    unstarted: std::sync::Mutex<Option<Manager<C>>>,
}

/// What one request wants.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Wait also while there is no endpoint or every endpoint refuses.
    pub wait_for_ready: bool,
    /// The key for [`Policy::Hash`](crate::Policy::Hash).
    pub key: Option<u64>,
    /// When the request is of no use any more.
    pub deadline: Option<Instant>,
}

/// A request that was not answered.
#[derive(Debug)]
pub struct Failed<R, E> {
    /// Why.
    pub error: E,
    /// The request, if it may be sent again: certainly not processed, or marked as repeatable.
    pub request: Option<R>,
}

impl<C: Connect> Clone for Balanced<C> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<C: Connect> Balanced<C> {
    /// Follows `endpoints` and connects by `connect`. No I/O before the manager task runs: it is started
    /// here when there is a Tokio runtime, else with the first request.
    pub fn new(endpoints: impl Into<Endpoints>, connect: C, options: Options) -> Self {
        let endpoints = endpoints.into();
        let table = Table::empty(Arc::default());
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(table),
            endpoints,
            options,
            published: watch::Sender::new(0),
            signals: Arc::<Signals>::default(),
            counters: Counters::default(),
            turns: Turns::default(),
        });
        let (alive, handles) = oneshot::channel();
        let manager = Manager::new(shared.clone(), connect, handles);
        let handle = Handle { shared, _alive: alive, unstarted: Some(manager).into() };
        if tokio::runtime::Handle::try_current().is_ok() {
            handle.start();
        }
        Self { handle: Arc::new(handle) }
    }

    /// An endpoint of those that are ready now. Neither waits nor allocates nor locks. None outside a
    /// runtime before the first [`Balanced::wait`].
    #[inline]
    pub fn pick(&self) -> Option<Pick<C::Connection>> {
        self.choose(None, &[])
    }

    /// As [`Balanced::pick`], for [`Policy::Hash`](crate::Policy::Hash).
    pub fn pick_by(&self, key: u64) -> Option<Pick<C::Connection>> {
        self.choose(Some(key), &[])
    }

    /// As [`Balanced::pick`], but waits while the first list is read and the first connections are made.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Unavailable`] at once when there is no endpoint or every endpoint refuses, else after
    /// [`Options::wait`].
    pub async fn wait(&self) -> Result<Pick<C::Connection>, Unavailable> {
        self.acquire(How::default()).await
    }

    /// As [`Balanced::wait`], for a request with wishes of its own. Cancel-safe.
    ///
    /// # Errors
    /// As [`Balanced::wait`]; [`Cause::Deadline`] when the request's deadline comes first.
    pub async fn acquire(&self, how: How) -> Result<Pick<C::Connection>, Unavailable> {
        self.acquire_other(how, &[]).await
    }

    /// Sends a request by `send` to an endpoint, and to another one, at most twice more, when it gives
    /// the request back. Cancel-safe as far as `send` is: what the request holds is released.
    ///
    /// # Errors
    /// No endpoint, by [`From<Unavailable>`](Unavailable), or what the last `send` said.
    pub async fn call<R, T, E, S, F>(&self, how: How, request: R, mut send: S) -> Result<T, E>
    where
        E: From<Unavailable>,
        S: FnMut(Pick<C::Connection>, R) -> F,
        F: Future<Output = Result<T, Failed<R, E>>>,
    {
        let (mut request, mut tried) = (request, [0; RETRIES + 1]);
        let mut attempt = 0;
        loop {
            let so_far = tried.get(..attempt).unwrap_or_default();
            let pick = match self.choose(how.key, so_far) {
                Some(pick) => pick,
                None => self.acquire_other(how, so_far).await?,
            };
            let id = pick.id();
            let failed = match send(pick, request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            match failed.request {
                Some(unsent) if attempt < RETRIES => request = unsent,
                _ => return Err(failed.error),
            }
            if let Some(slot) = tried.get_mut(attempt) {
                *slot = id;
            }
            attempt += 1;
            count(&self.handle.shared.counters.retries);
        }
    }

    /// Waits until so many endpoints are ready. Cancel-safe; give it a time-out of your own.
    pub async fn ready(&self, endpoints: usize) {
        self.handle.start();
        let shared = &self.handle.shared;
        let mut published = shared.published.subscribe();
        while shared.table.load().census.ready < endpoints {
            if published.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// The state and the counters, as of now.
    pub fn status(&self) -> Status {
        let shared = &self.handle.shared;
        let load =
            |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        let (table, counters) = (shared.table.load(), &shared.counters);
        let census = table.census;
        let connections = || table.ready().chain(table.draining.iter());
        Status {
            discovered: census.discovered,
            in_subset: census.in_subset,
            connecting: census.connecting,
            ready: census.ready,
            ejected: census.ejected,
            draining: census.draining,
            in_flight: connections().map(|ready| u64::from(ready.load())).sum(),
            picks: load(&shared.signals.picks) + connections().map(|ready| load(&ready.picked)).sum::<u64>(),
            retries: load(&counters.retries),
            connects: load(&counters.connects),
            failed_connects: load(&counters.failed_connects),
            ejections: load(&counters.ejections),
            waits: load(&counters.waits),
            no_endpoint: load(&counters.no_endpoint),
            skipped: load(&counters.skipped),
        }
    }

    #[inline]
    fn choose(&self, key: Option<u64>, tried: &[u64]) -> Option<Pick<C::Connection>> {
        let shared = &*self.handle.shared;
        let (table, options) = (shared.table.load(), &shared.options);
        let ask = Ask { policy: options.policy, key, zone_full: options.zone_full, tried };
        let cache = &shared.endpoints.cache;
        // The manager may be a moment behind: what the cache has removed is not picked all the same.
        let is_listed = |ready: &Ready<C::Connection>| cache.contains(ready.target.endpoint());
        let picked = if cache.is_current(&table.source) {
            table.pick(ask, &shared.turns, |_| true)
        } else {
            table.pick(ask, &shared.turns, is_listed)
        };
        picked.cloned().map(Pick::new)
    }

    async fn acquire_other(&self, how: How, tried: &[u64]) -> Result<Pick<C::Connection>, Unavailable> {
        self.handle.start();
        let shared = &self.handle.shared;
        let waits = how.wait_for_ready || shared.options.wait_for_ready;
        let patience = far(shared.options.wait);
        let limit = match how.deadline {
            Some(deadline) if waits => deadline,
            Some(deadline) => deadline.min(patience),
            None => patience,
        };
        let mut published = shared.published.subscribe();
        let mut has_waited = false;
        loop {
            published.borrow_and_update();
            let (phase, is_current) = self.phase();
            if let Some(pick) = self.choose(how.key, tried) {
                return Ok(pick);
            }
            if !waits
                && is_current
                && let Some(cause) = final_cause(&phase)
            {
                return Err(self.unavailable(cause));
            }
            if !std::mem::replace(&mut has_waited, true) {
                count(&shared.counters.waits);
            }
            match timeout_at(limit, published.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.unavailable(Cause::Closed)),
                Err(_) if how.deadline == Some(limit) => return Err(self.unavailable(Cause::Deadline)),
                Err(_) => return Err(self.unavailable(waited_for(&phase))),
            }
        }
    }

    /// Why the table is as it is, and whether that is the last word: not while the manager has not read
    /// the newest list.
    fn phase(&self) -> (Phase, bool) {
        let shared = &self.handle.shared;
        let table = shared.table.load();
        let is_current = table.phase == Phase::Closed || shared.endpoints.cache.is_current(&table.source);
        (table.phase.clone(), is_current)
    }

    fn unavailable(&self, cause: Cause) -> Unavailable {
        let shared = &self.handle.shared;
        count(&shared.counters.no_endpoint);
        let cache = &shared.endpoints.cache;
        // An old error of a discovery that works explains nothing.
        let is_fresh = cache.freshness().state == discox_core::FreshnessState::Synced;
        let discovery = cache.last_error().filter(|_| !is_fresh);
        Unavailable { service: shared.name().into(), cause, discovery }
    }
}

impl<C: Connect> Handle<C> {
    /// Starts the manager, unless that was done.
    fn start(&self) {
        if let Some(manager) = lock(&self.unstarted).take() {
            tokio::spawn(manager.run());
        }
    }
}

impl<C: Connect> fmt::Debug for Balanced<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balanced")
            .field("service", &self.handle.shared.name())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// Why it is of no use to wait: the registry or the endpoints have said no.
fn final_cause(phase: &Phase) -> Option<Cause> {
    match phase {
        Phase::Undiscovered | Phase::Connecting(_) | Phase::Ready => None,
        Phase::Closed => Some(Cause::Closed),
        Phase::Ended => Some(Cause::Ended),
        Phase::Empty => Some(Cause::NoEndpoint),
        Phase::Unusable { registered } => Some(Cause::NoneUsable(*registered)),
        Phase::Unreachable(why) => Some(Cause::Unreachable(why.clone())),
    }
}

/// What a request has waited for in vain.
fn waited_for(phase: &Phase) -> Cause {
    final_cause(phase).unwrap_or(match phase {
        Phase::Undiscovered => Cause::NotDiscovered,
        Phase::Connecting(why) => Cause::NotConnected(why.clone()),
        _ => Cause::NotConnected(None),
    })
}

/// A moment so far from now, or as far as the clock goes.
fn far(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or(now + Duration::from_secs(86_400 * 365))
}
