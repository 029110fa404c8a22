//! Follows a service by a watch on each node, for servers before 3.6.

use std::{collections::HashSet, mem, sync::Arc};

use discox_core::backend::{Change, Listing, oldest_first};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::time::timeout;

use crate::{
    client::{self, Answer, Fault, Once},
    source::Scope,
};

/// Nodes that are read and watched before their answers are awaited.
const AT_ONCE: usize = 256;

/// What a watch was set on.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Node {
    Directory,
    Record(Arc<str>),
}

/// A service that is watched node by node.
pub(crate) struct Oneshot {
    scope: Scope,
    broken: Shared<BoxFuture<'static, Fault>>,
    watches: FuturesUnordered<BoxFuture<'static, (Node, Result<(), Fault>)>>,
    /// Records that are there and watched.
    known: HashSet<Arc<str>>,
    /// Nodes whose watch has fired and that have not been read since.
    touched: HashSet<Node>,
    /// What has been read and not been told.
    changes: Vec<Change>,
    /// When each of them was written, where that is of interest.
    writes: Vec<i64>,
}

impl std::fmt::Debug for Oneshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oneshot").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Oneshot {
    /// Reads and watches the directory, and each record in it.
    pub(crate) async fn open(scope: Scope) -> Result<(Listing, Self), Fault> {
        let broken = scope.link.client.broken().shared();
        scope.link.client.sync(&scope.directory).await?;
        let mut watch = Self {
            scope,
            broken,
            watches: FuturesUnordered::new(),
            known: HashSet::new(),
            touched: HashSet::from([Node::Directory]),
            changes: Vec::new(),
            writes: Vec::new(),
        };
        let list = watch.read().await?.into_iter().filter_map(|change| match change {
            Change::Put(name, attr) => Some((name, attr)),
            _ => None,
        });
        Ok((list.collect(), watch))
    }

    /// Waits for what happens, and reads and watches what it happened to. Cancel-safe: what was
    /// touched stays so until it has been read.
    pub(crate) async fn next(&mut self) -> Result<Vec<Change>, Fault> {
        loop {
            if self.touched.is_empty() {
                tokio::select! {
                    biased;
                    // It knows better why the watches end with it.
                    fault = self.broken.clone() => return Err(fault),
                    Some((node, fired)) = self.watches.next() => self.note(node, fired)?,
                }
            }
            while let Some(Some((node, fired))) = self.watches.next().now_or_never() {
                self.note(node, fired)?;
            }
            let patience = self.scope.patience();
            let changes = timeout(patience, self.read()).await.map_err(|_| Fault::TimedOut)??;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    fn note(&mut self, node: Node, fired: Result<(), Fault>) -> Result<(), Fault> {
        fired?;
        self.touched.insert(node);
        Ok(())
    }

    async fn read(&mut self) -> Result<Vec<Change>, Fault> {
        if self.touched.contains(&Node::Directory) {
            self.read_directory().await?;
        }
        let names: Vec<Arc<str>> = self
            .touched
            .iter()
            .filter_map(|node| match node {
                Node::Directory => None,
                Node::Record(name) => Some(name.clone()),
            })
            .collect();
        for names in names.chunks(AT_ONCE) {
            let mut nodes = self.scope.link.client.watch_many(&self.scope.paths(names)).await?;
            self.look_again(names, &mut nodes).await?;
            for (name, node) in names.iter().zip(nodes) {
                self.take_in(name, node)?;
            }
        }
        Ok(oldest_first(mem::take(&mut self.changes), &mem::take(&mut self.writes)))
    }

    /// What is gone may be half of a take-over, by a client that knows no transactions: then the other
    /// half was sent with it, and is done before a `sync` of ours.
    async fn look_again(
        &mut self,
        names: &[Arc<str>],
        nodes: &mut [Answer<(client::Node, Once)>],
    ) -> Answer<()> {
        let is_gone =
            |(position, node): (usize, &Answer<_>)| matches!(node, Err(Fault::NoNode)).then_some(position);
        let gone: Vec<usize> = nodes.iter().enumerate().filter_map(is_gone).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let client = &self.scope.link.client;
        client.sync(&self.scope.directory).await?;
        let again: Vec<Arc<str>> = gone.iter().map(|&position| names[position].clone()).collect();
        for (position, node) in gone.into_iter().zip(client.watch_many(&self.scope.paths(&again)).await?) {
            nodes[position] = node;
        }
        Ok(())
    }

    /// A watched record that is gone tells so itself: only new ones are of interest.
    async fn read_directory(&mut self) -> Result<(), Fault> {
        let (names, once) = self.scope.link.client.watch_children(&self.scope.directory).await?;
        self.follow(Node::Directory, once);
        self.touched.remove(&Node::Directory);
        let names = names.unwrap_or_default();
        self.scope.bear(names.len())?;
        let names =
            names.iter().filter_map(|name| self.scope.name(name)).filter(|name| !self.known.contains(name));
        self.touched.extend(names.map(Node::Record));
        Ok(())
    }

    fn take_in(&mut self, name: &Arc<str>, node: Result<(client::Node, Once), Fault>) -> Result<(), Fault> {
        self.writes.extend(self.scope.written(node.as_ref().ok().map(|(node, _)| node.stat)));
        let node = node.map(|(node, once)| {
            self.follow(Node::Record(name.clone()), once);
            node
        });
        self.changes.push(match self.scope.attr(name, node)? {
            Some(attr) => {
                self.known.insert(name.clone());
                Change::Put(name.clone(), attr)
            }
            None => {
                self.known.remove(name);
                Change::Delete(name.clone())
            }
        });
        self.touched.remove(&Node::Record(name.clone()));
        Ok(())
    }

    fn follow(&self, node: Node, once: Once) {
        self.watches.push(async move { (node, once.await) }.boxed());
    }
}
