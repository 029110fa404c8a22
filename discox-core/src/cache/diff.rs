//! The difference between two snapshots.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    entry::Entry,
    snapshot::{Block, Snapshot},
};
use crate::Update;

impl Snapshot {
    /// What leads from `earlier` to this snapshot: what is new or changed first, then what is gone. Empty when both
    /// hold the same.
    ///
    /// Where this snapshot was made from the earlier one, as a cache does, the cost goes by what differs: blocks of
    /// 64 entries that both share are stepped over by comparing their addresses.
    pub fn changes_since(&self, earlier: &Self) -> Vec<Update> {
        let mut puts = Vec::new();
        let mut deletes = Vec::new();
        for i in 0..self.blocks.len().max(earlier.blocks.len()) {
            let (now, before) = (self.blocks.get(i), earlier.blocks.get(i));
            if now.zip(before).is_some_and(|(now, before)| Arc::ptr_eq(now, before)) {
                continue;
            }
            puts.extend(entries(now).filter(|(at, entry)| {
                let stayed = entry_at(before, *at).filter(|known| known.endpoint == entry.endpoint);
                let known = stayed.or_else(|| earlier.get(&entry.endpoint));
                known.is_none_or(|known| !is_same(&known.attr, &entry.attr))
            }));
            deletes.extend(entries(before).filter(|(at, entry)| {
                let stays = entry_at(now, *at).is_some_and(|known| known.endpoint == entry.endpoint);
                !stays && self.get(&entry.endpoint).is_none()
            }));
        }
        let put =
            |(_, Entry { endpoint, attr }): (usize, &Entry)| Update::Put(endpoint.clone(), attr.clone());
        let delete = |(_, entry): (usize, &Entry)| Update::Delete(entry.endpoint.clone());
        puts.into_iter().map(put).chain(deletes.into_iter().map(delete)).collect()
    }
}

fn entries(block: Option<&Arc<Block>>) -> impl Iterator<Item = (usize, &Entry)> {
    let slots = block.into_iter().flat_map(|block| block.iter().enumerate());
    slots.filter_map(|(at, slot)| Some((at, slot.as_ref()?)))
}

fn entry_at(block: Option<&Arc<Block>>, at: usize) -> Option<&Entry> {
    block?.get(at)?.as_ref()
}

/// Attrs that did not change are mostly the same bytes in memory.
fn is_same(a: &Bytes, b: &Bytes) -> bool {
    (a.as_ptr(), a.len()) == (b.as_ptr(), b.len()) || a == b
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn plain(snapshot: &Snapshot) -> BTreeMap<String, Bytes> {
        snapshot.iter().map(|entry| (entry.endpoint().to_owned(), entry.attr().clone())).collect()
    }

    fn check(earlier: &Snapshot, later: &Snapshot) {
        let (before, after) = (plain(earlier), plain(later));
        let changes = later.changes_since(earlier);
        let (mut puts, mut deletes) = (BTreeMap::new(), Vec::new());
        for change in &changes {
            match change {
                Update::Put(endpoint, attr) => {
                    assert!(deletes.is_empty(), "adds first");
                    assert!(puts.insert(endpoint.to_string(), attr.clone()).is_none(), "told once");
                }
                Update::Delete(endpoint) => deletes.push(endpoint.to_string()),
            }
        }
        deletes.sort_unstable();
        let expected = after.iter().filter(|(endpoint, attr)| before.get(*endpoint) != Some(*attr));
        assert_eq!(puts, expected.map(|(endpoint, attr)| (endpoint.clone(), attr.clone())).collect());
        let gone = before.keys().filter(|endpoint| !after.contains_key(*endpoint));
        assert_eq!(deletes, gone.cloned().collect::<Vec<_>>());
    }

    #[test]
    fn agrees_with_a_plain_difference() {
        let mut random = fastrand::Rng::with_seed(11);
        for round in 0..60_usize {
            let mut snapshot = Snapshot::default();
            let mut kept = vec![snapshot.clone()];
            let ports = 1..=random.u16(1..900);
            for step in 0..40_u32 {
                for _ in 0..random.usize(0..[2, 20, 300][round % 3]) {
                    let endpoint = format!("10.0.0.1:{}", random.u16(ports.clone()));
                    match random.u8(0..4) {
                        0 => snapshot.delete(&endpoint),
                        1 => snapshot.put(endpoint.into(), Bytes::from_static(b"same")),
                        _ => snapshot.put(endpoint.into(), Bytes::from(step.to_string())),
                    }
                }
                check(&kept[random.usize(..kept.len())], &snapshot);
                check(&snapshot, &kept[random.usize(..kept.len())]);
                kept.push(snapshot.clone());
            }
            let unrelated: Snapshot = snapshot.iter().cloned().collect();
            assert_eq!(unrelated.changes_since(&snapshot), []);
            check(&kept[1], &unrelated);
        }
    }
}
