//! The one task of a balancer: it follows the cache, keeps connections and publishes the table.

mod agenda;
mod board;
mod links;
mod listing;
mod member;
mod subset;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use discox_core::{FreshnessState, Snapshot};
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered, SelectAll},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use self::{agenda::Agenda, board::Board, member::Member, subset::Subset};
use crate::{
    Connect, Connected,
    shared::Shared,
    table::{Phase, Table},
};

/// How many endpoints an error names.
const NAMED: usize = 3;

/// An attempt to connect that has ended: of which endpoint, its how-manieth, and how; None if it was
/// given up.
type Dialed<C> = (u64, u64, Option<Result<Connected<C>, String>>);

/// What an endpoint says of itself: which one, over its how-manieth connection.
type Report = (u64, u64, Result<(), String>);

pub(crate) struct Manager<C: Connect> {
    shared: Arc<Shared<C::Connection>>,
    connect: C,
    /// Resolves when the last handle is dropped.
    handles: oneshot::Receiver<()>,
    /// The list that the members are of.
    source: Arc<Snapshot>,
    is_discovered: bool,
    ids: HashMap<Arc<str>, u64>,
    members: HashMap<u64, Member<C::Connection>>,
    next_id: u64,
    /// Listed members.
    listed: usize,
    /// Records that are no target, and have been logged.
    skipped: HashSet<Arc<str>>,
    subset: Subset,
    board: Board<C::Connection>,
    agenda: Agenda,
    queue: VecDeque<u64>,
    dialing: FuturesUnordered<BoxFuture<'static, Dialed<C::Connection>>>,
    closing: FuturesUnordered<BoxFuture<'static, (u64, u64)>>,
    reports: SelectAll<BoxStream<'static, Report>>,
    has_changed: bool,
}

impl<C: Connect> Manager<C> {
    pub(crate) fn new(
        shared: Arc<Shared<C::Connection>>,
        connect: C,
        handles: oneshot::Receiver<()>,
    ) -> Self {
        let subset = Subset::new(shared.options.subset, shared.options.seed);
        Self {
            shared,
            connect,
            handles,
            source: Arc::default(),
            is_discovered: false,
            ids: HashMap::new(),
            members: HashMap::new(),
            next_id: 0,
            listed: 0,
            skipped: HashSet::new(),
            subset,
            board: Board::new(),
            agenda: Agenda::default(),
            queue: VecDeque::new(),
            dialing: FuturesUnordered::new(),
            closing: FuturesUnordered::new(),
            reports: SelectAll::new(),
            has_changed: false,
        }
    }

    pub(crate) async fn run(mut self) {
        let cache = self.shared.endpoints.cache.clone();
        let mut changes = cache.changes();
        loop {
            self.dial();
            if std::mem::take(&mut self.has_changed) {
                self.publish();
            }
            let next = self.agenda.next();
            tokio::select! {
                _ = &mut self.handles => return,
                Some(list) = changes.next() => self.follow(list),
                () = cache.ready(), if !self.is_discovered => {
                    self.is_discovered = true;
                    self.follow(cache.snapshot());
                }
                Some(dialed) = self.dialing.next() => {
                    self.dialed(dialed);
                    // What has come in together is published together.
                    while let Some(Some(dialed)) = self.dialing.next().now_or_never() {
                        self.dialed(dialed);
                    }
                }
                Some(closed) = self.closing.next() => {
                    self.closed(closed);
                    while let Some(Some(closed)) = self.closing.next().now_or_never() {
                        self.closed(closed);
                    }
                }
                Some(report) = self.reports.next() => self.told(report),
                () = self.shared.signals.wake.notified() => {
                    for id in self.shared.signals.take() {
                        self.reported(id);
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    let now = Instant::now();
                    while let Some(id) = self.agenda.due(now) {
                        self.due(id, now);
                    }
                }
            }
        }
    }

    fn publish(&mut self) {
        if self.board.seated() == 0 && !self.board.ejected.is_empty() {
            self.readmit_all();
        }
        let phase = self.phase();
        let table = self.board.table(self.source.clone(), phase);
        self.shared.table.store(Arc::new(table));
        self.shared.published.send_modify(|count| *count += 1);
    }

    fn phase(&self) -> Phase {
        if self.board.seated() > 0 {
            return Phase::Ready;
        }
        let cache = &self.shared.endpoints.cache;
        if !cache.is_ready() && self.source.is_empty() {
            let has_ended = cache.freshness().state == FreshnessState::Ended;
            return if has_ended { Phase::Ended } else { Phase::Undiscovered };
        }
        if self.source.is_empty() {
            return Phase::Empty;
        }
        if self.listed == 0 {
            return Phase::Unusable { registered: self.source.len() };
        }
        let chosen = || self.members.values().filter(|member| member.is_chosen);
        let why = self.why();
        match why {
            Some(why) if chosen().all(|member| member.last_error.is_some()) => Phase::Unreachable(why),
            why => Phase::Connecting(why),
        }
    }

    /// Why there are no connections: the last error of some endpoints, the first by name.
    fn why(&self) -> Option<Arc<str>> {
        let chosen = self.members.values().filter(|member| member.is_chosen);
        let failed =
            chosen.filter_map(|member| Some((member.target.endpoint(), member.last_error.as_deref()?)));
        let mut failed: Vec<_> = failed.collect();
        failed.sort_unstable();
        let named: Vec<_> =
            failed.iter().take(NAMED).map(|(endpoint, error)| format!("{endpoint}: {error}")).collect();
        let rest = failed.len() - named.len();
        let more = if rest > 0 { format!("; and {rest} more") } else { String::new() };
        (!named.is_empty()).then(|| format!("{}{more}", named.join("; ")).into())
    }
}

/// However it ends, requests do not wait for it.
impl<C: Connect> Drop for Manager<C> {
    fn drop(&mut self) {
        let mut table = Table::empty(self.source.clone());
        table.phase = Phase::Closed;
        self.shared.table.store(Arc::new(table));
        self.shared.published.send_modify(|count| *count += 1);
    }
}
