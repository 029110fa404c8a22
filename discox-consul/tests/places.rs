//! Where an agent is asked, and for which part of Consul.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use anyhow::{Context, Result};
use common::{A, DEADLINE, registration};
use discox_consul::{
    ConnectionConfig, ConsulOptions, DiscoverConfig, ErrorKind, LiteEndpoint, RegisterConfig,
};
use discox_testkit::wait::eventually;
use tokio::time::timeout;

fn config(addresses: Vec<String>, connection: ConnectionConfig) -> RegisterConfig {
    RegisterConfig { backend_endpoints: addresses, connection, ..registration(A) }
}

fn discovery(addresses: Vec<String>, connection: ConnectionConfig) -> DiscoverConfig {
    DiscoverConfig {
        backend_endpoints: addresses,
        discover_prefix: common::PREFIX.into(),
        service_name: "demo".into(),
        connection,
        ..Default::default()
    }
}

#[cfg(all(feature = "reqwest", unix))]
#[tokio::test]
async fn an_agent_is_reached_by_its_unix_socket() -> Result<()> {
    use tokio::net::{TcpStream, UnixListener};

    let servers = common::consul().await?;
    // The agent's own socket would be inside of its container.
    let folder = std::env::temp_dir().join(format!("discox-consul-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let socket = folder.join("consul.sock");
    let (listener, agent) = (UnixListener::bind(&socket)?, servers.member(0).address().to_owned());
    let forwarder = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let agent = agent.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(agent).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });

    let address = vec![format!("unix://{}", socket.display())];
    let register = discox_consul::new_register(config(address.clone(), ConnectionConfig::default()))?;
    register.start().await?;
    let discover = discox_consul::new_discover(discovery(address, ConnectionConfig::default()))?;
    let cache = std::sync::Arc::new(LiteEndpoint::new());
    let running = tokio::spawn({
        let (discover, cache) = (discover.clone(), cache.clone());
        async move { discover.start(cache).await }
    });
    eventually(DEADLINE, "the endpoint", async || cache.list().iter().any(|endpoint| &**endpoint == A))
        .await?;
    register.stop().await?;
    eventually(DEADLINE, "its end", async || cache.is_empty()).await?;
    discover.stop().await;
    running.await??;
    forwarder.abort();
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

#[tokio::test]
async fn a_discovery_asks_the_datacenter_that_is_configured() -> Result<()> {
    let servers = common::consul().await?;
    let register = discox_consul::new_register(config(servers.addresses(), ConnectionConfig::default()))?;
    register.start().await?;
    for (datacenter, found) in [("dc1", true), ("elsewhere", false)] {
        let consul = ConsulOptions { datacenter: Some(datacenter.into()), ..Default::default() };
        let connection = ConnectionConfig { consul, ..Default::default() };
        let discover = discox_consul::new_discover(discovery(servers.addresses(), connection))?;
        let cache = std::sync::Arc::new(LiteEndpoint::new());
        tokio::spawn({
            let (discover, cache) = (discover.clone(), cache.clone());
            async move { discover.start(cache).await }
        });
        if found {
            eventually(DEADLINE, "the endpoint", async || cache.len() == 1).await?;
        } else {
            let error = eventually(DEADLINE, "an error", async || cache.last_error()).await?;
            assert!(error.to_string().contains("datacenter"), "{error}");
        }
        discover.stop().await;
    }
    Ok(())
}

#[tokio::test]
async fn what_only_consul_enterprise_has_is_a_mistake_of_configuration() -> Result<()> {
    let servers = common::consul().await?;
    let connection = ConnectionConfig {
        consul: ConsulOptions { namespace: Some("team".into()), ..Default::default() },
        request_timeout: Duration::from_secs(60),
        ..Default::default()
    };
    let register = discox_consul::new_register(config(servers.addresses(), connection.clone()))?;
    let error = timeout(DEADLINE, register.start()).await?.err().context("it was let in")?;
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("consul.namespace")), "{error}");
    let discover = discox_consul::new_discover(discovery(servers.addresses(), connection))?;
    let ended = timeout(DEADLINE, discover.start(std::sync::Arc::new(LiteEndpoint::new()))).await?;
    assert_eq!(ended.err().map(|error| error.kind()), Some(ErrorKind::Config));
    Ok(())
}
