//! Which records this process has registered with which agent, and with which token. It outlives connections, so
//! that a record left on an agent that was lost is removed when that agent is back.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use discox_core::backend::lock;
use tokio::{sync::Notify, time::Instant};

use crate::{client::TokenVersion, layout::Stamp};

/// How many records are remembered that were left somewhere. Consul reaps the others: they stay critical.
const LEFT_AT_MOST: usize = 100_000;

/// An agent: its position among the configured ones.
pub(crate) type Agent = usize;

/// The table of what may be registered where.
#[derive(Debug, Default)]
pub(crate) struct Placements {
    tables: Mutex<Tables>,
    /// A record is wanted.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Tables {
    /// Of registrations that were begun and neither withdrawn nor superseded: as many as there are handles.
    stamps: HashMap<Arc<str>, Stamp>,
    places: BTreeMap<(Agent, Arc<str>), Placement>,
    /// How many of the places are [`Standing::Left`].
    left: usize,
}

/// A record with an agent.
#[derive(Debug)]
struct Placement {
    standing: Standing,
    service: Arc<str>,
    /// The token that the agent was given with the record; none when it has to be given one anew.
    token: Option<TokenVersion>,
    /// When a request to write the record was given up, which may still be on its way.
    given_up: Option<Instant>,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// The record should be there. Left when it is registered elsewhere, superseded or withdrawn.
    Wanted,
    /// The record may still be there and should not. Left by removing it, or by registering again.
    Left,
}

/// A record that may still be with an agent and should not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Leftover {
    pub(crate) agent: Agent,
    pub(crate) id: Arc<str>,
    pub(crate) service: Arc<str>,
}

/// A record is being written. Dropped before [`Writing::done`], the request may still be on its way.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    placements: &'a Placements,
    place: (Agent, Arc<str>),
    token: Option<TokenVersion>,
}

impl Placements {
    /// When the incarnation with this ID took its endpoint over.
    pub(crate) fn stamp(&self, id: &str) -> Option<Stamp> {
        self.lock().stamps.get(id).cloned()
    }

    /// A registration begins: from now on the record may be there.
    pub(crate) fn begin(&self, agent: Agent, service: &str, id: &str, stamp: &Stamp) {
        let mut tables = self.lock();
        let place: (Agent, Arc<str>) = (agent, id.into());
        tables.stamps.insert(place.1.clone(), *stamp);
        let known = tables.remove(&place);
        let (token, given_up) = known.map_or((None, None), |known| (known.token, known.given_up));
        let placement = Placement { standing: Standing::Wanted, service: service.into(), token, given_up };
        tables.places.insert(place, placement);
        drop(tables);
        self.wanted.notify_waiters();
    }

    /// A request to write the record is sent.
    pub(crate) fn writing(&self, agent: Agent, id: &str) -> Writing<'_> {
        Writing { placements: self, place: (agent, id.into()), token: None }
    }

    /// The token that the agent was given with the record.
    pub(crate) fn token(&self, agent: Agent, id: &str) -> Option<TokenVersion> {
        self.lock().places.get(&(agent, Arc::from(id))).and_then(|placement| placement.token)
    }

    /// Consul has refused something that concerns the record, and may have refused it to the agent, too, which does
    /// not try again for long: the record has to be put again.
    pub(crate) fn denied(&self, agent: Agent, id: &str) {
        if let Some(placement) = self.lock().places.get_mut(&(agent, Arc::from(id))) {
            placement.token = None;
        }
    }

    /// When a request to write the record was given up, if the last one was.
    pub(crate) fn given_up(&self, agent: Agent, id: &str) -> Option<Instant> {
        self.lock().places.get(&(agent, Arc::from(id))).and_then(|placement| placement.given_up)
    }

    /// The record is registered with this agent, so that it is not wanted on any other.
    pub(crate) fn registered(&self, agent: Agent, id: &str) {
        self.lock().leave(id, Some(agent));
    }

    /// The record is withdrawn or superseded: it is not wanted anywhere any more.
    pub(crate) fn unwanted(&self, id: &str) {
        let mut tables = self.lock();
        tables.stamps.remove(id);
        tables.leave(id, None);
    }

    /// The record has been removed from this agent.
    pub(crate) fn removed(&self, agent: Agent, id: &str) {
        let mut tables = self.lock();
        let place = (agent, Arc::from(id));
        if tables.places.get(&place).is_some_and(|placement| placement.standing == Standing::Left) {
            tables.remove(&place);
        }
    }

    /// Records that should not be there any more, by agent.
    pub(crate) fn left(&self) -> Vec<Leftover> {
        let tables = self.lock();
        let left = tables.places.iter().filter(|(_, placement)| placement.standing == Standing::Left);
        left.map(|((agent, id), placement)| Leftover {
            agent: *agent,
            id: id.clone(),
            service: placement.service.clone(),
        })
        .collect()
    }

    /// Whether the record should be with this agent.
    pub(crate) fn wants(&self, agent: Agent, id: &str) -> bool {
        self.lock().wants(&(agent, Arc::from(id)))
    }

    /// Whether the record should be with any agent.
    pub(crate) fn is_wanted(&self, id: &str) -> bool {
        let tables = self.lock();
        tables.agents().any(|agent| tables.wants(&(agent, Arc::from(id))))
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
        here.find(|(_, placement)| placement.standing == Standing::Wanted).map(|((_, id), _)| id.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        lock(&self.tables)
    }
}

impl Tables {
    fn agents(&self) -> std::ops::RangeInclusive<Agent> {
        0..=self.places.keys().next_back().map_or(0, |(agent, _)| *agent)
    }

    fn wants(&self, place: &(Agent, Arc<str>)) -> bool {
        self.places.get(place).is_some_and(|placement| placement.standing == Standing::Wanted)
    }

    fn leave(&mut self, id: &str, but: Option<Agent>) {
        for agent in self.agents().filter(|agent| Some(*agent) != but) {
            let place = (agent, Arc::from(id));
            if !self.wants(&place) {
                continue;
            }
            if self.left >= LEFT_AT_MOST {
                self.places.remove(&place);
            } else if let Some(placement) = self.places.get_mut(&place) {
                placement.standing = Standing::Left;
                self.left += 1;
            }
        }
    }

    fn remove(&mut self, place: &(Agent, Arc<str>)) -> Option<Placement> {
        let placement = self.places.remove(place)?;
        self.left -= usize::from(placement.standing == Standing::Left);
        Some(placement)
    }
}

impl Writing<'_> {
    /// The agent has taken the record, with this token.
    pub(crate) fn done(mut self, token: TokenVersion) {
        self.token = Some(token);
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if let Some(placement) = self.placements.lock().places.get_mut(&self.place) {
            placement.given_up = self.token.is_none().then(Instant::now);
            placement.token = self.token;
        }
    }
}

#[cfg(test)]
mod tests {
    use discox_core::record::Incarnation;

    use super::*;

    fn left(placements: &Placements) -> Vec<(Agent, Arc<str>)> {
        placements.left().into_iter().map(|left| (left.agent, left.id)).collect()
    }

    #[test]
    fn a_record_that_moved_is_left_behind_until_it_is_removed() {
        let (placements, stamp) = (Placements::default(), Stamp::after(None, Incarnation::new()));
        placements.begin(0, "demo", "a", &stamp);
        placements.begin(1, "demo", "a", &stamp);
        assert!(left(&placements).is_empty(), "it may be needed there until it is registered elsewhere");
        placements.registered(1, "a");
        assert_eq!(left(&placements), [(0, Arc::from("a"))]);
        assert!(placements.wants(1, "a") && !placements.wants(0, "a") && placements.is_wanted("a"));
        placements.removed(0, "a");
        placements.removed(1, "a");
        assert!(left(&placements).is_empty() && placements.wants(1, "a"), "what is wanted is not forgotten");
        placements.unwanted("a");
        assert_eq!(left(&placements), [(1, Arc::from("a"))]);
        assert_eq!(placements.stamp("a"), None);
        assert!(!placements.is_wanted("a"));
    }

    /// Each registration that lives keeps its stamp: without it, it would take itself for superseded.
    #[test]
    fn no_stamp_of_a_live_registration_is_forgotten_and_what_was_left_is_bounded() {
        let placements = Placements::default();
        let live: Vec<_> = (0..=LEFT_AT_MOST).map(|number| number.to_string()).collect();
        for id in &live {
            placements.begin(0, "demo", id, &Stamp::after(None, Incarnation::new()));
        }
        assert!(live.iter().all(|id| placements.stamp(id).is_some()));
        for id in &live {
            placements.unwanted(id);
        }
        assert_eq!(placements.left().len(), LEFT_AT_MOST);
        assert!(placements.lock().stamps.is_empty() && placements.lock().places.len() == LEFT_AT_MOST);
        for left in placements.left() {
            placements.removed(left.agent, &left.id);
        }
        assert_eq!(placements.lock().left, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_was_given_up_is_known_until_the_next_one_is_done() {
        let (placements, stamp) = (Placements::default(), Stamp::after(None, Incarnation::new()));
        placements.begin(0, "demo", "a", &stamp);
        assert_eq!(placements.given_up(0, "a"), None);
        drop(placements.writing(0, "a"));
        assert_eq!((placements.given_up(0, "a"), placements.token(0, "a")), (Some(Instant::now()), None));
        placements.writing(0, "a").done(3);
        assert_eq!((placements.given_up(0, "a"), placements.token(0, "a")), (None, Some(3)));
        placements.denied(0, "a");
        assert_eq!(placements.token(0, "a"), None);
    }

    #[tokio::test]
    async fn the_first_wanted_record_is_waited_for() {
        let (placements, stamp) = (Placements::default(), Stamp::after(None, Incarnation::new()));
        placements.begin(0, "demo", "elsewhere", &stamp);
        let begin = async { placements.begin(1, "demo", "here", &stamp) };
        let (id, ()) = tokio::join!(placements.any_wanted(1), begin);
        assert_eq!(&*id, "here");
    }
}
