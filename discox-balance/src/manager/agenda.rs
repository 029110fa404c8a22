//! When to look at which endpoint again.

use std::{cmp::Reverse, collections::BinaryHeap};

use tokio::time::Instant;

/// A date may be outdated: whether there is something to do is decided when it comes.
#[derive(Default)]
pub(super) struct Agenda(BinaryHeap<Reverse<(Instant, u64)>>);

impl Agenda {
    pub(super) fn add(&mut self, at: Instant, id: u64) {
        self.0.push(Reverse((at, id)));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop().map(|Reverse((_, id))| id)
    }
}
