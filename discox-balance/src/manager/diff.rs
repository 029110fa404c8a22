//! What differs between two lists.

use discox_core::{Entry, Snapshot};

pub(super) enum Change<'a> {
    Put(&'a Entry),
    Delete(&'a str),
}

/// What leads from one list to another.
pub(super) fn changes<'a>(from: &'a Snapshot, to: &'a Snapshot) -> impl Iterator<Item = Change<'a>> {
    let puts = to.iter().filter(|entry| from.attr(entry.endpoint()) != Some(entry.attr()));
    let deletes = from.iter().filter(|entry| to.attr(entry.endpoint()).is_none());
    puts.map(Change::Put).chain(deletes.map(|entry| Change::Delete(entry.endpoint())))
}
