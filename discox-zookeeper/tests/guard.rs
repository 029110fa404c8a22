//! Real servers behind a guard: what is too long harms nobody else, and what a connection survives it survives too.
//! Servers that mean no good are `discox/tests/hostile.rs`'s.

#![cfg(feature = "zookeeper-client")]
#![allow(clippy::unwrap_used)]

mod common;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use common::{A, DEADLINE, PREFIX, Server, registration};
use discox_testkit::{server::Data, wait, zookeeper::Session};
use discox_zookeeper::{
    ClientCrate, ConnectionConfig, Discover, DiscoverConfig, DiscoverState, ErrorKind, LiteEndpoint,
    RegisterState, Registry, RegistryConfig, ZookeeperOptions,
};
use tokio::task::JoinHandle;

/// Of a service's data; ZooKeeper takes a little less than half of it for one node.
const BYTES: usize = 2 << 20;

fn registry(server: &Server) -> Result<Arc<dyn Registry>> {
    Ok(discox_zookeeper::connect(RegistryConfig {
        backend_endpoints: vec![server.address().to_owned()],
        connection: ConnectionConfig {
            zookeeper: ZookeeperOptions {
                guard: true,
                client: Some(ClientCrate::ZookeeperClient),
                ..common::settings().zookeeper
            },
            max_service_bytes: BYTES,
            max_endpoints: 100,
            denied_backoff_max: Duration::from_millis(500),
            ..common::settings()
        },
        ..Default::default()
    })?)
}

struct Watcher {
    discover: Arc<dyn Discover>,
    cache: Arc<LiteEndpoint>,
    _watching: JoinHandle<discox_zookeeper::Result<()>>,
}

impl Watcher {
    fn of(registry: &Arc<dyn Registry>, service: &str) -> Result<Self> {
        let config = DiscoverConfig {
            discover_prefix: PREFIX.into(),
            service_name: service.into(),
            ..Default::default()
        };
        let (discover, cache) = (registry.discover(config)?, Arc::new(LiteEndpoint::new()));
        let _watching = tokio::spawn({
            let (discover, cache) = (discover.clone(), cache.clone());
            async move { discover.start(cache).await }
        });
        Ok(Self { discover, cache, _watching })
    }

    async fn sees(&self, attr: Option<&str>) -> Result<()> {
        let sees = async || {
            let is_current = self.discover.status().state == DiscoverState::Synced;
            is_current && self.cache.attr(A).as_deref() == attr.map(str::as_bytes)
        };
        let waited = wait::eventually(DEADLINE, "the attr", sees).await;
        waited.with_context(|| format!("{:?}, {:?}", self.cache.attr(A), self.discover.status()))
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_told_and_harms_nobody_else() -> Result<()> {
    let server = Server::start().await?;
    let mut tool = Session::open(&server).await?;
    let long = |i| format!("{PREFIX}/long/10.0.1.{i}:80");
    for node in ["/discox", PREFIX, &format!("{PREFIX}/long")] {
        tool.create(node, b"").await?;
    }
    for i in 1..=3 {
        tool.create(&long(i), &vec![b'x'; 900_000]).await?;
    }
    let registry = registry(&server)?;
    let watcher = Watcher::of(&registry, "long")?;
    let told = async || watcher.discover.status().last_error.map(|error| (error.kind(), error.to_string()));
    let (kind, told) = wait::eventually(DEADLINE, "the error", told).await?;
    assert_eq!(kind, ErrorKind::TooLarge, "{told}");
    assert!(told.contains("the answer is longer"), "{told}");

    // Meanwhile others go on, over the same connection.
    let other = Watcher::of(&registry, "demo")?;
    let register = registry.register(registration())?;
    register.start().await?;
    other.sees(Some("1")).await?;
    register.update_attr("2").await?;
    other.sees(Some("2")).await?;
    assert_eq!(watcher.discover.status().state, DiscoverState::Connecting);

    for i in 2..=3 {
        tool.delete(&long(i)).await?;
    }
    wait::eventually(DEADLINE, "the shorter list", async || watcher.cache.len() == 1).await?;
    Ok(register.stop().await?)
}

#[tokio::test]
async fn a_session_goes_on_after_a_restart() -> Result<()> {
    let server = Server::start().await?;
    let registry = registry(&server)?;
    let watcher = Watcher::of(&registry, "demo")?;
    let register = registry.register(registration())?;
    register.start().await?;
    watcher.sees(Some("1")).await?;
    let written = server.tool(&["stat", &common::path(A)]).await?;

    server.kill().await?;
    let lost = async || watcher.discover.status().state == DiscoverState::Lost;
    wait::eventually(DEADLINE, "the loss", lost).await?;
    server.start(Data::Kept).await?;
    let back = async || register.status().state == RegisterState::Registered;
    wait::eventually(DEADLINE, "the return", back).await?;
    watcher.sees(Some("1")).await?;
    // By which transaction it was created, and who owns it.
    assert_eq!(server.tool(&["stat", &common::path(A)]).await?, written);

    register.stop().await?;
    watcher.sees(None).await
}
