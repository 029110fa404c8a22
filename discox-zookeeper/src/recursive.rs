//! Follows a service by one recursive watch, which servers know since 3.6.

use std::{collections::HashSet, sync::Arc};

use discox_core::backend::{Change, Snapshot};
use futures_util::{
    future::{FutureExt, join3},
    stream::StreamExt,
};

use crate::{
    client::{Events, Fault, Touched},
    source::Scope,
};

/// A service that is watched as a whole.
pub(crate) struct Recursive {
    scope: Scope,
    events: Events,
    /// Records that something happened to and that have not been read since.
    touched: HashSet<Arc<str>>,
}

impl std::fmt::Debug for Recursive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recursive").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Recursive {
    /// Watches, catches up with the leader, and then reads, so that nothing is missed in between.
    pub(crate) async fn open(scope: Scope) -> Result<(Snapshot, Self), Fault> {
        let client = &scope.link.client;
        let directory = &scope.directory;
        // Sent at once, answered in this order.
        let (events, synced, names) =
            join3(client.watch(directory), client.sync(directory), client.children(directory)).await;
        let events = events?;
        synced?;
        let names = match names {
            Err(Fault::NoNode) => Vec::new(),
            names => names?,
        };
        let names: Vec<Arc<str>> = names.iter().filter_map(|name| scope.name(name)).collect();
        let nodes = scope.link.read_all(&scope.paths(&names)).await?;
        let mut list = Snapshot::with_capacity(names.len());
        for (name, node) in names.into_iter().zip(nodes) {
            if let Some(attr) = scope.attr(&name, node)? {
                list.push((name, attr));
            }
        }
        Ok((list, Self { scope, events, touched: HashSet::new() }))
    }

    /// Waits for what happens, and reads what it happened to: a record that was deleted and is there
    /// again was taken over. Cancel-safe: what was touched stays so until it has been read.
    pub(crate) async fn next(&mut self) -> Result<Vec<Change>, Fault> {
        loop {
            if self.touched.is_empty() {
                let event = self.events.next().await.unwrap_or(Err(Fault::Closed))?;
                self.note(&event);
            }
            while let Some(Some(event)) = self.events.next().now_or_never() {
                self.note(&event?);
            }
            if !self.touched.is_empty() {
                return self.read().await;
            }
        }
    }

    fn note(&mut self, event: &Touched) {
        let below = event.path.strip_prefix(&self.scope.directory).and_then(|rest| rest.strip_prefix('/'));
        let Some(name) = below.filter(|name| !name.contains('/')) else { return };
        let name = if event.deleted { self.scope.readable(name) } else { self.scope.name(name) };
        self.touched.extend(name);
    }

    async fn read(&mut self) -> Result<Vec<Change>, Fault> {
        let names: Vec<Arc<str>> = self.touched.iter().cloned().collect();
        let nodes = self.scope.link.read_all(&self.scope.paths(&names)).await?;
        let mut changes = Vec::with_capacity(names.len());
        for (name, node) in names.into_iter().zip(nodes) {
            changes.push(match self.scope.attr(&name, node)? {
                Some(attr) => Change::Put(name, attr),
                None => Change::Delete(name),
            });
        }
        self.touched.clear();
        Ok(changes)
    }
}
