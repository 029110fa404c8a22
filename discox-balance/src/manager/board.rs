//! The table in the making: who sits where, and the numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::SeqCst},
};

use discox_core::Snapshot;

use super::member::Seat;
use crate::{
    Connection,
    ready::Ready,
    set::Set,
    status::Census,
    table::{Phase, Table},
};

pub(super) struct Board<C> {
    near: Set<Arc<Ready<C>>>,
    far: Set<Arc<Ready<C>>>,
    pub(super) draining: BTreeMap<u64, Arc<Ready<C>>>,
    /// Closed connections whose requests have not ended yet.
    leaving: Vec<Arc<Ready<C>>>,
    pub(super) ejected: BTreeSet<u64>,
    /// How many endpoints are chosen.
    pub(super) chosen: usize,
    /// The weight of those of our own zone, ready or not.
    pub(super) near_weight: u64,
}

impl<C: Connection> Board<C> {
    pub(super) fn new() -> Self {
        Self {
            near: Set::default(),
            far: Set::default(),
            draining: BTreeMap::new(),
            leaving: Vec::new(),
            ejected: BTreeSet::new(),
            chosen: 0,
            near_weight: 0,
        }
    }

    pub(super) fn seated(&self) -> usize {
        self.near.len() + self.far.len()
    }

    pub(super) fn seat(&mut self, ready: Arc<Ready<C>>, is_near: bool, weight: u32) -> Seat {
        Seat { is_near, position: self.side(is_near).push(ready, weight) }
    }

    /// Frees a seat. The id is of one that has taken it over: its seat is this one now.
    pub(super) fn unseat(&mut self, seat: Seat) -> Option<u64> {
        self.side(seat.is_near).remove(seat.position).map(|moved| moved.id)
    }

    pub(super) fn reweigh(&mut self, seat: Seat, weight: u32) {
        self.side(seat.is_near).reweigh(seat.position, weight);
    }

    /// A connection is closed: its requests count until they end.
    pub(super) fn retire(&mut self, ready: Arc<Ready<C>>) {
        ready.is_draining.store(true, SeqCst);
        if !ready.is_idle() {
            self.leaving.push(ready);
        }
    }

    /// Forgets closed connections whose requests have ended. Whether there were any.
    pub(super) fn sweep(&mut self) -> bool {
        let before = self.leaving.len();
        self.leaving.retain(|ready| !ready.is_idle());
        self.leaving.len() != before
    }

    /// The table as it is now.
    pub(super) fn table(&mut self, source: Arc<Snapshot>, phase: Phase) -> Table<C> {
        self.near.seal();
        self.far.seal();
        let ready = self.seated();
        let census = Census {
            discovered: source.len(),
            in_subset: self.chosen,
            connecting: self.chosen.saturating_sub(ready + self.ejected.len()),
            ready,
            ejected: self.ejected.len(),
            draining: self.draining.len(),
        };
        Table {
            near_share: Table::<C>::share(self.near.total(), self.near_weight),
            near: self.near.clone(),
            far: self.far.clone(),
            draining: self.draining.values().chain(&self.leaving).cloned().collect(),
            source,
            phase,
            census,
        }
    }

    fn side(&mut self, is_near: bool) -> &mut Set<Arc<Ready<C>>> {
        if is_near { &mut self.near } else { &mut self.far }
    }
}
