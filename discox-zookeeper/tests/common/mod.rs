//! A real ZooKeeper, and short ways to drive the link.
#![allow(dead_code)]

pub(crate) mod secured;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use discox_core::{
    backend::{Change, Held, Link, Listing, Loss, Replace, Source, SourceOptions, Watch},
    record::{Record, Service},
};
use discox_testkit::{
    server::{Kind, Member, Servers},
    wait,
};
use discox_zookeeper::{
    BackendType, ClientCrate, ConnectionConfig, Connector, Receipt, RegisterConfig, Zookeeper,
    ZookeeperOptions, ZookeeperSource, ZookeeperWatch,
};
use tokio::time::timeout;

pub(crate) const PREFIX: &str = "/discox/test";
pub(crate) const A: &str = "10.0.0.1:80";
/// The session timeout: the shortest that all client crates can do.
pub(crate) const SESSION: Duration = Duration::from_secs(6);
/// The longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Server(Servers);

impl std::ops::Deref for Server {
    type Target = Member;

    fn deref(&self) -> &Member {
        self.0.member(0)
    }
}

impl Server {
    pub(crate) async fn start() -> Result<Self> {
        Ok(Self(Servers::single(Kind::Zookeeper).await?))
    }

    /// A link with a connector, and so with a session, of its own.
    pub(crate) async fn link(&self) -> Result<Arc<Zookeeper>> {
        link(self.address()).await
    }

    /// The data of a record of `demo` as ZooKeeper's own command line sees it.
    pub(crate) async fn data(&self, endpoint: &str) -> Result<String> {
        Ok(self.tool(&["get", &path(endpoint)]).await?.trim_end_matches('\n').to_owned())
    }
}

pub(crate) fn settings() -> ConnectionConfig {
    let guard = discox_testkit::guard(BackendType::Zookeeper);
    let zookeeper =
        ZookeeperOptions { session_timeout: Some(SESSION), client: client(), guard, ..Default::default() };
    ConnectionConfig { zookeeper, ..Default::default() }
}

/// The client crate to be tested.
pub(crate) fn client() -> Option<ClientCrate> {
    discox_testkit::client(BackendType::Zookeeper)
}

/// Whether a session goes on after its connection broke: what `zookeeper-async` does then is not waited
/// for.
pub(crate) fn sessions_outlive_connections() -> bool {
    client() != Some(ClientCrate::ZookeeperAsync)
}

pub(crate) fn connector(address: &str) -> Result<Arc<Connector>> {
    Ok(Arc::new(Connector::parse(&[address.to_owned()], &settings())?))
}

pub(crate) async fn link(address: &str) -> Result<Arc<Zookeeper>> {
    connect(&connector(address)?).await
}

pub(crate) async fn connect(connector: &Arc<Connector>) -> Result<Arc<Zookeeper>> {
    Ok(Arc::new(Zookeeper::connect(connector).await?))
}

/// Tries again, as core does: a server may not have done with an earlier connection of the session.
pub(crate) async fn connect_at_last(connector: &Arc<Connector>) -> Result<Arc<Zookeeper>> {
    wait::eventually(DEADLINE, "a session", async || connect(connector).await.ok()).await
}

pub(crate) fn path(endpoint: &str) -> String {
    format!("{PREFIX}/demo/{endpoint}")
}

pub(crate) fn service(name: &str) -> Service {
    Service::parse(PREFIX, name).unwrap()
}

/// Of `demo` at [`A`].
pub(crate) fn registration() -> RegisterConfig {
    RegisterConfig {
        discover_prefix: PREFIX.into(),
        service_name: "demo".into(),
        service_endpoint: A.into(),
        attr: "1".into(),
        heart_beat_period: Duration::from_millis(500),
        ..Default::default()
    }
}

pub(crate) fn record(endpoint: &str) -> Record {
    record_at(PREFIX, "demo", endpoint)
}

pub(crate) fn record_at(prefix: &str, service: &str, endpoint: &str) -> Record {
    Record::parse(&RegisterConfig {
        discover_prefix: prefix.into(),
        service_name: service.into(),
        service_endpoint: endpoint.into(),
        heart_beat_period: Duration::from_millis(500),
        ..Default::default()
    })
    .unwrap()
}

pub(crate) fn endpoint(i: usize) -> String {
    format!("10.{}.{}.{}:80", i / 65536, i / 256 % 256, i % 256)
}

pub(crate) async fn hold(link: &Zookeeper, endpoint: &str, attr: &str) -> Result<Held<Receipt>> {
    let record = Arc::new(record(endpoint));
    let registered = link.register(&record, attr, Replace::Anyone).await?;
    Ok(Held { record, attr: attr.into(), receipt: registered.receipt })
}

pub(crate) async fn losses(link: &Zookeeper, held: &Held<Receipt>) -> Result<Vec<(usize, Loss)>> {
    Ok(link.verify(std::slice::from_ref(held)).await?)
}

pub(crate) fn source(link: &Arc<Zookeeper>, name: &str) -> ZookeeperSource {
    link.source(&service(name), &SourceOptions::default())
}

pub(crate) async fn open(link: &Arc<Zookeeper>) -> Result<(Listing, ZookeeperWatch)> {
    Ok(source(link, "demo").open().await?)
}

pub(crate) fn put(endpoint: &str, attr: &str) -> Change {
    Change::Put(endpoint.into(), attr.to_owned().into())
}

pub(crate) fn delete(endpoint: &str) -> Change {
    Change::Delete(endpoint.into())
}

/// The next changes, which must come.
pub(crate) async fn next(watch: &mut impl Watch) -> Result<Vec<Change>> {
    Ok(timeout(DEADLINE, watch.next()).await.context("no change came")??)
}

/// The next changes that are not a repetition: two events of one change may come apart, and the record
/// is read twice then.
pub(crate) async fn other(watch: &mut impl Watch, last: &Change) -> Result<Vec<Change>> {
    loop {
        let changes = next(watch).await?;
        if changes != [last.clone()] {
            return Ok(changes);
        }
    }
}

/// A cache as simple as can be.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Cache(pub(crate) BTreeMap<String, Vec<u8>>);

impl Cache {
    pub(crate) fn of(list: Listing) -> Self {
        Self(list.into_iter().map(|(name, attr)| (name.to_string(), attr.to_vec())).collect())
    }

    pub(crate) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(name, attr) => drop(self.0.insert(name.to_string(), attr.to_vec())),
                Change::Delete(name) => drop(self.0.remove(&*name)),
                Change::Reset(list) => *self = Self::of(list),
                _ => unreachable!(),
            }
        }
    }

    /// Follows until the cache is what it should be.
    pub(crate) async fn follow(&mut self, watch: &mut impl Watch, expected: &Self) -> Result<()> {
        while self != expected {
            let changes =
                next(watch).await.with_context(|| format!("{} of {}", self.0.len(), expected.0.len()))?;
            self.apply(changes);
        }
        Ok(())
    }
}

/// Polls a condition until it holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let mut failed = None;
    let held = wait::eventually(DEADLINE, what, async || match condition().await {
        Ok(holds) => holds,
        Err(error) => {
            failed = Some(error);
            true
        }
    })
    .await;
    failed.map_or(held, Err)
}
