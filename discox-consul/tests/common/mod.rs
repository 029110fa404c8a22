//! Short ways to a real Consul and to the link.
#![allow(dead_code, clippy::panic)]

pub(crate) mod agent;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use discox_consul::{
    ConnectionConfig, Connector, Consul, ConsulSource, ConsulWatch, Receipt, RegisterConfig,
};
use discox_core::{
    backend::{Change, Held, Link, Replace, Source, SourceOptions, Watch},
    record::{Record, Service},
};
use discox_testkit::server::{Kind, Servers};
use serde_json::Value;
use tokio::time::timeout;

pub(crate) const PREFIX: &str = "/discox/test";
/// An endpoint.
pub(crate) const A: &str = "10.0.0.1:80";
/// The longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn consul() -> Result<Servers> {
    Servers::single(Kind::Consul).await
}

pub(crate) fn connector(addresses: &[String]) -> Result<Arc<Connector>> {
    Ok(Arc::new(Connector::parse(addresses, &ConnectionConfig::default())?))
}

/// A link to an agent, with a memory of its own.
pub(crate) async fn link(address: &str) -> Result<Arc<Consul>> {
    Ok(Arc::new(Consul::connect(&connector(&[address.into()])?).await?))
}

pub(crate) fn source(link: &Arc<Consul>, name: &str) -> Result<ConsulSource> {
    Ok(link.source(&Service::parse(PREFIX, name)?, &SourceOptions::default()))
}

pub(crate) async fn open(link: &Arc<Consul>) -> Result<(Vec<(String, Bytes)>, Followed)> {
    let (list, watch) = source(link, "demo")?.open().await?;
    let list = sorted(list);
    Ok((list.clone(), Followed { watch, list: list.into_iter().collect() }))
}

/// A watch, and the list as it follows from what the watch has told.
pub(crate) struct Followed {
    watch: ConsulWatch,
    list: BTreeMap<String, Bytes>,
}

impl Watch for Followed {
    async fn next(&mut self) -> discox_core::Result<Vec<Change>> {
        let changes = self.watch.next().await?;
        for change in &changes {
            match change {
                Change::Put(endpoint, attr) => drop(self.list.insert(endpoint.to_string(), attr.clone())),
                Change::Delete(endpoint) => drop(self.list.remove(&**endpoint)),
                other => panic!("{other:?}"),
            }
        }
        Ok(changes)
    }
}

pub(crate) fn registration(endpoint: &str) -> RegisterConfig {
    RegisterConfig {
        discover_prefix: PREFIX.into(),
        service_name: "demo".into(),
        service_endpoint: endpoint.into(),
        heart_beat_period: Duration::from_millis(500),
        ttl: Some(Duration::from_secs(60)),
        ..Default::default()
    }
}

pub(crate) fn record(endpoint: &str) -> Result<Record> {
    Ok(Record::parse(&registration(endpoint))?)
}

pub(crate) async fn hold(link: &Consul, record: Record, attr: &str) -> Result<Held<Receipt>> {
    let registered = link.register(&record, attr, Replace::Anyone).await?;
    Ok(Held { record: Arc::new(record), attr: attr.into(), receipt: registered.receipt })
}

/// A list in order, comparable.
pub(crate) fn sorted(list: Vec<(Arc<str>, Bytes)>) -> Vec<(String, Bytes)> {
    let mut list: Vec<_> = list.into_iter().map(|(endpoint, attr)| (endpoint.to_string(), attr)).collect();
    list.sort();
    list
}

pub(crate) fn list(of: &[(&str, &str)]) -> Vec<(String, Bytes)> {
    of.iter().map(|(endpoint, attr)| ((*endpoint).to_owned(), Bytes::from((*attr).to_owned()))).collect()
}

/// The next list that is told, which must come.
pub(crate) async fn next(watch: &mut Followed) -> Result<Vec<(String, Bytes)>> {
    let told = async {
        // Confirmed, and nothing new.
        while watch.next().await?.is_empty() {}
        anyhow::Ok(())
    };
    timeout(DEADLINE, told).await.context("no change came")??;
    Ok(watch.list.clone().into_iter().collect())
}

/// Waits until the watch tells this list. All lists before it must be `meanwhile`.
pub(crate) async fn until(
    watch: &mut Followed,
    meanwhile: &[(&str, &str)],
    last: &[(&str, &str)],
) -> Result<()> {
    loop {
        let now = next(watch).await?;
        if now == list(last) {
            return Ok(());
        }
        ensure!(now == list(meanwhile), "{now:?} in between");
    }
}

/// `GET path`, as JSON.
pub(crate) async fn get(address: &str, path: &str) -> Result<Value> {
    let answer = reqwest::get(format!("http://{address}/v1/{path}")).await?.error_for_status()?;
    Ok(serde_json::from_slice(&answer.bytes().await?)?)
}

/// `PUT path` with a JSON body.
pub(crate) async fn put(address: &str, path: &str, body: &Value) -> Result<()> {
    let request = reqwest::Client::new().put(format!("http://{address}/v1/{path}")).body(body.to_string());
    request.send().await?.error_for_status()?;
    Ok(())
}

/// The services of an agent.
pub(crate) async fn services(address: &str) -> Result<serde_json::Map<String, Value>> {
    get(address, "agent/services").await?.as_object().cloned().context("no services")
}

/// The only service of an agent.
pub(crate) async fn only_service(address: &str) -> Result<Value> {
    let services = services(address).await?;
    ensure!(services.len() == 1, "{services:?}");
    services.into_values().next().context("no service")
}
