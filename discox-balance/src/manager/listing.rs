//! From lists to members: who is listed, who is chosen, what an attr says.

use std::sync::Arc;

use discox_core::{Entry, Snapshot, Update};

use super::{
    Manager,
    member::{Link, Member},
};
use crate::{Connect, Target, Traits, attr::in_units, shared::count};

impl<C: Connect> Manager<C> {
    /// Goes on to a newer list.
    pub(super) fn follow(&mut self, list: Arc<Snapshot>) {
        let from = std::mem::replace(&mut self.source, list.clone());
        let mut touched = Vec::new();
        for change in list.changes_since(&from) {
            match change {
                Update::Put(endpoint, attr) => self.put(&Entry::new(endpoint, attr), &mut touched),
                Update::Delete(endpoint) => {
                    self.skipped.remove(&*endpoint);
                    self.unlist(&endpoint, &mut touched);
                }
                // There is none in this version of core, which is pinned.
                _ => {}
            }
        }
        for (id, is_chosen) in self.subset.settle(&touched) {
            self.choose(id, is_chosen);
        }
        self.has_changed = true;
    }

    fn put(&mut self, entry: &Entry, touched: &mut Vec<(u64, bool)>) {
        let options = &self.shared.options;
        if options.filter.as_ref().is_some_and(|is_wanted| !is_wanted(entry)) {
            return self.unlist(entry.endpoint(), touched);
        }
        let mut traits = Traits::parse(entry.attr());
        if let Some(weigh) = &options.weigh {
            traits.weight = in_units(weigh(entry));
        }
        let Some(id) = self.id_of(entry.endpoint()) else { return };
        self.describe(id, traits, entry);
        let Some(member) = self.members.get_mut(&id) else { return };
        if !std::mem::replace(&mut member.is_listed, true) {
            self.listed += 1;
            self.subset.insert(id, entry.endpoint());
            touched.push((id, true));
        }
    }

    fn unlist(&mut self, endpoint: &str, touched: &mut Vec<(u64, bool)>) {
        let Some(id) = self.ids.get(endpoint).copied() else { return };
        let Some(member) = self.members.get_mut(&id) else { return };
        if std::mem::replace(&mut member.is_listed, false) {
            self.listed -= 1;
            self.subset.remove(id, endpoint);
            touched.push((id, false));
        }
    }

    /// The member of this name, new if need be. None for what is no target, which is told once.
    fn id_of(&mut self, endpoint: &str) -> Option<u64> {
        if let Some(id) = self.ids.get(endpoint) {
            return Some(*id);
        }
        let Some(target) = Target::parse(endpoint) else {
            if self.skipped.insert(endpoint.into()) {
                count(&self.shared.counters.skipped);
                tracing::warn!(service = self.shared.name(), endpoint, "skipped: not host:port");
            }
            return None;
        };
        let id = self.next_id;
        self.next_id += 1;
        self.ids.insert(endpoint.into(), id);
        self.members.insert(id, Member::new(target));
        Some(id)
    }

    /// What the attr says, applied in place.
    fn describe(&mut self, id: u64, traits: Traits, entry: &Entry) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.attr = entry.attr().clone();
        if let Link::Open(ready, _) | Link::Draining(ready, _) = &member.link {
            ready.attr.store(Arc::new(member.attr.clone()));
        }
        let old = std::mem::replace(&mut member.traits, traits.clone());
        let (was_near, is_near) = (self.is_near(&old), self.is_near(&traits));
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.is_chosen {
            let share = |is_near: bool, weight: u32| if is_near { u64::from(weight) } else { 0 };
            self.board.near_weight -= share(was_near, old.weight);
            self.board.near_weight += share(is_near, traits.weight);
        }
        match member.seat {
            Some(_) if was_near != is_near => {
                self.unseat(id);
                self.seat(id);
            }
            Some(seat) if old.weight != traits.weight => self.board.reweigh(seat, traits.weight),
            _ => {}
        }
    }

    /// An endpoint comes into use, or goes out of it.
    fn choose(&mut self, id: u64, is_chosen: bool) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if std::mem::replace(&mut member.is_chosen, is_chosen) == is_chosen {
            return;
        }
        let traits = member.traits.clone();
        let weight = if self.is_near(&traits) { u64::from(traits.weight) } else { 0 };
        if is_chosen {
            self.board.chosen += 1;
            self.board.near_weight += weight;
            self.take_up(id);
        } else {
            self.board.chosen -= 1;
            self.board.near_weight -= weight;
            self.let_go(id);
        }
    }

    pub(super) fn is_near(&self, traits: &Traits) -> bool {
        let own = self.shared.options.zone.as_deref();
        own.is_none_or(|own| traits.zone() == Some(own))
    }
}
