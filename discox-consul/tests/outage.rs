//! Registration and discovery through failures of a real Consul, by the public interface.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use common::{DEADLINE, PREFIX, get, put, registration, services};
use discox_consul::{
    ConnectionConfig, Discover, DiscoverConfig, DiscoverState, EndpointCacher, Error, LiteEndpoint, Register,
    RegisterConfig, RegisterState, Registry, RegistryConfig,
};
use discox_testkit::{
    server::{Data, Kind, Servers},
    wait::eventually,
};
use serde_json::json;
use tokio::time::{Instant, timeout};

const A: &str = "10.0.0.1:80";

/// Heart beats so rare that nothing is noticed by them.
fn rarely(addresses: Vec<String>) -> RegisterConfig {
    RegisterConfig {
        backend_endpoints: addresses,
        attr: "1".into(),
        heart_beat_period: Duration::from_secs(100),
        ttl: Some(Duration::from_secs(300)),
        ..registration(A)
    }
}

fn discovery(addresses: Vec<String>) -> DiscoverConfig {
    DiscoverConfig {
        backend_endpoints: addresses,
        discover_prefix: PREFIX.into(),
        service_name: "demo".into(),
        ..Default::default()
    }
}

/// A discovery that runs, and its cache, which is ready.
async fn discover(config: DiscoverConfig) -> Result<(Arc<dyn Discover>, Arc<LiteEndpoint>)> {
    let discover = discox_consul::new_discover(config)?;
    let cache = run(&discover);
    cache.ready().await;
    ensure!(cache.is_ready(), "{:?}", cache.last_error());
    Ok((discover, cache))
}

fn run(discover: &Arc<dyn Discover>) -> Arc<LiteEndpoint> {
    let cache = Arc::new(LiteEndpoint::new());
    tokio::spawn({
        let (discover, cache) = (discover.clone(), cache.clone());
        async move { discover.start(cache).await }
    });
    cache
}

async fn state(register: &Arc<dyn Register>, state: RegisterState, within: Duration) -> Result<()> {
    let what = format!("{state:?}");
    eventually(within, &what, async || register.status().state == state).await
}

async fn serves(cache: &LiteEndpoint, list: &[&str]) -> Result<()> {
    eventually(DEADLINE, &format!("{list:?}"), async || {
        cache.list().iter().map(|e| &**e).eq(list.iter().copied())
    })
    .await
}

#[tokio::test]
async fn one_service_registers_is_seen_changes_and_leaves() -> Result<()> {
    let servers = common::consul().await?;
    let register = discox_consul::new_register(rarely(servers.addresses()))?;
    register.start().await?;
    let (discover, cache) = discover(discovery(servers.addresses())).await?;
    assert_eq!(cache.list().len(), 1);
    assert_eq!(cache.attr(A).as_deref(), Some(b"1".as_slice()));
    register.update_attr("2").await?;
    eventually(DEADLINE, "the update", async || cache.attr(A).as_deref() == Some(b"2")).await?;
    register.stop().await?;
    serves(&cache, &[]).await?;
    assert!(services(servers.member(0).address()).await?.is_empty());
    discover.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_killed_agent_is_noticed_at_once_and_its_return_too() -> Result<()> {
    let servers = common::consul().await?;
    let register = discox_consul::new_register(rarely(servers.addresses()))?;
    register.start().await?;
    let (discover, cache) = discover(discovery(servers.addresses())).await?;
    for data in [Data::Kept, Data::Wiped] {
        // What is noticed by the held requests is noticed once they are held.
        eventually(DEADLINE, "a registration", async || register.status().state == RegisterState::Registered)
            .await?;
        eventually(DEADLINE, "a watch", async || discover.status().state == DiscoverState::Synced).await?;
        servers.member(0).kill().await?;
        let killed = Instant::now();
        state(&register, RegisterState::Retrying, Duration::from_secs(1)).await?;
        eventually(Duration::from_secs(1), "the loss", async || {
            discover.status().state == DiscoverState::Lost
        })
        .await?;
        println!("{data:?}: noticed after {:?}", killed.elapsed());
        assert_eq!(cache.len(), 1);
        servers.member(0).start(data).await?;
        let back = Instant::now();
        state(&register, RegisterState::Registered, Duration::from_secs(5)).await?;
        eventually(Duration::from_secs(5), "recovery", async || {
            discover.status().state == DiscoverState::Synced
        })
        .await?;
        println!("{data:?}: back after {:?}", back.elapsed());
        eventually(DEADLINE, "the record", async || {
            services(servers.member(0).address()).await.is_ok_and(|s| s.len() == 1)
        })
        .await?;
        assert_eq!(cache.len(), 1, "it was never gone");
    }
    register.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_record_removed_by_hand_is_back_at_once() -> Result<()> {
    let servers = common::consul().await?;
    let at = servers.member(0).address();
    let register = discox_consul::new_register(rarely(servers.addresses()))?;
    register.start().await?;
    for _ in 0..3 {
        let id = services(at).await?.keys().next().context("no record")?.clone();
        put(at, &format!("agent/service/deregister/{id}"), &json!({})).await?;
        let began = Instant::now();
        eventually(Duration::from_secs(5), "the record", async || {
            services(at).await.is_ok_and(|s| s.len() == 1)
        })
        .await?;
        println!("back after {:?}", began.elapsed());
    }
    register.stop().await?;
    assert!(services(at).await?.is_empty());
    Ok(())
}

/// Counts what is removed.
#[derive(Default)]
struct Removals(Mutex<Vec<String>>);

impl EndpointCacher for Removals {
    fn add_or_update(&self, _: &str, _: &[u8]) {}
    fn delete(&self, endpoint: &str) {
        self.0.lock().unwrap().push(endpoint.to_owned());
    }
    fn add_error(&self, error: &Error) {
        println!("{error}");
    }
}

/// Five registrations, a discovery that has seen them all, and a snapshot from before.
struct Restorable {
    servers: Servers,
    file: String,
    registry: Arc<dyn Registry>,
    registered: Vec<Arc<dyn Register>>,
    discover: Arc<dyn Discover>,
    removals: Arc<Removals>,
}

impl Restorable {
    async fn start() -> Result<Self> {
        let servers = common::consul().await?;
        let file = format!("/tmp/discox-test-{}.snapshot", servers.member(0).address());
        servers.member(0).tool(&["snapshot", "save", &file]).await?;
        let backend_endpoints = servers.addresses();
        let registry = discox_consul::connect(RegistryConfig { backend_endpoints, ..Default::default() })?;
        let registered = (1..=5).map(|port| registry.register(registration(&format!("10.0.0.1:{port}"))));
        let registered = registered.collect::<discox_consul::Result<Vec<_>>>()?;
        for register in &registered {
            register.start().await?;
        }
        let discover = discox_consul::new_discover(discovery(servers.addresses()))?;
        let removals = Arc::new(Removals::default());
        tokio::spawn({
            let (discover, removals) = (discover.clone(), removals.clone());
            async move { discover.start(removals).await }
        });
        let this = Self { servers, file, registry, registered, discover, removals };
        this.complete().await?;
        Ok(this)
    }

    async fn complete(&self) -> Result<()> {
        let complete = async || {
            let status = self.discover.status();
            status.state == DiscoverState::Synced && status.endpoints == 5 && status.held == 0
        };
        eventually(DEADLINE, "all five", complete).await
    }

    async fn restore(&self) -> Result<()> {
        self.servers.member(0).tool(&["snapshot", "restore", &self.file]).await.map(drop)
    }

    async fn nobody_is_removed(&self, outages: u64) -> Result<()> {
        eventually(DEADLINE, "the loss", async || self.discover.status().outages >= outages).await?;
        self.complete().await?;
        let removals = self.removals.0.lock().unwrap();
        ensure!(removals.is_empty(), "{removals:?}");
        Ok(())
    }
}

impl Drop for Restorable {
    fn drop(&mut self) {
        // It is not there where the server has a file system of its own.
        let _ = std::fs::remove_file(&self.file);
    }
}

#[tokio::test]
async fn a_restored_snapshot_removes_no_live_endpoint() -> Result<()> {
    let consul = Restorable::start().await?;
    consul.restore().await?;
    consul.nobody_is_removed(1).await?;
    consul.registry.close().await;
    Ok(())
}

/// What is written right after the restore hides that the index went back, and no query for the service is held while
/// changes go on.
#[tokio::test]
async fn a_snapshot_that_is_restored_while_changes_go_on_removes_no_live_endpoint() -> Result<()> {
    let consul = Restorable::start().await?;
    for round in 1..=3 {
        let (restored, is_restored) = tokio::sync::oneshot::channel();
        let changing = async {
            let mut is_restored = pin!(is_restored);
            for change in 0.. {
                // Some fail: the registry is lost for a moment.
                let _ = consul.registered[0].update_attr(&format!("{round} {change}")).await;
                if timeout(Duration::from_millis(10), &mut is_restored).await.is_ok() {
                    break;
                }
            }
            Ok(())
        };
        let restore = async {
            consul.restore().await?;
            consul.nobody_is_removed(round).await?;
            let _ = restored.send(());
            anyhow::Ok(())
        };
        tokio::try_join!(changing, restore).with_context(|| format!("round {round}"))?;
    }
    consul.registry.close().await;
    Ok(())
}

#[tokio::test]
async fn a_hung_agent_is_noticed_within_detection() -> Result<()> {
    let servers = common::consul().await?;
    let connection = ConnectionConfig { detection: Duration::from_secs(3), ..Default::default() };
    let register = discox_consul::new_register(RegisterConfig {
        connection: connection.clone(),
        ..rarely(servers.addresses())
    })?;
    register.start().await?;
    let (discover, cache) = discover(DiscoverConfig { connection, ..discovery(servers.addresses()) }).await?;
    servers.member(0).pause().await?;
    let paused = Instant::now();
    state(&register, RegisterState::Retrying, Duration::from_secs(4)).await?;
    eventually(Duration::from_secs(4), "the loss", async || discover.status().state == DiscoverState::Lost)
        .await?;
    let noticed = paused.elapsed();
    assert!(noticed < Duration::from_millis(3500), "{noticed:?}");
    assert_eq!(cache.len(), 1);
    servers.member(0).resume().await?;
    state(&register, RegisterState::Registered, DEADLINE).await?;
    eventually(DEADLINE, "recovery", async || discover.status().state == DiscoverState::Synced).await?;
    assert_eq!(cache.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_registration_moves_to_another_agent_and_leaves_nothing_behind() -> Result<()> {
    let servers = Servers::cluster(Kind::Consul).await?;
    let mut addresses = servers.addresses();
    let connection = ConnectionConfig { detection: Duration::from_secs(3), ..Default::default() };
    let config = RegisterConfig { connection: connection.clone(), ..rarely(addresses.clone()) };
    let register = discox_consul::new_register(config)?;
    register.start().await?;
    let mut home = None;
    for (i, member) in servers.members().iter().enumerate() {
        if !services(member.address()).await?.is_empty() {
            home = Some(i);
        }
    }
    let home = home.context("it is with no agent")?;
    let left = addresses.remove(home);
    // If the agent is the leader, this is an outage for all.
    let grace = Duration::from_secs(1);
    let config = DiscoverConfig { connection, grace, ..discovery(addresses.clone()) };
    let (_discover, cache) = discover(config).await?;
    serves(&cache, &[A]).await?;

    servers.member(home).kill().await?;
    let killed = Instant::now();
    eventually(DEADLINE, "the record on another agent", async || {
        let mut found = false;
        for address in &addresses {
            found |= services(address).await.is_ok_and(|services| services.len() == 1);
        }
        found
    })
    .await?;
    println!("moved after {:?}", killed.elapsed());
    register.update_attr("2").await?;
    eventually(DEADLINE, "the update", async || cache.attr(A).as_deref() == Some(b"2")).await?;
    servers.member(home).start(Data::Kept).await?;
    eventually(DEADLINE, "the old record to go", async || services(&left).await.is_ok_and(|s| s.is_empty()))
        .await?;
    assert_eq!(cache.attr(A).as_deref(), Some(b"2".as_slice()), "not what the old record said");
    assert_eq!(cache.len(), 1);
    register.stop().await?;
    serves(&cache, &[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_stop_that_could_not_be_said_is_said_when_the_agent_is_back() -> Result<()> {
    let servers = common::consul().await?;
    let at = servers.member(0).address();
    let connection = ConnectionConfig {
        request_timeout: Duration::from_secs(1),
        detection: Duration::from_secs(2),
        ..Default::default()
    };
    let registry = discox_consul::connect(RegistryConfig {
        backend_endpoints: servers.addresses(),
        connection,
        ..Default::default()
    })?;
    let register = registry.register(rarely(Vec::new()))?;
    register.start().await?;
    servers.member(0).pause().await?;
    let began = Instant::now();
    assert!(register.stop().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    servers.member(0).resume().await?;
    eventually(DEADLINE, "the record to go", async || services(at).await.is_ok_and(|s| s.is_empty())).await?;
    registry.close().await;
    Ok(())
}

#[tokio::test]
async fn more_services_than_an_agent_has_connections_are_all_watched() -> Result<()> {
    const SERVICES: usize = 220;
    let servers = common::consul().await?;
    let at = servers.member(0).address();
    let registry = discox_consul::connect(RegistryConfig {
        backend_endpoints: servers.addresses(),
        ..Default::default()
    })?;
    let mut watched = Vec::new();
    for i in 0..SERVICES {
        let config = DiscoverConfig { service_name: format!("s{i}"), ..discovery(Vec::new()) };
        let discover = registry.discover(config)?;
        let cache = run(&discover);
        watched.push((discover, cache));
    }
    for (_, cache) in &watched {
        cache.ready().await;
        assert!(cache.is_ready(), "{:?}", cache.last_error());
    }
    for round in ["1", "2"] {
        for i in 0..SERVICES {
            let service =
                json!({"Name": format!("s{i}"), "Address": "10.0.0.1", "Port": 80, "Meta": {"round": round}});
            // The agent counts our own requests too, and closes those above its 200 connections.
            let taken = async || put(at, "agent/service/register", &service).await.is_ok();
            eventually(DEADLINE, "the agent to take it", taken).await?;
        }
        let attr = format!(r#"{{"round":"{round}"}}"#);
        let registered = Instant::now();
        for (_, cache) in &watched {
            eventually(DEADLINE, "the change", async || cache.attr(A).as_deref() == Some(attr.as_bytes()))
                .await?;
        }
        println!("all seen after {:?}", registered.elapsed());
    }
    // Others from here still get an answer.
    get(at, "status/leader").await?;
    for (discover, _) in &watched {
        assert_eq!(discover.status().state, DiscoverState::Synced);
    }
    registry.close().await;
    Ok(())
}
