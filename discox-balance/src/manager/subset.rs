//! Which endpoints this process uses (gRFC A68): those with the highest scores under its seed, so that
//! one that comes or goes changes at most one member.

use std::{
    collections::{BTreeSet, HashSet},
    num::NonZeroUsize,
};

use crate::hash::{hash_key, mix};

pub(super) struct Subset {
    size: Option<NonZeroUsize>,
    seed: u64,
    scores: BTreeSet<(u64, u64)>,
    chosen: HashSet<u64>,
}

impl Subset {
    pub(super) fn new(size: Option<NonZeroUsize>, seed: u64) -> Self {
        Self { size, seed, scores: BTreeSet::new(), chosen: HashSet::new() }
    }

    pub(super) fn insert(&mut self, id: u64, endpoint: &str) {
        self.scores.insert((self.score(endpoint), id));
    }

    pub(super) fn remove(&mut self, id: u64, endpoint: &str) {
        self.scores.remove(&(self.score(endpoint), id));
    }

    /// Who comes and who goes, after changes. Without a size these are the changes themselves, which
    /// the caller knows: `touched`.
    pub(super) fn settle(&mut self, touched: &[(u64, bool)]) -> Vec<(u64, bool)> {
        let Some(size) = self.size else { return touched.to_vec() };
        let wanted: HashSet<u64> = self.scores.iter().rev().take(size.get()).map(|(_, id)| *id).collect();
        let leaving = self.chosen.difference(&wanted).map(|id| (*id, false));
        let changes = leaving.chain(wanted.difference(&self.chosen).map(|id| (*id, true))).collect();
        self.chosen = wanted;
        changes
    }

    fn score(&self, endpoint: &str) -> u64 {
        mix(self.seed ^ hash_key(endpoint.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_comes_or_goes_changes_at_most_one_member() {
        for seed in 0..50 {
            let mut subset = Subset::new(NonZeroUsize::new(10), seed);
            for id in 0..100 {
                subset.insert(id, &format!("10.0.0.{id}:80"));
            }
            assert_eq!(subset.settle(&[]).len(), 10);
            for id in 0..90 {
                subset.remove(id, &format!("10.0.0.{id}:80"));
                let changes = subset.settle(&[]);
                assert!(changes.is_empty() || changes.len() == 2, "{changes:?}");
                assert_eq!(subset.chosen.len(), 10);
            }
        }
    }
}
