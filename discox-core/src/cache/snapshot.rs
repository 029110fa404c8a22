//! The endpoints of a service as one immutable value that is cheap to read and cheap to change.
//!
//! Entries sit in blocks of fixed size without gaps, so that the i-th is two look-ups away; a change
//! copies one block and the list of blocks, and shares the rest with the value before it.
//! Picking the i-th entry without a gap is what a general persistent map (`imbl`) does not offer.

use std::{iter::FusedIterator, sync::Arc};

use bytes::Bytes;

use super::{entry::Entry, index::Index};
use crate::Update;

/// Entries a block: about the root of 10,000, where copying a block and copying the list of blocks
/// cost the same.
const BLOCK: usize = 64;

pub(super) type Block = [Option<Entry>; BLOCK];

/// Where an endpoint sits, or that it does not, until others come and go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    hash: u32,
    pub(crate) position: Option<usize>,
}

/// A consistent set of endpoints. It never changes; clones share their content.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) blocks: Vec<Arc<Block>>,
    index: Index,
    len: usize,
}

impl Snapshot {
    /// How many endpoints there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The endpoint at a position below [`Snapshot::len`], for picking one. The order is arbitrary
    /// and changes when endpoints come and go.
    #[inline]
    pub fn nth(&self, position: usize) -> Option<&Entry> {
        self.blocks.get(position / BLOCK)?[position % BLOCK].as_ref()
    }

    /// The entry of an endpoint, by its name.
    pub fn get(&self, endpoint: &str) -> Option<&Entry> {
        self.at(self.place(endpoint))
    }

    /// The attr of an endpoint.
    pub fn attr(&self, endpoint: &str) -> Option<&Bytes> {
        self.get(endpoint).map(Entry::attr)
    }

    /// All entries, in arbitrary order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { snapshot: self, next: 0 }
    }

    /// The endpoints, sorted.
    pub fn endpoints(&self) -> Vec<String> {
        let mut endpoints: Vec<_> = self.iter().map(|entry| entry.endpoint().to_owned()).collect();
        endpoints.sort_unstable();
        endpoints
    }

    pub(crate) fn apply(&mut self, batch: &[Update]) {
        for update in batch {
            match update {
                Update::Put(endpoint, attr) => self.put(endpoint.clone(), attr.clone()),
                Update::Delete(endpoint) => self.delete(endpoint),
            }
        }
    }

    pub(crate) fn place(&self, endpoint: &str) -> Place {
        let hash = self.index.hash(endpoint);
        Place { hash, position: self.find(hash, endpoint) }
    }

    pub(crate) fn at(&self, place: Place) -> Option<&Entry> {
        place.position.and_then(|position| self.nth(position))
    }

    fn find(&self, hash: u32, endpoint: &str) -> Option<usize> {
        self.index.find(hash, |position| self.nth(position).is_some_and(|entry| entry.endpoint() == endpoint))
    }

    /// Makes room for this many endpoints at once.
    pub(crate) fn reserve(&mut self, len: usize) {
        self.index.reserve(len);
        self.blocks.reserve(len.div_ceil(BLOCK).saturating_sub(self.blocks.len()));
    }

    pub(crate) fn put(&mut self, endpoint: Arc<str>, attr: Bytes) {
        self.put_at(self.place(&endpoint), endpoint, attr);
    }

    /// As [`Snapshot::put`], where the place is known.
    pub(crate) fn put_at(&mut self, place: Place, endpoint: Arc<str>, attr: Bytes) {
        let position = place.position.unwrap_or_else(|| {
            self.index.insert(place.hash, self.len);
            self.len += 1;
            self.len - 1
        });
        self.set(position, Some(Entry { endpoint, attr }));
    }

    /// Removes an endpoint; the last one takes its place, so that no gap is left.
    pub(crate) fn delete(&mut self, endpoint: &str) {
        let hash = self.index.hash(endpoint);
        let Some(position) = self.find(hash, endpoint) else { return };
        self.index.remove(hash, position);
        self.len -= 1;
        let last = self.take(self.len);
        if position == self.len {
            return;
        }
        if let Some(last) = last {
            self.index.relocate(self.index.hash(&last.endpoint), self.len, position);
            self.set(position, Some(last));
        }
    }

    fn set(&mut self, position: usize, entry: Option<Entry>) {
        let block = position / BLOCK;
        if block == self.blocks.len() {
            self.blocks.push(Arc::new([const { None }; BLOCK]));
        }
        if let Some(block) = self.blocks.get_mut(block) {
            Arc::make_mut(block)[position % BLOCK] = entry;
        }
    }

    fn take(&mut self, position: usize) -> Option<Entry> {
        let entry = self.nth(position).cloned();
        if position.is_multiple_of(BLOCK) {
            self.blocks.truncate(position / BLOCK);
        } else {
            self.set(position, None);
        }
        entry
    }
}

impl<'a> IntoIterator for &'a Snapshot {
    type Item = &'a Entry;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Of several entries of one endpoint the last one stays.
impl<E: Into<Entry>> FromIterator<E> for Snapshot {
    fn from_iter<I: IntoIterator<Item = E>>(entries: I) -> Self {
        let mut snapshot = Self::default();
        entries.into_iter().map(Into::into).for_each(|Entry { endpoint, attr }| snapshot.put(endpoint, attr));
        snapshot
    }
}

/// The same endpoints with the same attrs, in whatever order.
impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().all(|entry| other.attr(&entry.endpoint) == Some(&entry.attr))
    }
}

impl Eq for Snapshot {}

/// The entries of a [`Snapshot`], in arbitrary order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    snapshot: &'a Snapshot,
    next: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        let entry = self.snapshot.nth(self.next)?;
        self.next += 1;
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.snapshot.len - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn agrees_with_a_map_under_random_changes_and_has_no_gaps() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut table, mut model) = (Snapshot::default(), BTreeMap::new());
        for step in 0..20_000_u32 {
            let endpoint = format!("10.0.0.1:{}", random.u16(1..400));
            if random.bool() {
                table.put(endpoint.as_str().into(), Bytes::from(step.to_string()));
                model.insert(endpoint, step.to_string());
            } else {
                table.delete(&endpoint);
                model.remove(&endpoint);
            }
            assert_eq!(table.len(), model.len());
        }
        assert_eq!(table.endpoints(), model.keys().cloned().collect::<Vec<_>>());
        assert!((0..table.len()).all(|position| table.nth(position).is_some()));
        assert!(table.nth(table.len()).is_none());
        for (endpoint, attr) in &model {
            assert_eq!(table.attr(endpoint).map(|found| &found[..]), Some(attr.as_bytes()));
        }
    }

    #[test]
    fn a_change_leaves_earlier_snapshots_alone() {
        let mut table = Snapshot::default();
        for port in 1..200 {
            table.put(format!("a:{port}").into(), Bytes::new());
        }
        let before = table.clone();
        table.delete("a:7");
        table.put("a:8".into(), Bytes::from_static(b"new"));
        assert_eq!((before.len(), table.len()), (199, 198));
        assert_eq!(before.attr("a:8"), Some(&Bytes::new()));
        assert!(before.attr("a:7").is_some());
    }
}
