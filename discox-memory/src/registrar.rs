//! Registration: what happens to a record in the store.

use discox_core::{
    Error, ErrorKind, Result,
    backend::{Held, Loss, Replace},
    record::Record,
};

use crate::topic::{Owner, Stored, Topic};

/// Writes a record, as far as its owner allows.
pub(crate) fn register(
    topic: &mut Topic,
    session: u64,
    record: &Record,
    attr: &str,
    replace: Replace,
) -> Result<()> {
    let endpoint = record.endpoint.as_str();
    let owner = topic.get(endpoint).and_then(|stored| stored.owner);
    if replace == Replace::OnlyOwn && owner.is_some_and(|owner| owner.incarnation != record.incarnation) {
        return Err(Error::new(ErrorKind::Superseded, "another incarnation holds the record"));
    }
    let owner = Owner::new(record.incarnation, session, record.ttl);
    topic.put(endpoint, Stored { attr: attr.to_owned().into(), owner: Some(owner) });
    Ok(())
}

/// Removes a record if it is this incarnation's.
pub(crate) fn withdraw(topic: &mut Topic, record: &Record) {
    let endpoint = record.endpoint.as_str();
    let owner = topic.get(endpoint).and_then(|stored| stored.owner);
    if owner.is_some_and(|owner| owner.incarnation == record.incarnation) {
        topic.delete(endpoint);
    }
}

/// Keeps a record alive if it is as it should be, and says what it is otherwise.
pub(crate) fn verify(topic: &mut Topic, held: &Held<()>) -> Option<Loss> {
    let endpoint = held.record.endpoint.as_str();
    let Some(stored) = topic.get(endpoint) else { return Some(Loss::Gone) };
    match stored.owner {
        Some(owner) if owner.incarnation != held.record.incarnation => Some(Loss::Superseded),
        Some(_) if stored.attr == held.attr.as_bytes() => {
            topic.keep_alive(endpoint);
            None
        }
        _ => Some(Loss::Altered),
    }
}
