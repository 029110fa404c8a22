//! Follows a service by one recursive watch, which servers know since 3.6.

use std::{collections::HashSet, pin::pin, sync::Arc};

use discox_core::backend::{Change, Listing, oldest_first};
use futures_util::{
    future::{FutureExt, join},
    stream::StreamExt,
};
use tokio::time::timeout;

use crate::{
    client::{Events, Fault, Touched},
    source::Scope,
};

/// Events that are heard at a time.
const AT_A_TIME: usize = 4096;

/// A service that is watched as a whole.
pub(crate) struct Recursive {
    scope: Scope,
    events: Events,
    /// Records that something happened to and that have not been read since.
    touched: HashSet<Arc<str>>,
    /// Records that something happened to while others were being read.
    since: HashSet<Arc<str>>,
}

impl std::fmt::Debug for Recursive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recursive").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Recursive {
    /// Watches, catches up with the leader, and then reads, so that nothing is missed in between.
    pub(crate) async fn open(scope: Scope) -> Result<(Listing, Self), Fault> {
        let link = scope.link.clone();
        let (client, directory) = (&link.client, scope.directory.clone());
        // Sent at once, answered in this order.
        let mut watching = pin!(client.watch(&directory));
        let mut reading = pin!(join(client.sync(&directory), client.children(&directory)));
        let mut read = None;
        let events = loop {
            tokio::select! {
                biased;
                events = &mut watching => break events?,
                answers = &mut reading, if read.is_none() => read = Some(answers),
            }
        };
        let (touched, since) = (HashSet::new(), HashSet::new());
        let mut this = Self { scope, events, touched, since };
        let (synced, names) = match read {
            Some(answers) => answers,
            None => this.hearing(reading).await?,
        };
        synced?;
        let names = match names {
            Err(Fault::NoNode) => Vec::new(),
            names => names?,
        };
        this.scope.bear(names.len())?;
        let names: Vec<Arc<str>> = names.iter().filter_map(|name| this.scope.name(name)).collect();
        let paths = this.scope.paths(&names);
        let nodes = this.hearing(link.read_all(&paths)).await??;
        let (mut list, mut writes) = (Listing::with_capacity(names.len()), Vec::new());
        for (name, node) in names.into_iter().zip(nodes) {
            let written = this.scope.written(node.as_ref().ok().map(|node| node.stat));
            if let Some(attr) = this.scope.attr(&name, node)? {
                list.push((name, attr));
                writes.extend(written);
            }
        }
        Ok((oldest_first(list, &writes), this))
    }

    /// Waits for what happens, and reads what it happened to: a record that was deleted and is there
    /// again was taken over. Cancel-safe: what was touched stays so until it has been read.
    pub(crate) async fn next(&mut self) -> Result<Vec<Change>, Fault> {
        loop {
            self.touched.extend(self.since.drain());
            if self.touched.is_empty() {
                self.hear().await?;
            }
            self.catch_up()?;
            self.touched.extend(self.since.drain());
            self.scope.bear(self.touched.len())?;
            if !self.touched.is_empty() {
                return self.read().await;
            }
        }
    }

    /// Waits for what happens next. Cancel-safe.
    async fn hear(&mut self) -> Result<(), Fault> {
        let event = self.events.next().await.unwrap_or(Err(Fault::Closed))?;
        self.note(&event);
        self.scope.bear(self.since.len())
    }

    /// Hears what has come already: much at a time, so that it does not come faster than it is heard, and not without
    /// end.
    fn catch_up(&mut self) -> Result<(), Fault> {
        for _ in 0..AT_A_TIME {
            match self.hear().now_or_never() {
                Some(heard) => heard?,
                None => break,
            }
        }
        Ok(())
    }

    fn note(&mut self, event: &Touched) {
        let below = event.path.strip_prefix(&self.scope.directory).and_then(|rest| rest.strip_prefix('/'));
        let Some(name) = below.filter(|name| !name.contains('/')) else { return };
        let name = if event.deleted { self.scope.readable(name) } else { self.scope.name(name) };
        self.since.extend(name);
    }

    /// Waits for an answer. What happens meanwhile is heard, so that it does not pile up in the client.
    async fn hearing<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, Fault> {
        let mut answer = pin!(answer);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                heard = self.hear() => {
                    heard?;
                    self.catch_up()?;
                }
            }
        }
    }

    /// Reads what was touched.
    async fn read(&mut self) -> Result<Vec<Change>, Fault> {
        let names: Vec<Arc<str>> = self.touched.iter().cloned().collect();
        let scope = self.scope.clone();
        let paths = scope.paths(&names);
        let reading = timeout(scope.patience(), scope.link.read_all(&paths));
        let nodes = self.hearing(reading).await?.map_err(|_| Fault::TimedOut)??;
        let (mut changes, mut writes) = (Vec::with_capacity(names.len()), Vec::new());
        for (name, node) in names.into_iter().zip(nodes) {
            writes.extend(scope.written(node.as_ref().ok().map(|node| node.stat)));
            changes.push(match self.scope.attr(&name, node)? {
                Some(attr) => Change::Put(name, attr),
                None => Change::Delete(name),
            });
        }
        self.touched.clear();
        Ok(oldest_first(changes, &writes))
    }
}
