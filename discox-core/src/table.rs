//! The endpoints of a service as one immutable value that is cheap to read and cheap to change.
//!
//! Entries sit in blocks of fixed size without gaps, so that the i-th is two look-ups away; a change
//! copies one block and the list of blocks, and shares the rest with the value before it.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Update, index::Index};

/// Entries a block: about the root of 10,000, where copying a block and copying the list of blocks
/// cost the same.
const BLOCK: usize = 64;

type Block = [Option<Entry>; BLOCK];

/// One endpoint with its attr.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    pub(crate) endpoint: Arc<str>,
    pub(crate) attr: Bytes,
}

impl Entry {
    /// The endpoint, `host:port`.
    #[inline]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The attr, as it was registered.
    #[inline]
    pub fn attr(&self) -> &Bytes {
        &self.attr
    }
}

/// Where an endpoint sits, or that it does not, until others come and go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    hash: u32,
    pub(crate) position: Option<usize>,
}

/// A consistent set of endpoints. It never changes; clones share their content.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    blocks: Vec<Arc<Block>>,
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
    pub fn get(&self, position: usize) -> Option<&Entry> {
        self.blocks.get(position / BLOCK)?[position % BLOCK].as_ref()
    }

    /// The attr of an endpoint.
    pub fn attr(&self, endpoint: &str) -> Option<&Bytes> {
        self.at(self.place(endpoint)).map(Entry::attr)
    }

    /// All entries, in arbitrary order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.blocks.iter().flat_map(|block| block.iter().flatten())
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
        place.position.and_then(|position| self.get(position))
    }

    fn find(&self, hash: u32, endpoint: &str) -> Option<usize> {
        self.index.find(hash, |position| self.get(position).is_some_and(|entry| entry.endpoint() == endpoint))
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
        let entry = self.get(position).cloned();
        if position.is_multiple_of(BLOCK) {
            self.blocks.truncate(position / BLOCK);
        } else {
            self.set(position, None);
        }
        entry
    }
}

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
        assert!((0..table.len()).all(|position| table.get(position).is_some()));
        assert!(table.get(table.len()).is_none());
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
