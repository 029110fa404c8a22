//! Discovery: the list of a service, and the watch that follows it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use discox_core::{
    Result,
    backend::{Change, Exceeded, Limits, Listing, Source, WarnOnce, Watch, lock},
    record::Service,
};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::{
    Zookeeper,
    client::{Fault, Node, Stat},
    oneshot::Oneshot,
    recursive::Recursive,
};

/// Nodes that are read by one request: enough to read 10,000 in a moment, few enough for requests
/// far below 1 MiB.
const AT_ONCE: usize = 256;

/// Nodes that are read first, to see how long they are.
const SAMPLE: usize = 16;

/// Bytes that one answer should have at most: attrs may have 1 MB, and a server with a small heap
/// could not put 256 of them together.
const ANSWER: usize = 1024 * 1024;

/// Such requests under way at once.
const IN_FLIGHT: usize = 8;

/// Discovery of one service.
#[derive(Debug)]
pub struct ZookeeperSource(Scope);

/// Follows a service.
#[derive(Debug)]
pub struct ZookeeperWatch(Way);

/// By what it follows.
#[derive(Debug)]
enum Way {
    Recursive(Recursive),
    Oneshot(Oneshot),
}

/// A service, where it lies and over what it is read.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) link: Arc<Zookeeper>,
    pub(crate) directory: String,
    service: Service,
    skips: Arc<Mutex<WarnOnce>>,
}

/// Discovery of `service` over `link`.
pub(crate) fn of(link: &Arc<Zookeeper>, service: &Service) -> ZookeeperSource {
    let skips = link.connector.skips(service);
    ZookeeperSource(Scope {
        link: link.clone(),
        directory: link.directory(service),
        service: service.clone(),
        skips,
    })
}

impl Source for ZookeeperSource {
    type Watch = ZookeeperWatch;

    async fn open(&self) -> Result<(Listing, ZookeeperWatch)> {
        self.follow().await.map_err(|fault| self.0.link.connector.explain(fault.into()))
    }
}

impl ZookeeperSource {
    async fn follow(&self) -> Result<(Listing, ZookeeperWatch), Fault> {
        let Self(scope) = self;
        let (list, way) = match Recursive::open(scope.clone()).await {
            Err(Fault::Unimplemented) => {
                let (list, watch) = Oneshot::open(scope.clone()).await?;
                (list, Way::Oneshot(watch))
            }
            opened => {
                let (list, watch) = opened?;
                (list, Way::Recursive(watch))
            }
        };
        Ok((list, ZookeeperWatch(way)))
    }
}

impl Watch for ZookeeperWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        match &mut self.0 {
            Way::Recursive(watch) => Ok(watch.next().await?),
            Way::Oneshot(watch) => Ok(watch.next().await?),
        }
    }
}

impl Scope {
    /// The name of a record's node, if it is one that can be read.
    pub(crate) fn readable(&self, name: &str) -> Option<Arc<str>> {
        self.service.reads(name).is_ok().then(|| name.into())
    }

    /// As [`Scope::readable`], and tells if it is not.
    pub(crate) fn name(&self, name: &str) -> Option<Arc<str>> {
        match self.service.reads(name) {
            Ok(()) => Some(name.into()),
            Err(reason) => {
                lock(&self.skips).skip(name, reason);
                None
            }
        }
    }

    /// When a record was written, where the order of writes is of interest.
    pub(crate) fn written(&self, stat: Option<Stat>) -> Option<i64> {
        self.service.is_named().then(|| stat.map_or(0, |stat| stat.written))
    }

    /// That there are not more records than are wanted.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] if there are.
    pub(crate) fn bear(&self, records: usize) -> Result<(), Fault> {
        let most = self.link.connector.settings.max_endpoints;
        if records <= most { Ok(()) } else { Err(Fault::TooLarge(Exceeded::Endpoints(most))) }
    }

    /// How long nodes may be read for: core's longest wait for a list.
    pub(crate) fn patience(&self) -> Duration {
        self.link.connector.settings.request_timeout * 8
    }

    /// Where these records are.
    pub(crate) fn paths(&self, names: &[Arc<str>]) -> Vec<String> {
        names.iter().map(|name| format!("{}/{name}", self.directory)).collect()
    }

    /// A record's attr; none if it is gone or may not be read.
    pub(crate) fn attr(&self, name: &str, node: Result<Node, Fault>) -> Result<Option<Bytes>, Fault> {
        match node {
            Ok(node) => Ok(Some(node.data)),
            Err(Fault::NoNode) => Ok(None),
            Err(fault @ Fault::NoAuth) => {
                lock(&self.skips).skip(name, &fault.to_string());
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }
}

impl Zookeeper {
    /// Reads many nodes, in the order of their paths.
    pub(crate) async fn read_all(&self, paths: &[String]) -> Result<Vec<Result<Node, Fault>>, Fault> {
        let mut budget = Limits::new(&self.connector.settings);
        let mut afford = |nodes: &[Result<Node, Fault>]| {
            nodes
                .iter()
                .flatten()
                .try_for_each(|node| budget.take_bytes(node.data.len()))
                .map_err(Fault::TooLarge)
        };
        let (sample, rest) = paths.split_at(paths.len().min(SAMPLE));
        let mut nodes = self.client.read(sample).await?;
        afford(&nodes)?;
        let length = nodes.iter().flatten().map(|node| node.data.len()).sum::<usize>() / SAMPLE;
        let at_once = (ANSWER / length.max(1)).clamp(1, AT_ONCE);
        let reads: Vec<_> = rest.chunks(at_once).map(|chunk| self.client.read(chunk)).collect();
        let mut reads = stream::iter(reads).buffered(IN_FLIGHT);
        while let Some(some) = reads.try_next().await? {
            afford(&some)?;
            nodes.extend(some);
        }
        Ok(nodes)
    }
}
