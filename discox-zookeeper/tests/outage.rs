//! What users see when a real ZooKeeper goes away, hangs, restarts or forgets.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result};
use common::*;
use discox_testkit::{
    proxy::Proxy,
    server::{Data, Kind, Servers},
    wait,
};
use discox_zookeeper::{
    ConnectionConfig, DiscoverConfig, EndpointCacher, Error, Event, LiteEndpoint, RegisterConfig,
    RegisterState, Registry, RegistryConfig, ZookeeperOptions,
};
use tokio::time::{Instant, timeout};

const DETECTION: Duration = Duration::from_secs(4);

fn registry(addresses: &[String]) -> Result<Arc<dyn Registry>> {
    let connection = ConnectionConfig { detection: DETECTION, ..settings() };
    Ok(discox_zookeeper::connect(RegistryConfig {
        backend_endpoints: addresses.to_vec(),
        connection,
        ..Default::default()
    })?)
}

fn discovery() -> DiscoverConfig {
    DiscoverConfig { discover_prefix: PREFIX.into(), service_name: "demo".into(), ..Default::default() }
}

/// A cache that remembers what it was told.
#[derive(Default)]
struct Told {
    cache: LiteEndpoint,
    log: Mutex<Vec<String>>,
}

impl Told {
    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    async fn until(&self, what: &str) -> Result<Duration> {
        let began = Instant::now();
        eventually(what, async || Ok(self.log().iter().any(|told| told == what))).await?;
        Ok(began.elapsed())
    }
}

impl EndpointCacher for Told {
    fn add_or_update(&self, endpoint: &str, attribute: &[u8]) {
        self.log.lock().unwrap().push(format!("put {endpoint} {}", String::from_utf8_lossy(attribute)));
        self.cache.add_or_update(endpoint, attribute);
    }

    fn delete(&self, endpoint: &str) {
        self.log.lock().unwrap().push(format!("delete {endpoint}"));
        self.cache.delete(endpoint);
    }

    fn add_error(&self, _error: &Error) {}

    fn on_event(&self, event: &Event) {
        let told = match event {
            Event::Synced => "synced",
            Event::Lost(_) => "lost",
            Event::Recovered => "recovered",
            _ => return,
        };
        self.log.lock().unwrap().push(told.into());
    }
}

async fn watch(registry: &Arc<dyn Registry>) -> Result<Arc<Told>> {
    let (discover, told) = (registry.discover(discovery())?, Arc::new(Told::default()));
    tokio::spawn({
        let told = told.clone();
        async move { discover.start(told).await }
    });
    told.until("synced").await?;
    Ok(told)
}

/// Which node it is, and how often it was written, where that outlives a connection.
async fn node(server: &discox_testkit::server::Member) -> Result<Vec<String>> {
    if !sessions_outlive_connections() {
        return Ok(Vec::new());
    }
    let stat = server.tool(&["stat", &path(A)]).await?;
    let telling = stat
        .lines()
        .filter(|line| ["cZxid", "mZxid", "ephemeralOwner"].iter().any(|field| line.starts_with(field)));
    let telling: Vec<_> = telling.map(str::to_owned).collect();
    anyhow::ensure!(telling.len() == 3, "{stat}");
    Ok(telling)
}

#[tokio::test]
async fn registers_discovers_updates_and_stops() -> Result<()> {
    let server = Server::start().await?;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let endpoints = vec![server.address().to_owned()];
    let connection = ConnectionConfig {
        zookeeper: ZookeeperOptions { client: client(), ..Default::default() },
        ..Default::default()
    };
    let register = discox_zookeeper::new_register(RegisterConfig {
        backend_endpoints: endpoints.clone(),
        ttl: Some(SESSION),
        connection: connection.clone(),
        ..registration()
    })?;
    register.start().await?;
    assert_eq!(register.status().granted_ttl, Some(SESSION));
    let discover = discox_zookeeper::new_discover(DiscoverConfig {
        backend_endpoints: endpoints,
        connection,
        ..discovery()
    })?;
    let cache = Arc::new(LiteEndpoint::new());
    let watching = tokio::spawn({
        let (discover, cache) = (discover.clone(), cache.clone());
        async move { discover.start(cache).await }
    });
    cache.ready().await;
    assert_eq!(cache.list(), [A]);
    register.update_attr("2").await?;
    eventually("the attr arrives", async || Ok(cache.attr(A).as_deref() == Some(b"2"))).await?;
    register.stop().await?;
    eventually("the endpoint is gone", async || Ok(cache.is_empty())).await?;
    discover.stop().await;
    watching.await??;
    drop((register, discover));
    eventually("the last task ends", async || Ok(tasks() <= before)).await
}

#[tokio::test]
async fn a_restart_with_data_changes_nothing_however_long_it_takes() -> Result<()> {
    let server = Server::start().await?;
    let registry = registry(&[server.address().into()])?;
    let register = registry.register(registration())?;
    register.start().await?;
    let told = watch(&registry).await?;
    let before = node(&server).await?;
    for beyond in [Duration::ZERO, 3 * SESSION] {
        told.log.lock().unwrap().clear();
        server.kill().await?;
        let after = told.until("lost").await?;
        assert!(after < Duration::from_secs(1), "noticed after {after:?}");
        let down = Instant::now();
        eventually("the outage is long enough", async || Ok(down.elapsed() >= beyond)).await?;
        server.start(Data::Kept).await?;
        println!("back after {:?}", told.until("recovered").await?);
        let registered = async || Ok(register.status().state == RegisterState::Registered);
        eventually("it is registered", registered).await?;
        let confirmed = Instant::now().into_std();
        eventually("a heart beat", async || Ok(register.status().last_confirmed > Some(confirmed))).await?;
        assert_eq!(node(&server).await?, before, "nothing was written, the session goes on");
        assert_eq!(told.log(), ["lost", "recovered"]);
    }
    Ok(())
}

#[tokio::test]
async fn it_is_registered_again_after_the_server_lost_its_data() -> Result<()> {
    let server = Server::start().await?;
    let registry = registry(&[server.address().into()])?;
    let register = registry.register(registration())?;
    register.start().await?;
    let told = watch(&registry).await?;
    server.kill().await?;
    server.start(Data::Wiped).await?;
    let began = Instant::now();
    let observer = server.link().await?;
    eventually("the record is there", async || Ok(open(&observer).await?.0.len() == 1)).await?;
    let after = began.elapsed();
    assert!(after < Duration::from_secs(3), "registered again {after:?} after the server answered");
    println!("registered again {after:?} after the server answered");
    told.until("recovered").await?;
    assert_eq!(told.log().last().map(String::as_str), Some("recovered"));
    assert_eq!(told.cache.list(), [A]);
    assert!(!told.log().iter().any(|told| told.starts_with("delete")), "{:?}", told.log());
    Ok(())
}

#[tokio::test]
async fn a_hung_server_is_noticed_in_time_and_found_again() -> Result<()> {
    let server = Server::start().await?;
    let registry = registry(&[server.address().into()])?;
    let register = registry.register(registration())?;
    register.start().await?;
    let told = watch(&registry).await?;
    server.pause().await?;
    let began = Instant::now();
    println!("the watcher knows after {:?}", told.until("lost").await?);
    eventually("the connection is given up", async || Ok(registry.trouble().is_some())).await?;
    assert!(began.elapsed() < DETECTION, "{:?}", began.elapsed());
    server.resume().await?;
    told.until("recovered").await?;
    let registered = async || Ok(register.status().state == RegisterState::Registered);
    eventually("it is registered", registered).await?;
    assert_eq!(server.data(A).await?, "1");
    assert_eq!(told.cache.list(), [A]);
    Ok(())
}

#[tokio::test]
async fn a_short_hang_costs_no_session() -> Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::to(server.address()).await?;
    let registry = registry(&[proxy.address().into()])?;
    let register = registry.register(registration())?;
    register.start().await?;
    let told = watch(&registry).await?;
    let before = node(&server).await?;
    let stall = Duration::from_secs(3);
    let over = std::time::Instant::now() + stall;
    proxy.stall(stall);
    if sessions_outlive_connections() {
        told.until("lost").await?;
        told.until("recovered").await?;
    }
    eventually("a heart beat", async || Ok(register.status().last_confirmed > Some(over))).await?;
    assert_eq!(register.status().state, RegisterState::Registered);
    assert_eq!(node(&server).await?, before, "the same session");
    assert!(!told.log().iter().any(|told| told.starts_with("delete")), "{:?}", told.log());
    Ok(())
}

#[tokio::test]
async fn a_black_holed_member_costs_its_connect_timeout() -> Result<()> {
    let servers = Servers::cluster(Kind::Zookeeper).await?;
    let mut proxies = Vec::new();
    for address in servers.addresses() {
        proxies.push(Proxy::to(address).await?);
    }
    let addresses: Vec<_> = proxies.iter().map(|proxy| proxy.address().to_owned()).collect();
    proxies[0].hold();
    // The order is random: some of them meet the silent member first.
    for _ in 0..6 {
        let began = Instant::now();
        let registry = registry(&addresses)?;
        watch(&registry).await?;
        println!("listed after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(4), "listed after {:?}", began.elapsed());
        registry.close().await;
    }
    proxies[0].release();
    let registry = registry(&addresses)?;
    let register = registry.register(registration())?;
    register.start().await?;
    let told = watch(&registry).await?;
    let before = node(servers.member(0)).await?;
    let used = proxies.iter().position(|proxy| proxy.connections() > 0).context("connected to none")?;
    proxies[used].hold();
    told.until("lost").await?;
    println!("recovered {:?} after it was lost", told.until("recovered").await?);
    let other = servers.member((used + 1) % 3);
    assert_eq!(node(other).await?, before, "the same session");
    Ok(())
}

#[tokio::test]
async fn a_killed_member_costs_nobody_a_session() -> Result<()> {
    let servers = Servers::cluster(Kind::Zookeeper).await?;
    // Their sessions are with members chosen at random.
    let mut all = Vec::new();
    for i in 0..6 {
        let registry = registry(&servers.addresses())?;
        let endpoint = endpoint(i);
        let register =
            registry.register(RegisterConfig { service_endpoint: endpoint.clone(), ..registration() })?;
        register.start().await?;
        all.push((registry, register));
    }
    let told = watch(&all[0].0).await?;
    eventually("all are listed", async || Ok(told.cache.len() == 6)).await?;
    let (leader, member) = servers.elected().await?;
    member.kill().await?;
    let connector = connector(servers.member((leader + 1) % 3).address())?;
    // On a busy machine they need several rounds, of seconds each.
    let observer =
        wait::eventually(4 * DEADLINE, "a new leader", async || connect(&connector).await.ok()).await?;
    // Longer than the session: only who has moved on is still there.
    let beyond = Instant::now() + 2 * SESSION;
    let mut listed = Vec::new();
    eventually("the session timeout is over", async || {
        listed = open(&observer).await?.0;
        Ok(Instant::now() > beyond)
    })
    .await?;
    assert_eq!(listed.len(), 6, "{listed:?}");
    assert_eq!(told.cache.len(), 6);
    assert!(!told.log().iter().any(|told| told.starts_with("delete")), "{:?}", told.log());
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_so_in_time() -> Result<()> {
    let register = discox_zookeeper::new_register(RegisterConfig {
        backend_endpoints: vec!["127.0.0.1:1".into()],
        connection: settings(),
        ..registration()
    })?;
    let error = timeout(Duration::from_secs(6), register.start()).await?.unwrap_err();
    assert!(error.to_string().starts_with("zookeeper at 127.0.0.1:1: "), "{error}");
    println!("{error}");
    Ok(())
}
