//! What a discovery writes into its history: the only place where a change gets its cause.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use tokio::time::timeout;

use super::mirror::Hold;
use crate::{
    Cause, Error, EventKind, History, Snapshot, Update,
    backend::{Change, Watch},
};

/// How long a registry is asked why endpoints went.
const ASKING: Duration = Duration::from_secs(2);

/// Removals that a registry is asked about at a time, the newest of many. As many as a history keeps by default.
const ASKED: usize = 256;

/// Times that a registry is asked at once: one that lets everything go and comes back at every moment is not asked any
/// more.
const AT_ONCE: usize = 8;

/// Where a change comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// A whole list was read.
    List,
    /// The watch has reported changes.
    Watch,
    /// The grace of held removals is over.
    Grace,
}

impl Origin {
    /// Of what a watch has reported.
    pub(super) fn of(changes: &[Change]) -> Self {
        let is_list = changes.iter().any(|change| matches!(change, Change::Reset(_)));
        if is_list { Self::List } else { Self::Watch }
    }
}

/// A discovery's history, and what must be known to write it. Does nothing while the history is off.
pub(super) struct Chronicle {
    history: History,
    /// Why each held endpoint is missing.
    held: HashMap<Arc<str>, Cause>,
    /// Removals whose cause the registry is to be asked for.
    unexplained: VecDeque<Removal>,
    asking: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// The member that the connection went to last.
    member: Option<String>,
}

/// An event of a removal, and what its cause is if the registry does not tell.
struct Removal {
    endpoint: Arc<str>,
    event: u64,
    or_else: Cause,
}

/// What the registry has told of some removals.
type Answer = (VecDeque<Removal>, Vec<(Arc<str>, Cause)>);

impl Chronicle {
    pub(super) fn new(history: History) -> Self {
        let (held, unexplained, asking) = (HashMap::new(), VecDeque::new(), FuturesUnordered::new());
        Self { history, held, unexplained, asking, member: None }
    }

    pub(super) fn is_on(&self) -> bool {
        self.history.is_on()
    }

    /// The cacher was told these updates, which lead on from `before`.
    pub(super) fn changed(
        &mut self,
        origin: Origin,
        before: &Snapshot,
        updates: &[Update],
        holds: Vec<Hold>,
    ) {
        if !self.is_on() {
            return;
        }
        for hold in holds {
            self.hold(origin, hold);
        }
        for update in updates {
            match update {
                Update::Put(endpoint, _) => {
                    let is_new = before.attr(endpoint).is_none();
                    let kind = if is_new { EventKind::Added } else { EventKind::Changed };
                    let cause = if origin == Origin::Watch { Cause::Written } else { Cause::Listed };
                    self.history.note(Some(endpoint), kind, cause);
                }
                Update::Delete(endpoint) => match self.held.remove(endpoint) {
                    Some(cause) => self.history.note(Some(endpoint), EventKind::Released, cause),
                    None => self.ask(origin, endpoint, EventKind::Removed),
                },
            }
        }
    }

    fn hold(&mut self, origin: Origin, hold: Hold) {
        match hold {
            Hold::Begun(endpoint, left) => {
                self.held.insert(endpoint.clone(), missing(origin));
                let until = SystemTime::now() + left;
                self.ask(origin, &endpoint, EventKind::Held { until });
            }
            Hold::Back(endpoint) => {
                self.held.remove(&endpoint);
                self.history.note(Some(&endpoint), EventKind::Returned, Cause::Listed);
            }
            Hold::LetGo(endpoint) => drop(self.held.insert(endpoint, Cause::NoRoom)),
        }
    }

    fn ask(&mut self, origin: Origin, endpoint: &Arc<str>, kind: EventKind) {
        let event = self.history.note_asked(endpoint, kind);
        self.unexplained.push_back(Removal { endpoint: endpoint.clone(), event, or_else: missing(origin) });
        if self.unexplained.len() > ASKED
            && let Some(oldest) = self.unexplained.pop_front()
        {
            self.history.explain(oldest.event, oldest.or_else);
        }
    }

    /// Asks the watch that has reported the last changes why endpoints went. Does not wait.
    pub(super) fn explain(&mut self, watch: &mut impl Watch) {
        if self.unexplained.is_empty() {
            return;
        }
        let removals = std::mem::take(&mut self.unexplained);
        let endpoints: Vec<_> = removals.iter().map(|removal| removal.endpoint.clone()).collect();
        let asking = if self.asking.len() < AT_ONCE { watch.why_gone(&endpoints) } else { None };
        let Some(asking) = asking else { return self.settle((removals, Vec::new())) };
        let asking = async move { (removals, timeout(ASKING, asking).await.unwrap_or_default()) };
        let mut asking = asking.boxed();
        match (&mut asking).now_or_never() {
            Some(answer) => self.settle(answer),
            None => self.asking.push(asking),
        }
    }

    /// Waits until the registry has told why endpoints went. Waits for ever where it is not asked. Cancel-safe.
    pub(super) async fn explained(&mut self) {
        match self.asking.next().await {
            Some(answer) => self.settle(answer),
            None => std::future::pending().await,
        }
    }

    fn settle(&mut self, (removals, mut causes): Answer) {
        for Removal { endpoint, event, or_else } in removals {
            let at = causes.iter().position(|(explained, _)| *explained == endpoint);
            let cause = at.map_or(or_else, |at| causes.swap_remove(at).1);
            if let Some(held) = self.held.get_mut(&endpoint) {
                *held = cause.clone();
            }
            self.history.explain(event, cause);
        }
    }

    /// The connection is up, to this member.
    pub(super) fn connected(&mut self, member: Option<String>) {
        if let (Some(from), Some(to)) = (&self.member, &member)
            && from != to
        {
            let kind = EventKind::FailedOver { from: from.clone(), to: to.clone() };
            self.history.note(None, kind, Cause::None);
        }
        self.member = member.or(self.member.take());
    }

    /// The first list, or the first one after an outage that has lasted so long, has been applied.
    pub(super) fn synced(&self, endpoints: usize, after: Option<Duration>) {
        let kind = after.map_or(EventKind::Synced { endpoints }, |after| EventKind::Recovered { after });
        self.history.note(None, kind, Cause::None);
    }

    /// An outage begins, or an attempt in the middle of it fails for a reason that a person must mend.
    pub(super) fn failed(&self, kind: EventKind, error: &Error) {
        if self.is_on() {
            self.history.note(None, kind, Cause::error(error));
        }
    }
}

/// The history must not wait for answers that nobody hears.
impl Drop for Chronicle {
    fn drop(&mut self) {
        self.history.give_up();
    }
}

/// Why an endpoint is missing, if the registry does not tell.
fn missing(origin: Origin) -> Cause {
    if origin == Origin::List { Cause::Missing } else { Cause::Unknown }
}
