//! Discovery of the names of services, by a watch for children on the prefix's node and on each service's.
//!
//! Not by a recursive watch: that would report every change of every attr, and client crates and servers exist that
//! have none.

use std::{
    collections::{HashMap, HashSet},
    fmt, mem,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use discox_core::{
    Result,
    backend::{Change, Exceeded, Listing, Source, Watch},
    record::{Endpoint, Prefix},
};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
    stream::{self, FuturesUnordered, StreamExt, TryStreamExt},
};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    Zookeeper,
    client::{Fault, Once},
};

/// Nodes that are read and watched before their answers are awaited.
const AT_ONCE: usize = 256;

/// Between two reads while instances come and go: a read lists all endpoints of a service.
const FLOOR: Duration = Duration::from_millis(200);

/// The names of the services under a prefix.
#[derive(Debug)]
pub struct ZookeeperNames {
    link: Arc<Zookeeper>,
    /// The prefix's node.
    directory: String,
}

/// Follows them.
pub struct ZookeeperNamesWatch {
    link: Arc<Zookeeper>,
    directory: String,
    broken: Shared<BoxFuture<'static, Fault>>,
    watches: FuturesUnordered<BoxFuture<'static, (Node, Result<(), Fault>)>>,
    /// The children of the prefix's node, and whether they have records.
    services: HashMap<Arc<str>, bool>,
    /// Nodes whose watch has fired and that have not been read since.
    touched: HashSet<Node>,
    /// What has been read and not been told.
    changes: Vec<Change>,
    not_before: Instant,
}

/// What a watch was set on.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Node {
    Prefix,
    Service(Arc<str>),
}

impl ZookeeperNames {
    pub(crate) fn new(link: Arc<Zookeeper>, prefix: &Prefix) -> Self {
        let directory = format!("{}{prefix}", link.connector.address.chroot);
        Self { link, directory }
    }

    async fn follow(&self) -> Result<(Listing, ZookeeperNamesWatch), Fault> {
        let client = &self.link.client;
        let broken = client.broken().shared();
        client.sync(if self.directory.is_empty() { "/" } else { &self.directory }).await?;
        let mut watch = ZookeeperNamesWatch {
            link: self.link.clone(),
            directory: self.directory.clone(),
            broken,
            watches: FuturesUnordered::new(),
            services: HashMap::new(),
            touched: HashSet::from([Node::Prefix]),
            changes: Vec::new(),
            not_before: Instant::now(),
        };
        let list = watch.read().await?.into_iter().filter_map(|change| match change {
            Change::Put(name, attr) => Some((name, attr)),
            _ => None,
        });
        Ok((list.collect(), watch))
    }
}

impl Source for ZookeeperNames {
    type Watch = ZookeeperNamesWatch;

    async fn open(&self) -> Result<(Listing, ZookeeperNamesWatch)> {
        self.follow().await.map_err(|fault| self.link.connector.explain(fault.into()))
    }
}

impl Watch for ZookeeperNamesWatch {
    /// What was touched stays so until it has been read.
    async fn next(&mut self) -> Result<Vec<Change>> {
        self.changes().await.map_err(|fault| self.link.connector.explain(fault.into()))
    }
}

impl ZookeeperNamesWatch {
    async fn changes(&mut self) -> Result<Vec<Change>, Fault> {
        loop {
            if self.touched.is_empty() {
                tokio::select! {
                    biased;
                    // It knows better why the watches end with it.
                    fault = self.broken.clone() => return Err(fault),
                    Some((node, fired)) = self.watches.next() => self.note(node, fired)?,
                }
            }
            sleep_until(self.not_before).await;
            while let Some(Some((node, fired))) = self.watches.next().now_or_never() {
                self.note(node, fired)?;
            }
            let patience = self.link.connector.settings.request_timeout * 8;
            let changes = timeout(patience, self.read()).await.map_err(|_| Fault::TimedOut)??;
            self.not_before = Instant::now() + FLOOR;
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

    /// Reads and watches what was touched, and says what has changed.
    async fn read(&mut self) -> Result<Vec<Change>, Fault> {
        if self.touched.contains(&Node::Prefix) {
            self.read_prefix().await?;
        }
        let touched = self.touched.iter().filter_map(|node| match node {
            Node::Prefix => None,
            Node::Service(name) => Some(name.clone()),
        });
        let names: Vec<Arc<str>> = touched.collect();
        let client = &self.link.client;
        let reads = names.iter().map(|name| {
            let path = format!("{}/{name}", self.directory);
            async move { permitted(client.watch_children(&path).await) }
        });
        let reads: Vec<_> = reads.collect();
        let answers: Vec<_> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        for (name, children) in names.into_iter().zip(answers) {
            self.take_in(name, children);
        }
        Ok(mem::take(&mut self.changes))
    }

    /// The names of the prefix's children: new ones are touched, and those that are gone are told.
    async fn read_prefix(&mut self) -> Result<(), Fault> {
        let directory = if self.directory.is_empty() { "/" } else { &self.directory };
        let (children, once) = self.link.client.watch_children(directory).await?;
        let most = self.link.connector.settings.max_endpoints;
        let children = children.unwrap_or_default();
        if children.len() > most {
            return Err(Fault::TooLarge(Exceeded::Endpoints(most)));
        }
        self.watch(Node::Prefix, once);
        self.touched.remove(&Node::Prefix);
        let now: HashSet<Arc<str>> =
            children.into_iter().filter(|name| Prefix::is_name(name)).map(Arc::from).collect();
        self.touched
            .extend(now.iter().filter(|name| !self.services.contains_key(*name)).cloned().map(Node::Service));
        let gone: Vec<_> = self.services.extract_if(|name, _| !now.contains(name)).collect();
        for (name, had_records) in gone {
            self.touched.remove(&Node::Service(name.clone()));
            self.changes.extend(had_records.then_some(Change::Delete(name)));
        }
        Ok(())
    }

    /// What the children of a service's node say of it.
    fn take_in(&mut self, name: Arc<str>, children: Option<(Vec<String>, Once)>) {
        self.touched.remove(&Node::Service(name.clone()));
        let Some((children, once)) = children else {
            // The node is gone: if it comes again, so does its name among those of the prefix.
            let had_records = self.services.remove(&name).unwrap_or_default();
            self.changes.extend(had_records.then_some(Change::Delete(name)));
            return;
        };
        let has_records = children.iter().any(|child| Endpoint::is_readable(child));
        self.watch(Node::Service(name.clone()), once);
        let had_records = self.services.insert(name.clone(), has_records).unwrap_or_default();
        match (had_records, has_records) {
            (false, true) => self.changes.push(Change::Put(name, Bytes::new())),
            (true, false) => self.changes.push(Change::Delete(name)),
            _ => {}
        }
    }

    fn watch(&self, node: Node, once: Once) {
        self.watches.push(async move { (node, once.await) }.boxed());
    }
}

/// A service's node that may not be read has no records for us.
fn permitted(
    answer: Result<(Option<Vec<String>>, Once), Fault>,
) -> Result<Option<(Vec<String>, Once)>, Fault> {
    match answer {
        Ok((children, once)) => Ok(children.map(|children| (children, once))),
        Err(Fault::NoAuth) => Ok(None),
        Err(fault) => Err(fault),
    }
}

impl fmt::Debug for ZookeeperNamesWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZookeeperNamesWatch").field("directory", &self.directory).finish_non_exhaustive()
    }
}
