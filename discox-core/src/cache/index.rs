//! Where each endpoint of a list sits: a hash table that shares with the value before it whatever has
//! not changed.
//!
//! Linear hashing: the buckets grow and shrink one at a time, so that no single change is expensive.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// Endpoints a bucket, about: a change copies one bucket and the list of buckets.
const BUCKET: usize = 64;

/// From the hash of an endpoint to its position.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    buckets: Arc<Vec<Arc<Vec<Slot>>>>,
    len: usize,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    position: u32,
}

impl Index {
    /// The hash by which an endpoint is found.
    pub(crate) fn hash(&self, endpoint: &str) -> u32 {
        // Half of it is plenty for millions of endpoints.
        self.hasher.hash_one(endpoint) as u32
    }

    /// The position under this hash that `is_meant`.
    pub(crate) fn find(&self, hash: u32, is_meant: impl Fn(usize) -> bool) -> Option<usize> {
        let bucket = self.buckets.get(bucket_of(hash, self.buckets.len()))?;
        let mut found = bucket.iter().filter(|slot| slot.hash == hash).map(|slot| slot.position as usize);
        found.find(|position| is_meant(*position))
    }

    /// Makes room for this many positions at once, where it would grow step by step.
    pub(crate) fn reserve(&mut self, len: usize) {
        while self.buckets.len() * BUCKET < len {
            self.split();
        }
    }

    /// Files a position. More than `u32::MAX` of them do not fit into any memory.
    pub(crate) fn insert(&mut self, hash: u32, position: usize) {
        if self.len == self.buckets.len() * BUCKET {
            self.split();
        }
        self.len += 1;
        self.bucket(hash, |bucket| bucket.push(Slot { hash, position: position as u32 }));
    }

    /// Takes a position out.
    pub(crate) fn remove(&mut self, hash: u32, position: usize) {
        self.len = self.len.saturating_sub(1);
        self.bucket(hash, |bucket| bucket.retain(|slot| slot.position as usize != position));
        if self.len < self.buckets.len().saturating_sub(1) * BUCKET / 2 {
            self.merge();
        }
    }

    /// What sat at one position sits at another now.
    pub(crate) fn relocate(&mut self, hash: u32, from: usize, to: usize) {
        self.bucket(hash, |bucket| {
            if let Some(slot) = bucket.iter_mut().find(|slot| slot.position as usize == from) {
                slot.position = to as u32;
            }
        });
    }

    fn bucket(&mut self, hash: u32, change: impl FnOnce(&mut Vec<Slot>)) {
        let buckets = Arc::make_mut(&mut self.buckets);
        let i = bucket_of(hash, buckets.len());
        if let Some(bucket) = buckets.get_mut(i) {
            change(Arc::make_mut(bucket));
        }
    }

    /// One bucket more: it takes over what is its own from the bucket that had it.
    fn split(&mut self) {
        let buckets = Arc::make_mut(&mut self.buckets);
        let new = buckets.len();
        let divided = buckets.get_mut(bucket_of(new as u32, new)).map(|bucket| {
            let (goes, stays): (Vec<_>, _) =
                bucket.iter().partition(|slot| bucket_of(slot.hash, new + 1) == new);
            *bucket = Arc::new(stays);
            goes
        });
        buckets.push(Arc::new(divided.unwrap_or_default()));
    }

    /// One bucket less.
    fn merge(&mut self) {
        let buckets = Arc::make_mut(&mut self.buckets);
        let Some(last) = buckets.pop() else { return };
        let i = bucket_of(buckets.len() as u32, buckets.len());
        if let Some(bucket) = buckets.get_mut(i) {
            Arc::make_mut(bucket).extend(last.iter());
        }
    }
}

/// The bucket of a hash: its lowest bits, as many as number the buckets; where they name a bucket that does not
/// exist yet, one bit fewer.
fn bucket_of(hash: u32, buckets: usize) -> usize {
    let mask = buckets.next_power_of_two() - 1;
    let i = hash as usize & mask;
    if i < buckets { i } else { i & (mask >> 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_everything_while_it_grows_and_shrinks_and_keeps_buckets_short() {
        const MOST: usize = 10_000;
        let mut index = Index::default();
        let hash = |i: usize| (i as u32).wrapping_mul(0x9e37_79b9);
        let check = |index: &Index, all: std::ops::Range<usize>| {
            assert!(all.clone().all(|i| index.find(hash(i), |position| position == i) == Some(i)));
            assert_eq!(index.buckets.iter().map(|bucket| bucket.len()).sum::<usize>(), all.len());
            assert!(index.buckets.iter().all(|bucket| bucket.len() <= 8 * BUCKET));
        };
        for i in 0..MOST {
            index.insert(hash(i), i);
        }
        check(&index, 0..MOST);
        for i in 0..MOST {
            index.remove(hash(i), i);
            if i % 997 == 0 {
                check(&index, i + 1..MOST);
            }
        }
        assert!(index.buckets.len() <= 1 && index.find(hash(1), |_| true).is_none());
    }
}
