//! Apache Curator's service discovery, on ZooKeeper.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use discox::{
    BackendType, Layout, LayoutOptions, Payload, Register, RegisterConfig, Registry, RegistryConfig, Watching,
};
use discox_testkit::{
    curator::{self, Curator},
    server::{Data, Kind, Servers},
    wait::eventually,
};
use rustix::process::Signal;

use super::program::Program;

/// What happens at once happens within this time, also on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(60);

const BASE: &str = "/fleet";
const SERVICE: &str = "orders";
const HERE: &str = "10.1.2.3:8080";

/// A fleet: its registry, one of its clients, and our connection.
struct Fleet {
    servers: Servers,
    curator: Curator,
    registry: Arc<dyn Registry>,
    layout: Layout,
}

impl Fleet {
    async fn start(payload: curator::Payload) -> Result<Self> {
        let (layout, ours) = match payload {
            curator::Payload::Map => (Layout::Curator, Payload::Json),
            curator::Payload::Spring => (Layout::Spring, Payload::None),
            curator::Payload::Text => (Layout::Curator, Payload::Text),
            curator::Payload::Void => (Layout::Curator, Payload::None),
        };
        let servers = Servers::single(Kind::Zookeeper).await?;
        let registry = discox::connect(RegistryConfig {
            backend_type: BackendType::Zookeeper,
            backend_endpoints: servers.addresses(),
            discover_prefix: BASE.into(),
            layout,
            layout_options: LayoutOptions { payload: ours, ..Default::default() },
            ..Default::default()
        })?;
        let curator = Curator::start(&servers.addresses().join(","), BASE, SERVICE, payload).await?;
        Ok(Self { servers, curator, registry, layout })
    }

    fn register(&self, endpoint: &str, attr: &str) -> Result<Arc<dyn Register>> {
        Ok(self.registry.register(RegisterConfig {
            service_name: SERVICE.into(),
            service_endpoint: endpoint.into(),
            attr: attr.into(),
            heart_beat_period: Duration::from_secs(1),
            ttl: Some(Duration::from_secs(6)),
            ..Default::default()
        })?)
    }

    /// The command line program, which registers an endpoint.
    async fn program(&self, attr: &str) -> Result<Program> {
        let (address, layout) = (self.servers.addresses().join(","), self.layout.to_string());
        let place = [
            "--backend",
            "zookeeper",
            "--backend-endpoint",
            &address,
            "--prefix",
            BASE,
            "--service",
            SERVICE,
        ];
        let record =
            ["--layout", &layout, "--payload", "json", "--endpoint", HERE, "--attr", attr, "--ttl", "4s"];
        let beat = ["--heart-beat", "1s"];
        let mut program = Program::start(&[&["register"], &place[..], &record, &beat].concat())?;
        program.line_within(DEADLINE).await.context("it did not register")?;
        Ok(program)
    }
}

async fn lists(watching: &Watching, wanted: &[(&str, &str)]) -> Result<()> {
    let what = format!("discox to list {wanted:?}");
    eventually(DEADLINE, &what, async || {
        let snapshot = watching.snapshot();
        snapshot.len() == wanted.len()
            && wanted.iter().all(|(endpoint, attr)| {
                snapshot.attr(endpoint).is_some_and(|found| {
                    String::from_utf8_lossy(found).contains(attr.trim_matches(['{', '}']))
                })
            })
    })
    .await
    .with_context(|| format!("it lists {:?}", watching.snapshot()))
}

#[tokio::test(flavor = "multi_thread")]
async fn curator_follows_a_service_of_discox() -> Result<()> {
    let mut fleet = Fleet::start(curator::Payload::Map).await?;
    let register = fleet.register(HERE, r#"{"version":"1"}"#)?;
    register.start().await?;
    fleet.curator.shows(&["10.1.2.3:8080={version=1}"]).await?;
    let lists = fleet.curator.lists().len();
    register.update_attr(r#"{"version":"2"}"#).await?;
    fleet.curator.shows(&["10.1.2.3:8080={version=2}"]).await?;
    ensure!(fleet.curator.lists()[lists..].iter().all(|list| list.len() == 1), "{:?}", fleet.curator.lists());
    ensure!(fleet.curator.query().await? == ["10.1.2.3:8080={version=2}"]);
    ensure!(fleet.curator.provider().await? == ["10.1.2.3:8080={version=2}"]);
    let another = fleet.register("10.1.2.4:8080", r#"{"version":"3"}"#)?;
    another.start().await?;
    fleet.curator.shows(&["10.1.2.3:8080={version=2}", "10.1.2.4:8080={version=3}"]).await?;
    register.stop().await?;
    fleet.curator.shows(&["10.1.2.4:8080={version=3}"]).await?;
    another.stop().await?;
    fleet.curator.shows(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn curator_follows_a_service_of_discox_through_restarts_of_its_registry() -> Result<()> {
    let mut fleet = Fleet::start(curator::Payload::Map).await?;
    let register = fleet.register(HERE, r#"{"version":"1"}"#)?;
    register.start().await?;
    fleet.curator.shows(&["10.1.2.3:8080={version=1}"]).await?;
    for (data, version) in [(Data::Kept, 2), (Data::Wiped, 3)] {
        fleet.servers.kill().await?;
        fleet.servers.start(data).await?;
        let attr = format!(r#"{{"version":"{version}"}}"#);
        eventually(DEADLINE, "an update after a restart", async || register.update_attr(&attr).await.is_ok())
            .await?;
        let shown = format!("10.1.2.3:8080={{version={version}}}");
        fleet.curator.shows(&[&shown]).await.with_context(|| format!("{data:?}"))?;
        ensure!(fleet.curator.query().await? == [shown]);
    }
    register.stop().await?;
    fleet.curator.shows(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn curator_misses_a_service_of_discox_that_was_killed_and_sees_its_next_life() -> Result<()> {
    let fleet = Fleet::start(curator::Payload::Map).await?;
    let program = fleet.program(r#"{"version":"1"}"#).await?;
    fleet.curator.shows(&["10.1.2.3:8080={version=1}"]).await?;
    program.signal(Signal::KILL)?;
    fleet.curator.shows(&[]).await?;
    // Killed, and there again before its session has ended: the old one must not take the new record along.
    let program = fleet.program(r#"{"version":"2"}"#).await?;
    fleet.curator.shows(&["10.1.2.3:8080={version=2}"]).await?;
    program.signal(Signal::KILL)?;
    let program = fleet.program(r#"{"version":"3"}"#).await?;
    fleet.curator.shows(&["10.1.2.3:8080={version=3}"]).await?;
    let lists = fleet.curator.lists().len();
    tokio::time::sleep(Duration::from_secs(8)).await;
    ensure!(fleet.curator.lists().len() == lists, "{:?}", fleet.curator.lists());
    program.signal(Signal::TERM)?;
    fleet.curator.shows(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn discox_follows_a_service_of_curator() -> Result<()> {
    let mut fleet = Fleet::start(curator::Payload::Map).await?;
    let watching = fleet.registry.watch(SERVICE)?;
    watching.ready_within(DEADLINE).await?;
    fleet.curator.register("10.1.2.3", 8080, "id-1", "1").await?;
    lists(&watching, &[(HERE, r#""version":"1""#)]).await?;
    fleet.curator.update("2").await?;
    lists(&watching, &[(HERE, r#""version":"2""#)]).await?;
    fleet.curator.unregister().await?;
    lists(&watching, &[]).await?;
    fleet.curator.register("10.1.2.3", 8080, "id-2", "3").await?;
    lists(&watching, &[(HERE, r#""version":"3""#)]).await?;
    for data in [Data::Kept, Data::Wiped] {
        fleet.servers.kill().await?;
        fleet.servers.start(data).await?;
        // Curator is back within its retries; until then the grace holds what was there.
        eventually(DEADLINE, "Curator to register again", async || {
            watching.status().held == 0 && watching.freshness().state == discox::FreshnessState::Synced
        })
        .await?;
        lists(&watching, &[(HERE, r#""version":"3""#)]).await.with_context(|| format!("{data:?}"))?;
    }
    fleet.curator.kill().await?;
    lists(&watching, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_payload_is_read_by_its_fleet() -> Result<()> {
    let cases = [
        (curator::Payload::Void, "", "null"),
        (curator::Payload::Text, "some text", "some text"),
        (
            curator::Payload::Spring,
            r#"{"version":"1","zone":"a"}"#,
            "{instance_status=UP, version=1, zone=a}",
        ),
    ];
    for (payload, attr, shown) in cases {
        let mut fleet = Fleet::start(payload).await?;
        let watching = fleet.registry.watch(SERVICE)?;
        let register = fleet.register(HERE, attr)?;
        register.start().await?;
        let shown = format!("{HERE}={shown}");
        fleet.curator.shows(&[&shown]).await.with_context(|| format!("{payload:?}"))?;
        ensure!(fleet.curator.query().await? == [shown], "{payload:?}");
        fleet.curator.register("10.1.2.4", 8080, "id-1", "theirs").await?;
        let theirs = if payload == curator::Payload::Void { "" } else { "theirs" };
        lists(&watching, &[(HERE, attr), ("10.1.2.4:8080", theirs)])
            .await
            .with_context(|| format!("{payload:?}"))?;
        register.stop().await?;
    }
    Ok(())
}
