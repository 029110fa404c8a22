//! What one connection's HTTP/2 streams are used for, and what happens when one of them is stuck.

mod common;
#[path = "common/relay.rs"]
mod relay;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use common::*;
use discox_etcd::{
    ConnectionConfig, Discover, DiscoverConfig, DiscoverState, LiteEndpoint, RegisterState, Registry,
    RegistryConfig,
};
use discox_testkit::{
    server::{Kind, Servers},
    wait::eventually,
};
use futures_util::future::join_all;
use relay::Relay;
use tokio::time::Instant;

const DETECTION: Duration = Duration::from_secs(3);

fn registry(addresses: &[String]) -> Result<Arc<dyn Registry>> {
    let connection = ConnectionConfig { detection: DETECTION, ..Default::default() };
    let backend_endpoints = addresses.to_vec();
    Ok(discox_etcd::connect(RegistryConfig { backend_endpoints, connection, ..Default::default() })?)
}

fn watch(registry: &Arc<dyn Registry>, service: &str) -> Result<(Arc<dyn Discover>, Arc<LiteEndpoint>)> {
    let discover = registry.discover(DiscoverConfig {
        discover_prefix: PREFIX.into(),
        service_name: service.into(),
        ..Default::default()
    })?;
    let cache = Arc::new(LiteEndpoint::new());
    tokio::spawn({
        let (discover, cache) = (discover.clone(), cache.clone());
        async move { discover.start(cache).await }
    });
    Ok((discover, cache))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_services_and_twenty_leases_share_sixteen_streams() -> Result<()> {
    let etcd = Servers::builder(Kind::Etcd).arg("--max-concurrent-streams=16").start().await?;
    let registry = registry(&etcd.addresses())?;
    let mut registered = Vec::new();
    for ttl in 0..20 {
        // Each TTL has a lease of its own.
        let register = registry.register(registration(&format!("10.0.0.1:{}", ttl + 1), 10 + ttl))?;
        register.start().await?;
        registered.push(register);
    }
    let began = Instant::now();
    let watches =
        (0..200).map(|service| watch(&registry, &format!("s{service}"))).collect::<Result<Vec<_>>>()?;
    join_all(watches.iter().map(|(_, cache)| cache.ready())).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());

    // Twice as long as it takes to give a connection up.
    let beyond = Instant::now() + 2 * DETECTION;
    let all_well = async || {
        assert!(registry.trouble().is_none(), "{:?}", registry.trouble());
        Instant::now() > beyond
    };
    eventually(DEADLINE, "the time to be over", all_well).await?;
    for (discover, _) in &watches {
        let status = discover.status();
        assert_eq!(
            (status.state, status.attempts, status.last_error.is_none()),
            (DiscoverState::Synced, 0, true)
        );
    }
    assert!(registered.iter().all(|register| register.status().state == RegisterState::Registered));
    for service in [0, 99, 199] {
        etcd.member(0).tool(&["put", &format!("{PREFIX}/s{service}/{A}"), "1"]).await?;
        eventually(DEADLINE, "the endpoint", async || watches[service].1.list() == [A]).await?;
    }
    assert_eq!(watches.iter().filter(|(_, cache)| cache.is_empty()).count(), 197);
    Ok(())
}

#[tokio::test]
async fn too_few_streams_serve_as_well() -> Result<()> {
    let etcd = Servers::builder(Kind::Etcd).arg("--max-concurrent-streams=3").start().await?;
    let registry = registry(&etcd.addresses())?;
    let register = registry.register(registration(A, 10))?;
    register.start().await?;
    let watches =
        (0..20).map(|service| watch(&registry, &format!("s{service}"))).collect::<Result<Vec<_>>>()?;
    let (_, demo) = watch(&registry, "demo")?;
    join_all(watches.iter().map(|(_, cache)| cache.ready())).await;
    eventually(DEADLINE, "the endpoint", async || demo.list() == [A]).await
}

#[tokio::test]
async fn a_stuck_watch_stream_is_noticed_while_the_connection_is_well() -> Result<()> {
    let etcd = etcd().await?;
    let relay = Relay::to(etcd.member(0).address()).await?;
    let registry = registry(&[relay.address().to_owned()])?;
    let (discover, cache) = watch(&registry, "demo")?;
    cache.ready().await;
    let confirmed = discover.status().last_confirmed;
    // Not by anything that has changed.
    let again = async || discover.status().last_confirmed > confirmed;
    eventually(DEADLINE, "the watch to be confirmed", again).await?;

    assert!(relay.swallow_open_streams() > 0);
    etcd.member(0).tool(&["put", A_KEY, "1"]).await?;
    let began = Instant::now();
    eventually(DEADLINE, "the endpoint that was swallowed", async || cache.list() == [A]).await?;
    assert!(relay.swallowed() > 0);
    assert!(began.elapsed() < DETECTION + Duration::from_secs(1), "{:?}", began.elapsed());
    // The connection was not given up for it.
    assert!(registry.trouble().is_none());
    Ok(())
}
