//! What this process has registered with which agent. It outlives connections, so that a record left
//! on an agent that was lost is removed when that agent is back.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use discox_core::{backend::lock, key::Incarnation};
use tokio::sync::Notify;

use crate::layout::Stamp;

/// How many entries are kept of each kind. More are forgotten: Consul reaps what stays critical.
const REMEMBERED: usize = 100_000;

/// An agent: its position among the configured ones.
pub(crate) type Agent = usize;

/// The table of what may be registered where.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    tables: Mutex<Tables>,
    /// A record is wanted.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Tables {
    stamps: HashMap<Incarnation, Stamp>,
    places: BTreeMap<(Agent, Arc<str>), Standing>,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// The record should be there. Left when it is registered elsewhere, superseded or withdrawn.
    Wanted,
    /// The record may still be there and should not. Left by removing it, or by registering again.
    Left,
}

impl Ledger {
    /// When an incarnation took its endpoint over.
    pub(crate) fn stamp(&self, incarnation: Incarnation) -> Option<Stamp> {
        self.lock().stamps.get(&incarnation).cloned()
    }

    /// A registration begins: from now on the record may be there.
    pub(crate) fn begin(&self, agent: Agent, id: &str, incarnation: Incarnation, stamp: &Stamp) {
        let mut tables = self.lock();
        if tables.stamps.len() >= REMEMBERED {
            tables.stamps.clear();
        }
        tables.stamps.insert(incarnation, stamp.clone());
        if tables.places.len() >= REMEMBERED {
            tables.places.retain(|_, standing| *standing == Standing::Wanted);
        }
        tables.places.insert((agent, id.into()), Standing::Wanted);
        drop(tables);
        self.wanted.notify_waiters();
    }

    /// The record is registered with this agent, so that it is not wanted on any other.
    pub(crate) fn registered(&self, agent: Agent, id: &str) {
        self.leave(id, Some(agent));
    }

    /// The record is not wanted anywhere any more.
    pub(crate) fn unwanted(&self, id: &str) {
        self.leave(id, None);
    }

    /// The incarnation is withdrawn.
    pub(crate) fn withdrawn(&self, id: &str, incarnation: Incarnation) {
        self.lock().stamps.remove(&incarnation);
        self.leave(id, None);
    }

    /// The record has been removed from this agent.
    pub(crate) fn removed(&self, agent: Agent, id: &str) {
        let mut tables = self.lock();
        let place = (agent, Arc::from(id));
        if tables.places.get(&place) == Some(&Standing::Left) {
            tables.places.remove(&place);
        }
    }

    /// Records that should not be there any more, by agent.
    pub(crate) fn left(&self) -> Vec<(Agent, Arc<str>)> {
        let tables = self.lock();
        let left = tables.places.iter().filter(|(_, standing)| **standing == Standing::Left);
        left.map(|(place, _)| place.clone()).collect()
    }

    /// Whether the record should be with this agent.
    pub(crate) fn wants(&self, agent: Agent, id: &str) -> bool {
        self.lock().places.get(&(agent, Arc::from(id))) == Some(&Standing::Wanted)
    }

    /// Any record that should be with this agent. Waits until there is one. Cancel-safe.
    pub(crate) async fn any_wanted(&self, agent: Agent) -> Arc<str> {
        loop {
            let mut wanted = std::pin::pin!(self.wanted.notified());
            wanted.as_mut().enable();
            if let Some(id) = self.first_wanted(agent) {
                return id;
            }
            wanted.await;
        }
    }

    fn first_wanted(&self, agent: Agent) -> Option<Arc<str>> {
        let tables = self.lock();
        let mut here = tables.places.range((agent, Arc::from(""))..(agent + 1, Arc::from("")));
        here.find(|(_, standing)| **standing == Standing::Wanted).map(|((_, id), _)| id.clone())
    }

    fn leave(&self, id: &str, but: Option<Agent>) {
        let mut tables = self.lock();
        let Some(last) = tables.places.keys().next_back().map(|(agent, _)| *agent) else { return };
        for agent in (0..=last).filter(|agent| Some(*agent) != but) {
            if let Some(standing) = tables.places.get_mut(&(agent, Arc::from(id))) {
                *standing = Standing::Left;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        lock(&self.tables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_moved_is_left_behind_until_it_is_removed() {
        let (ledger, incarnation) = (Ledger::default(), Incarnation::new());
        let stamp = Stamp::after(None, incarnation);
        ledger.begin(0, "a", incarnation, &stamp);
        ledger.begin(1, "a", incarnation, &stamp);
        assert!(ledger.left().is_empty(), "it may be needed there until it is registered elsewhere");
        ledger.registered(1, "a");
        assert_eq!(ledger.left(), [(0, Arc::from("a"))]);
        assert!(ledger.wants(1, "a") && !ledger.wants(0, "a"));
        ledger.removed(0, "a");
        ledger.removed(1, "a");
        assert!(ledger.left().is_empty() && ledger.wants(1, "a"), "what is wanted is not forgotten");
        ledger.withdrawn("a", incarnation);
        assert_eq!(ledger.left(), [(1, Arc::from("a"))]);
        assert_eq!(ledger.stamp(incarnation), None);
    }

    #[tokio::test]
    async fn the_first_wanted_record_is_waited_for() {
        let (ledger, incarnation) = (Ledger::default(), Incarnation::new());
        let stamp = Stamp::after(None, incarnation);
        ledger.begin(0, "elsewhere", incarnation, &stamp);
        let begin = async { ledger.begin(1, "here", incarnation, &stamp) };
        let (id, ()) = tokio::join!(ledger.any_wanted(1), begin);
        assert_eq!(&*id, "here");
    }
}
