//! The last known set of a service: the only diff, and the grace after an outage.
//!
//! Removals are held by a clock that runs only while the registry can be reached. An outage pauses it:
//!
//! ```text
//! registry    reached ──┐ lost          ┌─ reached ─┐ lost     ┌─ reached ────────────
//! clock       runs      │ stands        │ runs      │ stands   │ runs
//! removals    told      └─ grace begins │ held      │          │ held        │ told
//!                          (15 s)       └── 10 s ───┘          └──── 5 s ────┘
//! ```
//!
//! An endpoint is in one of three states:
//!
//! - *shown*: in the registry. Left when it is missing: told at once while no grace runs, held otherwise.
//! - *held*: missing, but still shown. Left when it is back (nothing is told), or when its time on the clock has
//!   come (its removal is told). A further outage late in a grace prolongs the grace for what is missing after it,
//!   by [`SETTLE`], but not for what is held already.
//! - *unknown*: left by a list or a change that has it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    ConnectionConfig, Snapshot, Update,
    backend::{Change, Exceeded, Limits, Listing},
    cache::{self, Place},
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
    shown: Arc<Snapshot>,
    /// A list has been read: what is shown was in the registry.
    is_listed: bool,
    /// Shown, but missing from the registry: until when each is held.
    held: HashMap<Arc<str>, Duration>,
    grace: Duration,
    /// Until when removals are held.
    grace_ends: Duration,
    /// Until when removals are held at least, since the last outage.
    settled: Duration,
    reachable: Stopwatch,
    /// Limits what is shown: to twice the limit of a list, since the records of an earlier list may be held beside
    /// those of a new one.
    budget: Limits,
    exceeded: Option<Exceeded>,
    /// What became of removals since the last [`Mirror::take_holds`]; none where nobody asks.
    holds: Option<Vec<Hold>>,
}

/// What became of a removal that the grace holds. That its time has come is told by [`Mirror::release`].
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Hold {
    /// It is held, for so long if the registry stays reachable.
    Begun(Arc<str>, Duration),
    /// The endpoint is back.
    Back(Arc<str>),
    /// It was let go before its time, to make room.
    LetGo(Arc<str>),
}

impl Mirror {
    /// `shown` is what the cacher shows already, by an earlier discovery: no grace holds it.
    pub(crate) fn new(grace: Duration, settings: &ConnectionConfig, shown: Arc<Snapshot>) -> Self {
        let twice = |limit: usize| limit.saturating_mul(2);
        let mut budget = Limits::of(twice(settings.max_endpoints), twice(settings.max_service_bytes));
        for entry in &*shown {
            // Within the limits unless another discovery had higher ones: then the first list sets it right.
            let _ = budget.take(size(&entry.endpoint, &entry.attr));
        }
        Self {
            shown,
            is_listed: false,
            held: HashMap::new(),
            grace,
            grace_ends: Duration::ZERO,
            settled: Duration::ZERO,
            reachable: Stopwatch::default(),
            budget,
            exceeded: None,
            holds: None,
        }
    }

    /// Takes note of what becomes of held removals, for [`Mirror::take_holds`].
    pub(crate) fn noting_holds(mut self, noting: bool) -> Self {
        self.holds = noting.then(Vec::new);
        self
    }

    /// What became of held removals since the last call.
    pub(crate) fn take_holds(&mut self) -> Vec<Hold> {
        self.holds.as_mut().map_or_else(Vec::new, std::mem::take)
    }

    fn note(&mut self, hold: impl FnOnce() -> Hold) {
        if let Some(holds) = &mut self.holds {
            holds.push(hold());
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
    pub(crate) fn shown(&self) -> &Arc<Snapshot> {
        &self.shown
    }

    /// How many removals are held, and how much of the grace is left.
    pub(crate) fn holding(&self, now: Instant) -> (usize, Duration) {
        (self.held.len(), self.held_until().saturating_sub(self.reachable.read(now)))
    }

    /// The registry was lost: a grace begins, unless one is running; its clock pauses.
    pub(crate) fn lost(&mut self, now: Instant) {
        let reached = self.reachable.read(now);
        if self.is_listed && !self.shown.is_empty() {
            if reached >= self.grace_ends {
                self.grace_ends = reached + self.grace;
            }
            self.settled = reached + SETTLE.min(self.grace);
        }
        self.reachable.stop(now);
    }

    /// A new first list has been read: the registry can be reached, and this is what it holds.
    pub(crate) fn reset(&mut self, list: Listing, now: Instant) -> Vec<Update> {
        self.reachable.start(now);
        self.is_listed = true;
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
        let mut list = None;
        let mut last: HashMap<Arc<str>, Option<Bytes>> = HashMap::with_capacity(changes.len());
        for change in changes {
            match change {
                Change::Put(endpoint, attr) => drop(last.insert(endpoint, Some(attr))),
                Change::Delete(endpoint) => drop(last.insert(endpoint, None)),
                Change::Reset(new) => {
                    last.clear();
                    list = Some(new);
                }
            }
        }
        if let Some(mut list) = list {
            list.retain(|(endpoint, _)| !last.contains_key(endpoint));
            list.extend(last.into_iter().filter_map(|(endpoint, attr)| Some((endpoint, attr?))));
            return self.replace(list, now);
        }
        let (puts, deletes): (Vec<_>, Vec<_>) = last.into_iter().partition(|(_, attr)| attr.is_some());
        // Back: nothing of this batch is let go to make room for the rest of it.
        for (endpoint, _) in &puts {
            self.back(endpoint);
        }
        let mut updates = Vec::with_capacity(puts.len() + deletes.len());
        for (endpoint, attr) in puts {
            updates.extend(attr.into_iter().flat_map(|attr| self.put(&endpoint, &attr)));
        }
        updates.extend(deletes.into_iter().filter_map(|(endpoint, _)| self.delete(endpoint, now)));
        adds_first(updates)
    }

    fn change_one(&mut self, change: Change, now: Instant) -> Vec<Update> {
        match change {
            Change::Put(endpoint, attr) => self.put(&endpoint, &attr),
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

    fn replace(&mut self, list: Listing, now: Instant) -> Vec<Update> {
        let mut present = vec![false; self.shown.len()];
        let more = list.len().saturating_sub(present.len());
        if more > 0 {
            Arc::make_mut(&mut self.shown).reserve(list.len());
        }
        let mut updates = Vec::with_capacity(more);
        let mut left_out = Vec::new();
        for (endpoint, attr) in list {
            let place = self.shown.place(&endpoint);
            if let Some(present) = place.position.and_then(|position| present.get_mut(position)) {
                *present = true;
            }
            match self.put_at(place, &endpoint, &attr) {
                Ok(update) => updates.extend(update),
                Err(_) => left_out.push((endpoint, attr)),
            }
        }
        let missing = self.shown.iter().zip(present).filter(|(_, present)| !present);
        let missing: Vec<_> = missing.map(|(entry, _)| entry.endpoint.clone()).collect();
        updates.extend(missing.into_iter().filter_map(|endpoint| self.delete(endpoint, now)));
        for (endpoint, attr) in left_out {
            updates.extend(self.put(&endpoint, &attr));
        }
        adds_first(updates)
    }

    /// Where there is no room, all that is held is let go: what the registry has counts for more. Otherwise what is
    /// held would keep out what is there, the limit would be an outage, and an outage prolongs the holding.
    fn put(&mut self, endpoint: &Arc<str>, attr: &Bytes) -> Vec<Update> {
        if let Ok(update) = self.put_at(self.shown.place(endpoint), endpoint, attr) {
            return update.into_iter().collect();
        }
        let held: Vec<_> = self.held.keys().cloned().collect();
        held.iter().for_each(|endpoint| self.note(|| Hold::LetGo(endpoint.clone())));
        let mut updates: Vec<_> = held.iter().filter_map(|endpoint| self.remove(endpoint)).collect();
        match self.put_at(self.shown.place(endpoint), endpoint, attr) {
            Ok(update) => updates.extend(update),
            Err(exceeded) => self.exceeded = Some(exceeded),
        }
        adds_first(updates)
    }

    /// Puts it where it belongs. Where there is no room, what is known stays.
    fn put_at(
        &mut self,
        place: Place,
        endpoint: &Arc<str>,
        attr: &Bytes,
    ) -> Result<Option<Update>, Exceeded> {
        self.back(endpoint);
        let known = self.shown.at(place).map(cache::Entry::attr);
        if known == Some(attr) {
            return Ok(None);
        }
        if let Some(known) = known {
            self.budget.give_back(size(endpoint, known));
        }
        if let Err(exceeded) = self.budget.take(size(endpoint, attr)) {
            // It has been paid for before.
            if let Some(known) = known {
                let _ = self.budget.take(size(endpoint, known));
            }
            return Err(exceeded);
        }
        Arc::make_mut(&mut self.shown).put_at(place, endpoint.clone(), attr.clone());
        Ok(Some(Update::Put(endpoint.clone(), attr.clone())))
    }

    fn delete(&mut self, endpoint: Arc<str>, now: Instant) -> Option<Update> {
        let until = self.held_until();
        if self.reachable.read(now) >= until {
            return self.remove(&endpoint);
        }
        if self.shown.place(&endpoint).position.is_some() {
            // Once held, a further outage must not prolong it.
            if let Entry::Vacant(free) = self.held.entry(endpoint.clone()) {
                free.insert(until);
                let left = until.saturating_sub(self.reachable.read(now));
                self.note(|| Hold::Begun(endpoint, left));
            }
        }
        None
    }

    /// The endpoint is in the registry: nothing holds it any more.
    fn back(&mut self, endpoint: &Arc<str>) {
        if !self.held.is_empty() && self.held.remove(endpoint).is_some() {
            self.note(|| Hold::Back(endpoint.clone()));
        }
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

/// Puts before deletes, so that a reader never sees a false empty list. No endpoint may be in both.
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

    fn list(endpoints: &[&str]) -> Listing {
        endpoints.iter().map(|endpoint| (Arc::from(*endpoint), Bytes::from_static(b"x"))).collect()
    }

    fn put(endpoint: &str, attr: &'static str) -> Update {
        Update::Put(endpoint.into(), Bytes::from_static(attr.as_bytes()))
    }

    fn delete(endpoint: &str) -> Update {
        Update::Delete(endpoint.into())
    }

    fn mirror_of(endpoints: &[&str], now: Instant) -> Mirror {
        let mut mirror = Mirror::new(15 * SECOND, &ConnectionConfig::default(), Arc::default());
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
        let mut mirror = Mirror::new(15 * SECOND, &limits, Arc::default());
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
    fn what_the_registry_has_counts_for_more_than_what_is_held() {
        let now = Instant::now();
        let limits = ConnectionConfig { max_endpoints: 1, max_service_bytes: 8, ..Default::default() };
        let mut mirror = Mirror::new(15 * SECOND, &limits, Arc::default());
        mirror.reset(list(&["a:1", "b:1"]), now);
        mirror.lost(now);
        let mut told = mirror.reset(list(&["c:1"]), now);
        told[1..].sort_by_key(|update| format!("{update:?}"));
        assert_eq!(told, [put("c:1", "x"), delete("a:1"), delete("b:1")]);
        assert_eq!(mirror.exceeded(), None);

        mirror.lost(now);
        mirror.reset(list(&["d:1"]), now);
        let e = Change::Put("e:1".into(), Bytes::from_static(b"x"));
        assert_eq!(mirror.change(vec![e], now), [put("e:1", "x"), delete("c:1")]);
        assert_eq!(mirror.exceeded(), None);
    }

    #[test]
    fn what_follows_a_list_in_one_batch_belongs_to_it() {
        let now = Instant::now();
        let mut mirror = mirror_of(&["a:1", "b:1"], now);
        let batch = vec![
            Change::Reset(list(&["b:1", "c:1"])),
            Change::Put("a:1".into(), Bytes::from_static(b"x")),
            Change::Delete("c:1".into()),
        ];
        assert_eq!(mirror.change(batch, now), []);
        assert_eq!(mirror.shown().len(), 2);
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
    fn what_becomes_of_held_removals_is_noted_where_somebody_asks() {
        let mut now = Instant::now();
        let mut mirror = mirror_of(&["a:1", "b:1"], now).noting_holds(true);
        mirror.lost(now);
        mirror.reset(list(&[]), now);
        let mut begun = mirror.take_holds();
        begun.sort_by_key(|hold| format!("{hold:?}"));
        assert_eq!(begun, ["a:1", "b:1"].map(|endpoint| Hold::Begun(endpoint.into(), 15 * SECOND)));
        mirror.change(vec![Change::Put("a:1".into(), Bytes::from_static(b"x"))], now);
        assert_eq!(mirror.take_holds(), [Hold::Back("a:1".into())]);
        now += 15 * SECOND;
        assert_eq!(mirror.release(now), [delete("b:1")]);
        assert_eq!(mirror.take_holds(), []);
    }

    #[test]
    fn no_grace_means_none() {
        let now = Instant::now();
        let mut mirror = Mirror::new(Duration::ZERO, &ConnectionConfig::default(), Arc::default());
        mirror.reset(list(&["a:1"]), now);
        mirror.lost(now);
        assert_eq!(mirror.reset(list(&[]), now), [delete("a:1")]);
    }
}
