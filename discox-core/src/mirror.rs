//! The last known set of a service: the only diff, and the grace after an outage.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    ConnectionConfig, Snapshot as Shown, Update,
    backend::{Budget, Change, Exceeded, Snapshot},
    table::{Entry, Place},
};

/// After a further outage late in a grace, removals are still held this long, so that registrars can
/// come back: several backoffs of a second, and a heart beat.
const SETTLE: Duration = Duration::from_secs(5);

/// What the cacher has been told, and the removals that it has not been told yet.
///
/// All times below are *reachable time*: a stopwatch that runs only while the registry can be
/// reached, so that an outage pauses every clock and restarts none.
#[derive(Debug)]
pub(crate) struct Mirror {
    shown: Arc<Shown>,
    /// Shown, but missing from the registry: until when each is held.
    held: HashMap<Arc<str>, Duration>,
    grace: Duration,
    grace_ends: Duration,
    /// When the registry has settled after the last outage.
    settled: Duration,
    reachable: Stopwatch,
    /// For what is shown: twice a list's, since a list may follow another whose records are still held.
    budget: Budget,
    exceeded: Option<Exceeded>,
}

impl Mirror {
    pub(crate) fn new(grace: Duration, settings: &ConnectionConfig) -> Self {
        let twice = |limit: usize| limit.saturating_mul(2);
        Self {
            shown: Arc::default(),
            held: HashMap::new(),
            grace,
            grace_ends: Duration::ZERO,
            settled: Duration::ZERO,
            reachable: Stopwatch::default(),
            budget: Budget::of(twice(settings.max_endpoints), twice(settings.max_service_bytes)),
            exceeded: None,
        }
    }

    /// The limit that the last change exceeded, if it did: what was beyond it has been left out.
    pub(crate) fn exceeded(&mut self) -> Option<Exceeded> {
        self.exceeded.take()
    }

    pub(crate) fn len(&self) -> usize {
        self.shown.len()
    }

    /// What the cacher has been told, all in all.
    pub(crate) fn shown(&self) -> &Arc<Shown> {
        &self.shown
    }

    /// How many removals are held, and how much of the grace is left.
    pub(crate) fn holding(&self, now: Instant) -> (usize, Duration) {
        (self.held.len(), self.held_until().saturating_sub(self.reachable.read(now)))
    }

    /// The registry was lost: a grace begins, unless one is running; its clock pauses.
    pub(crate) fn lost(&mut self, now: Instant) {
        let reached = self.reachable.read(now);
        if !self.shown.is_empty() {
            if reached >= self.grace_ends {
                self.grace_ends = reached + self.grace;
            }
            self.settled = reached + SETTLE.min(self.grace);
        }
        self.reachable.stop(now);
    }

    /// A new first list has been read: the registry can be reached, and this is what it holds.
    pub(crate) fn reset(&mut self, list: Snapshot, now: Instant) -> Vec<Update> {
        self.reachable.start(now);
        self.replace(list, now)
    }

    /// Changes that followed. Of several of one endpoint the last counts.
    pub(crate) fn change(&mut self, mut changes: Vec<Change>, now: Instant) -> Vec<Update> {
        // Most come alone, and then there is nothing to be sorted.
        if changes.len() == 1
            && let Some(only) = changes.pop()
        {
            return self.change_one(only, now);
        }
        let mut updates = Vec::with_capacity(changes.len());
        let mut last: HashMap<Arc<str>, Option<Bytes>> = HashMap::with_capacity(changes.len());
        for change in changes {
            match change {
                Change::Put(endpoint, attr) => drop(last.insert(endpoint, Some(attr))),
                Change::Delete(endpoint) => drop(last.insert(endpoint, None)),
                Change::Reset(list) => {
                    last.clear();
                    updates.extend(self.replace(list, now));
                }
            }
        }
        let (puts, deletes): (Vec<_>, Vec<_>) = last.into_iter().partition(|(_, attr)| attr.is_some());
        updates.extend(puts.into_iter().filter_map(|(endpoint, attr)| self.put(endpoint, attr?)));
        updates.extend(deletes.into_iter().filter_map(|(endpoint, _)| self.delete(endpoint, now)));
        adds_first(updates)
    }

    fn change_one(&mut self, change: Change, now: Instant) -> Vec<Update> {
        match change {
            Change::Put(endpoint, attr) => self.put(endpoint, attr).into_iter().collect(),
            Change::Delete(endpoint) => self.delete(endpoint, now).into_iter().collect(),
            Change::Reset(list) => self.replace(list, now),
        }
    }

    /// When the next held removal is due, if the registry stays reachable.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let reached = self.reachable.read(now);
        let next = self.held.values().min().filter(|_| self.reachable.is_running())?;
        Some(now + next.saturating_sub(reached))
    }

    /// The held removals that are due.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<Update> {
        let reached = self.reachable.read(now);
        let due: Vec<_> = self
            .held
            .iter()
            .filter(|(_, until)| **until <= reached)
            .map(|(endpoint, _)| endpoint.clone())
            .collect();
        due.into_iter().filter_map(|endpoint| self.remove(&endpoint)).collect()
    }

    fn replace(&mut self, list: Snapshot, now: Instant) -> Vec<Update> {
        let mut present = vec![false; self.shown.len()];
        let more = list.len().saturating_sub(present.len());
        if more > 0 {
            Arc::make_mut(&mut self.shown).reserve(list.len());
        }
        let mut updates = Vec::with_capacity(more);
        for (endpoint, attr) in list {
            let place = self.shown.place(&endpoint);
            if let Some(present) = place.position.and_then(|position| present.get_mut(position)) {
                *present = true;
            }
            updates.extend(self.put_at(place, endpoint, attr));
        }
        let missing = self.shown.iter().zip(present).filter(|(_, present)| !present);
        let missing: Vec<_> = missing.map(|(entry, _)| entry.endpoint.clone()).collect();
        updates.extend(missing.into_iter().filter_map(|endpoint| self.delete(endpoint, now)));
        updates
    }

    fn put(&mut self, endpoint: Arc<str>, attr: Bytes) -> Option<Update> {
        self.put_at(self.shown.place(&endpoint), endpoint, attr)
    }

    fn put_at(&mut self, place: Place, endpoint: Arc<str>, attr: Bytes) -> Option<Update> {
        if !self.held.is_empty() {
            self.held.remove(&endpoint);
        }
        let known = self.shown.at(place).map(Entry::attr);
        if known == Some(&attr) {
            return None;
        }
        if let Some(known) = known {
            self.budget.give_back(size(&endpoint, known));
        }
        if let Err(exceeded) = self.budget.take(size(&endpoint, &attr)) {
            self.exceeded = Some(exceeded);
            // What is known stays; it has been paid for before.
            if let Some(known) = known {
                let _ = self.budget.take(size(&endpoint, known));
            }
            return None;
        }
        Arc::make_mut(&mut self.shown).put_at(place, endpoint.clone(), attr.clone());
        Some(Update::Put(endpoint, attr))
    }

    fn delete(&mut self, endpoint: Arc<str>, now: Instant) -> Option<Update> {
        let until = self.held_until();
        if self.reachable.read(now) >= until {
            return self.remove(&endpoint);
        }
        if self.shown.place(&endpoint).position.is_some() {
            // Once held, a further outage must not prolong it.
            self.held.entry(endpoint).or_insert(until);
        }
        None
    }

    /// Until when a removal that is told now is held.
    fn held_until(&self) -> Duration {
        self.grace_ends.max(self.settled)
    }

    fn remove(&mut self, endpoint: &Arc<str>) -> Option<Update> {
        self.held.remove(endpoint);
        let attr = self.shown.attr(endpoint)?;
        self.budget.give_back(size(endpoint, attr));
        Arc::make_mut(&mut self.shown).delete(endpoint);
        Some(Update::Delete(endpoint.clone()))
    }
}

/// What a record takes of a budget.
fn size(endpoint: &str, attr: &[u8]) -> usize {
    endpoint.len() + attr.len()
}

/// Puts before deletes, so that a reader never sees a false empty list.
fn adds_first(mut updates: Vec<Update>) -> Vec<Update> {
    updates.sort_by_key(|update| matches!(update, Update::Delete(_)));
    updates
}

/// Time that passed while it ran.
#[derive(Debug, Default)]
struct Stopwatch {
    before: Duration,
    started: Option<Instant>,
}

impl Stopwatch {
    fn is_running(&self) -> bool {
        self.started.is_some()
    }

    fn read(&self, now: Instant) -> Duration {
        self.before + self.started.map_or(Duration::ZERO, |started| now.saturating_duration_since(started))
    }

    fn start(&mut self, now: Instant) {
        self.started.get_or_insert(now);
    }

    fn stop(&mut self, now: Instant) {
        self.before = self.read(now);
        self.started = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn list(endpoints: &[&str]) -> Snapshot {
        endpoints.iter().map(|endpoint| (Arc::from(*endpoint), Bytes::from_static(b"x"))).collect()
    }

    fn put(endpoint: &str, attr: &'static str) -> Update {
        Update::Put(endpoint.into(), Bytes::from_static(attr.as_bytes()))
    }

    fn delete(endpoint: &str) -> Update {
        Update::Delete(endpoint.into())
    }

    fn mirror_of(endpoints: &[&str], now: Instant) -> Mirror {
        let mut mirror = Mirror::new(15 * SECOND, &ConnectionConfig::default());
        assert_eq!(mirror.reset(list(endpoints), now).len(), endpoints.len());
        mirror
    }

    #[test]
    fn only_real_differences_are_told_adds_first() {
        let now = Instant::now();
        let mut mirror = mirror_of(&["a:1", "b:1"], now);
        let changes = vec![
            Change::Delete("a:1".into()),
            Change::Put("b:1".into(), Bytes::from_static(b"x")),
            Change::Delete("unknown:1".into()),
            Change::Put("c:1".into(), Bytes::from_static(b"1")),
            Change::Put("c:1".into(), Bytes::from_static(b"2")),
        ];
        assert_eq!(mirror.change(changes, now), [put("c:1", "2"), delete("a:1")]);
    }

    #[test]
    fn a_delete_followed_by_a_put_is_one_update_or_none() {
        let now = Instant::now();
        let mut mirror = mirror_of(&["a:1"], now);
        let again =
            |attr| vec![Change::Delete("a:1".into()), Change::Put("a:1".into(), Bytes::from_static(attr))];
        assert_eq!(mirror.change(again(b"x"), now), []);
        assert_eq!(mirror.change(again(b"y"), now), [put("a:1", "y")]);
    }

    #[test]
    fn a_resync_without_an_outage_removes_at_once() {
        let now = Instant::now();
        let mut mirror = mirror_of(&["a:1", "b:1"], now);
        assert_eq!(mirror.reset(list(&["b:1", "c:1"]), now), [put("c:1", "x"), delete("a:1")]);
    }

    #[test]
    fn after_an_outage_removals_wait_for_the_grace() {
        let mut now = Instant::now();
        let mut mirror = mirror_of(&["a:1", "b:1"], now);
        mirror.lost(now);
        now += 100 * SECOND;
        assert_eq!(mirror.reset(list(&[]), now), []);
        assert_eq!(mirror.change(vec![Change::Put("a:1".into(), Bytes::from_static(b"x"))], now), []);
        now += 14 * SECOND;
        assert_eq!(mirror.release(now), []);
        assert_eq!(mirror.due(now), Some(now + SECOND));
        now += SECOND;
        assert_eq!(mirror.release(now), [delete("b:1")]);
        assert_eq!(mirror.change(vec![Change::Delete("a:1".into())], now), [delete("a:1")]);
    }

    #[test]
    fn a_flapping_connection_pauses_the_grace_and_still_ends_it() {
        let mut now = Instant::now();
        let mut mirror = mirror_of(&["a:1"], now);
        mirror.lost(now);
        for _ in 0..4 {
            now += 3 * SECOND;
            assert_eq!(mirror.reset(list(&[]), now), []);
            now += 3 * SECOND;
            assert_eq!(mirror.release(now), []);
            mirror.lost(now);
            assert_eq!(mirror.due(now), None);
        }
        now += 3 * SECOND;
        mirror.reset(list(&[]), now);
        now += 3 * SECOND;
        assert_eq!(mirror.release(now), [delete("a:1")]);
    }

    #[test]
    fn a_second_outage_late_in_the_grace_still_gives_time_to_settle() {
        let mut now = Instant::now();
        let mut mirror = mirror_of(&["a:1"], now);
        mirror.lost(now);
        mirror.reset(list(&["a:1"]), now);
        now += 14 * SECOND;
        mirror.lost(now);
        mirror.reset(list(&[]), now);
        now += 2 * SECOND;
        assert_eq!(mirror.release(now), []);
        now += 3 * SECOND;
        assert_eq!(mirror.release(now), [delete("a:1")]);
    }

    #[test]
    fn what_is_beyond_the_limits_is_left_out_and_what_is_known_stays() {
        let now = Instant::now();
        let limits = ConnectionConfig { max_endpoints: 1, max_service_bytes: 8, ..Default::default() };
        let mut mirror = Mirror::new(15 * SECOND, &limits);
        assert_eq!(mirror.reset(list(&["a:1", "b:1", "c:1"]), now), [put("a:1", "x"), put("b:1", "x")]);
        assert_eq!(mirror.exceeded(), Some(Exceeded::Endpoints(2)));
        let long = Change::Put("a:1".into(), Bytes::from_static(b"much too long"));
        assert_eq!(mirror.change(vec![long], now), []);
        assert_eq!(mirror.exceeded(), Some(Exceeded::Bytes(16)));
        let changes = vec![Change::Delete("b:1".into()), Change::Put("a:1".into(), Bytes::from_static(b"y"))];
        assert_eq!(mirror.change(changes, now), [put("a:1", "y"), delete("b:1")]);
        assert_eq!(mirror.change(vec![Change::Put("c:1".into(), Bytes::from_static(b"x"))], now).len(), 1);
        assert_eq!(mirror.exceeded(), None);
    }

    #[test]
    fn what_expires_right_after_a_second_outage_is_held_too() {
        let mut now = Instant::now();
        let mut mirror = mirror_of(&["a:1"], now);
        mirror.lost(now);
        mirror.reset(list(&["a:1"]), now);
        now += 14 * SECOND;
        mirror.lost(now);
        mirror.reset(list(&["a:1"]), now);
        now += 2 * SECOND;
        assert_eq!(mirror.change(vec![Change::Delete("a:1".into())], now), []);
        assert_eq!(mirror.change(vec![Change::Put("a:1".into(), Bytes::from_static(b"x"))], now), []);
        now += 3 * SECOND;
        assert_eq!(mirror.change(vec![Change::Delete("a:1".into())], now), [delete("a:1")]);
    }

    #[test]
    fn no_grace_means_none() {
        let now = Instant::now();
        let mut mirror = Mirror::new(Duration::ZERO, &ConnectionConfig::default());
        mirror.reset(list(&["a:1"]), now);
        mirror.lost(now);
        assert_eq!(mirror.reset(list(&[]), now), [delete("a:1")]);
    }
}
