//! Short ways to a real etcd and to the link.
#![allow(dead_code)]

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use discox_core::{
    backend::{Change, Held, Link, Replace, Source, SourceOptions, Watch},
    record::{Record, Service},
};
use discox_etcd::{ConnectionConfig, Connector, Etcd, EtcdSource, Receipt, RegisterConfig};
use discox_testkit::server::{Kind, Member, Servers};
use tokio::time::timeout;

pub(crate) const PREFIX: &str = "/discox/test";
/// An endpoint, and its key as an endpoint of `demo`.
pub(crate) const A: &str = "10.0.0.1:80";
pub(crate) const A_KEY: &str = "/discox/test/demo/10.0.0.1:80";
/// The longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn etcd() -> Result<Servers> {
    Servers::single(Kind::Etcd).await
}

pub(crate) fn connector(addresses: &[String]) -> Result<Arc<Connector>> {
    Ok(Arc::new(Connector::parse(addresses, &ConnectionConfig::default())?))
}

/// A link with a connector, and so with leases, of its own.
pub(crate) async fn link(servers: &Servers) -> Result<Arc<Etcd>> {
    Ok(Arc::new(Etcd::connect(&connector(&servers.addresses())?).await?))
}

/// The value of a key, None where there is no such key.
pub(crate) async fn value(member: &Member, key: &str) -> Result<Option<String>> {
    let answer = member.tool(&["get", key]).await?;
    Ok(answer.split_once('\n').map(|(_, value)| value.trim_end_matches('\n').to_owned()))
}

/// The ids of all leases.
pub(crate) async fn leases(member: &Member) -> Result<Vec<String>> {
    Ok(member.tool(&["lease", "list"]).await?.split_whitespace().skip(3).map(str::to_owned).collect())
}

pub(crate) fn source(link: &Arc<Etcd>, name: &str) -> Result<EtcdSource> {
    Ok(link.source(&Service::parse(PREFIX, name)?, &SourceOptions::default()))
}

pub(crate) async fn open(link: &Arc<Etcd>) -> Result<(Vec<(Arc<str>, Bytes)>, impl Watch)> {
    Ok(source(link, "demo")?.open().await?)
}

pub(crate) fn record(endpoint: &str, ttl: u64) -> Result<Record> {
    Ok(Record::parse(&registration(endpoint, ttl))?)
}

/// Registers it, and says what a heart beat looks after.
pub(crate) async fn hold(link: &Etcd, record: Record, attr: &str) -> Result<Held<Receipt>> {
    let registered = link.register(&record, attr, Replace::Anyone).await?;
    Ok(Held { record: Arc::new(record), attr: attr.into(), receipt: registered.receipt })
}

pub(crate) fn registration(endpoint: &str, ttl: u64) -> RegisterConfig {
    RegisterConfig {
        discover_prefix: PREFIX.into(),
        service_name: "demo".into(),
        service_endpoint: endpoint.into(),
        attr: "1".into(),
        heart_beat_period: Duration::from_millis(500),
        ttl: Some(Duration::from_secs(ttl)),
        ..Default::default()
    }
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

/// How many tasks the runtime has.
pub(crate) fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
