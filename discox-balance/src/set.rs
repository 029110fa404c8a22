//! Items with weights, of which one is drawn: cheap to read, and a change copies only one block.

use std::{collections::BTreeMap, sync::Arc};

/// Items a block: about the root of 10,000, where copying a block and the list of blocks cost the same.
const BLOCK: usize = 64;

#[derive(Clone, Debug)]
struct Block<T> {
    items: Vec<T>,
    weights: Vec<u32>,
    /// The sum of the weights up to and including each.
    sums: Vec<u64>,
}

impl<T> Block<T> {
    fn sum_up(&mut self) {
        let mut sum = 0;
        self.sums.clear();
        self.sums.extend(self.weights.iter().map(|weight| {
            sum += u64::from(*weight);
            sum
        }));
    }

    fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }
}

/// A dense list of weighted items; clones share their blocks.
#[derive(Clone, Debug)]
pub(crate) struct Set<T> {
    blocks: Vec<Arc<Block<T>>>,
    /// The sum of the weights up to and including each block; written by [`Set::seal`].
    sums: Vec<u64>,
    len: usize,
    /// How many items have each weight.
    counts: Arc<BTreeMap<u32, usize>>,
    heaviest: u32,
    is_uniform: bool,
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            sums: Vec::new(),
            len: 0,
            counts: Arc::default(),
            heaviest: 0,
            is_uniform: true,
        }
    }
}

impl<T: Clone> Set<T> {
    /// Adds an item at the end and returns its position.
    pub(crate) fn push(&mut self, item: T, weight: u32) -> usize {
        if self.len.is_multiple_of(BLOCK) {
            let empty = Block { items: Vec::with_capacity(BLOCK), weights: Vec::new(), sums: Vec::new() };
            self.blocks.push(Arc::new(empty));
        }
        if let Some(block) = self.blocks.last_mut() {
            let block = Arc::make_mut(block);
            block.items.push(item);
            block.weights.push(weight);
            block.sum_up();
        }
        self.count(None, Some(weight));
        self.len += 1;
        self.len - 1
    }

    /// Takes an item out. The last one takes its place: it is returned.
    pub(crate) fn remove(&mut self, position: usize) -> Option<T> {
        let last = Arc::make_mut(self.blocks.last_mut()?);
        let (item, weight) = (last.items.pop()?, last.weights.pop()?);
        last.sum_up();
        if last.items.is_empty() {
            self.blocks.pop();
        }
        self.len -= 1;
        if position == self.len {
            self.count(Some(weight), None);
            return None;
        }
        let block = Arc::make_mut(self.blocks.get_mut(position / BLOCK)?);
        let slot = position % BLOCK;
        let gone = std::mem::replace(block.weights.get_mut(slot)?, weight);
        *block.items.get_mut(slot)? = item.clone();
        block.sum_up();
        self.count(Some(gone), None);
        Some(item)
    }

    /// Changes the weight of an item in place.
    pub(crate) fn reweigh(&mut self, position: usize, weight: u32) {
        let Some(block) = self.blocks.get_mut(position / BLOCK) else { return };
        let block = Arc::make_mut(block);
        let Some(slot) = block.weights.get_mut(position % BLOCK) else { return };
        let gone = std::mem::replace(slot, weight);
        block.sum_up();
        self.count(Some(gone), Some(weight));
    }

    /// Makes the set ready to be drawn from, after changes.
    pub(crate) fn seal(&mut self) {
        let mut sum = 0;
        self.sums.clear();
        self.sums.extend(self.blocks.iter().map(|block| {
            sum += block.total();
            sum
        }));
        self.heaviest = self.counts.last_key_value().map_or(0, |(weight, _)| *weight);
        self.is_uniform = self.counts.len() <= 1;
    }

    fn count(&mut self, gone: Option<u32>, new: Option<u32>) {
        let counts = Arc::make_mut(&mut self.counts);
        if let Some(weight) = new {
            *counts.entry(weight).or_default() += 1;
        }
        if let Some(weight) = gone
            && let Some(count) = counts.get_mut(&weight)
        {
            *count -= 1;
            if *count == 0 {
                counts.remove(&weight);
            }
        }
    }
}

impl<T> Set<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The sum of all weights.
    pub(crate) fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    pub(crate) fn heaviest(&self) -> u32 {
        self.heaviest
    }

    /// Whether all weights are the same, also if that is 0.
    pub(crate) fn is_uniform(&self) -> bool {
        self.is_uniform
    }

    /// The item at a position, in a set that is sealed.
    #[inline]
    pub(crate) fn get(&self, position: usize) -> Option<(&T, u32)> {
        let block = self.blocks.get(position / BLOCK)?;
        let slot = position % BLOCK;
        // Where all are the same, one place in memory less is read.
        let weight = if self.is_uniform { self.heaviest } else { *block.weights.get(slot)? };
        Some((block.items.get(slot)?, weight))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&T, u32)> {
        self.blocks.iter().flat_map(|block| block.items.iter().zip(block.weights.iter().copied()))
    }

    /// A position at random, by weight.
    #[inline]
    pub(crate) fn draw(&self) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        if self.is_uniform {
            return Some(fastrand::usize(..self.len));
        }
        let mut point = fastrand::u64(..self.total());
        let block = self.sums.partition_point(|sum| *sum <= point);
        point -= block.checked_sub(1).and_then(|before| self.sums.get(before)).copied().unwrap_or(0);
        let slot = self.blocks.get(block)?.sums.partition_point(|sum| *sum <= point);
        Some(block * BLOCK + slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_a_model() {
        let mut set = Set::default();
        let mut model: Vec<(usize, u32)> = Vec::new();
        fastrand::seed(7);
        for step in 0..5_000 {
            match fastrand::u8(..4) {
                0 if !model.is_empty() => {
                    let i = fastrand::usize(..model.len());
                    let moved = set.remove(i);
                    model.swap_remove(i);
                    assert_eq!(moved, model.get(i).map(|(item, _)| *item));
                }
                1 if !model.is_empty() => {
                    let i = fastrand::usize(..model.len());
                    model[i].1 = fastrand::u32(..5);
                    set.reweigh(i, model[i].1);
                }
                _ => {
                    let weight = fastrand::u32(..5);
                    assert_eq!(set.push(step, weight), model.len());
                    model.push((step, weight));
                }
            }
            set.seal();
            assert_eq!(set.len(), model.len());
            assert_eq!(set.total(), model.iter().map(|(_, weight)| u64::from(*weight)).sum::<u64>());
            assert_eq!(set.heaviest(), model.iter().map(|(_, weight)| *weight).max().unwrap_or(0));
            let drawn = set.draw().and_then(|position| set.get(position));
            assert_eq!(drawn.is_some(), !model.is_empty());
            assert!(drawn.is_none_or(|(_, weight)| weight > 0 || set.total() == 0));
        }
        let items: Vec<_> = set.iter().map(|(item, weight)| (*item, weight)).collect();
        assert_eq!(items, model);
    }

    #[test]
    fn draws_by_weight() {
        let mut set = Set::default();
        for i in 0..200_u32 {
            set.push(i, if i == 150 { 200 } else { 1 });
        }
        set.seal();
        let mut hits = [0_u32; 200];
        for _ in 0..40_000 {
            hits[set.draw().unwrap()] += 1;
        }
        // 200 of 399 of all draws; the others share the rest.
        assert!((18_500..21_500).contains(&hits[150]), "{}", hits[150]);
        assert!(hits.iter().all(|hits| *hits > 40));
    }
}
