//! A registration and a discovery at work, and the registry taken away under them.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use discox_core::{
    BackendType, ConnectionConfig, Discover, DiscoverConfig, DiscoverState, ErrorKind, LiteEndpoint,
    Register, RegisterConfig, RegisterState, RegistryConfig, ZookeeperOptions,
};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    bytes::Noise,
    cases::{Case, Victim, Wrong},
    consul, memory, panics,
    server::Hostile,
};
use crate::{
    conformance::Makers,
    proxy::{Proxy, Tamper},
    server::{Kind, Servers},
    wait::eventually,
};

/// Who is there from the beginning, who comes meanwhile, and who comes afterwards.
pub(super) const FIRST: &str = "10.0.0.1:80";
const MEANWHILE: &str = "10.0.0.2:80";
const LAST: &str = "10.0.0.3:80";

/// What all of them are registered with.
pub(super) const ATTR: &str = "a";

/// What is allowed of one service here, so that it does not take long to exceed it.
const ENDPOINTS: usize = 20_000;
const BYTES: usize = 8 << 20;

/// So long it goes on: twice as long as it takes to notice a silent server.
const EXPOSURE: Duration = Duration::from_secs(4);

/// Within this time a start is refused. It is configured to take a second; the machine is busy with sending
/// garbage.
const REFUSAL: Duration = Duration::from_secs(10);

/// One of several attempts takes this long at most to show whether anything comes of it.
const ATTEMPT: Duration = Duration::from_millis(200);

/// The longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(40);

/// Plays one case.
pub(super) async fn play(
    makers: &Makers,
    case: &Case,
    victim: Victim,
    servers: &Servers,
    elsewhere: &Handle,
) -> Result<()> {
    let before = panics::so_far();
    let stage = Stage::set(makers, victim, servers, elsewhere).await.context("before")?;
    let growth = memory::Growth::watch()?;
    stage.disturb(case).await.context("meanwhile")?;
    let grown = growth.end().await?;
    eprintln!("{victim}::{}: grew by {} MiB", case.name, grown >> 20);
    let most = case.growth(victim);
    ensure!(grown >> 20 < most, "grew by {} MiB, may by {most}", grown >> 20);
    stage.recover().await.context("afterwards")?;
    stage.end().await.context("at the end")?;
    panics::none_since(before)
}

struct Stage<'a> {
    makers: &'a Makers,
    victim: Victim,
    servers: &'a Servers,
    elsewhere: &'a Handle,
    /// What everybody believes to be the registry.
    front: Proxy,
    register: Arc<dyn Register>,
    watcher: Watcher,
}

/// A discovery, and what it tells.
struct Watcher {
    discover: Arc<dyn Discover>,
    cache: Arc<LiteEndpoint>,
    watching: JoinHandle<discox_core::Result<()>>,
}

impl Watcher {
    fn start(discover: Arc<dyn Discover>) -> Self {
        let cache = Arc::new(LiteEndpoint::new());
        let watching = tokio::spawn({
            let (discover, cache) = (discover.clone(), cache.clone());
            async move { discover.start(cache).await }
        });
        Self { discover, cache, watching }
    }

    async fn lists(&self, expected: &[&str]) -> Result<()> {
        let listed = async || self.cache.list() == expected;
        let waited = eventually(DEADLINE, "the list", listed).await;
        waited.with_context(|| {
            let (length, status) = (self.cache.len(), self.discover.status());
            format!("expected {expected:?}, have {length}, {status:?}")
        })
    }

    async fn stop(self) -> Result<()> {
        self.discover.stop().await;
        Ok(self.watching.await??)
    }
}

impl<'a> Stage<'a> {
    async fn set(
        makers: &'a Makers,
        victim: Victim,
        servers: &'a Servers,
        elsewhere: &'a Handle,
    ) -> Result<Self> {
        let front = Proxy::to(servers.member(0).address()).await?;
        let registry = (makers.connect)(RegistryConfig {
            backend_type: backend(victim),
            backend_endpoints: vec![front.address().to_owned()],
            connection: connection(victim),
            ..Default::default()
        })?;
        let register = registry.register(registration(victim, FIRST, front.address()))?;
        register.start().await?;
        let watcher = Watcher::start(registry.discover(discovery(victim, front.address()))?);
        watcher.lists(&[FIRST]).await?;
        Ok(Self { makers, victim, servers, elsewhere, front, register, watcher })
    }

    /// Puts something else in the registry's place, until it has been tried often enough.
    async fn disturb(&self, case: &Case) -> Result<()> {
        let witness = Hostile::start(Arc::new(Noise::Closed), self.elsewhere).await?;
        let mut hostile = None;
        match &case.wrong {
            Wrong::Server(script) => hostile = Some(Hostile::start(script.clone(), self.elsewhere).await?),
            Wrong::Elsewhere(status) => {
                let there = consul::Mischief::Redirect(*status, witness.address().to_owned());
                hostile = Some(Hostile::start(Arc::new(there), self.elsewhere).await?);
            }
            Wrong::Answers(tamper) | Wrong::AtEveryByte(tamper, _) => self.front.tamper(Some(*tamper)),
        }
        if let Some(hostile) = &hostile {
            self.front.lead_to(hostile.address());
        }
        self.front.reset_all();

        let newcomer = Watcher::start((self.makers.new_discover)(self.discovery())?);
        let refused = self.start_meanwhile().await?;
        match &case.wrong {
            Wrong::AtEveryByte(tamper, attempts) => self.attempt(*tamper, *attempts).await,
            _ => {
                ensure!(refused || hostile.is_none(), "a registration was started at no registry");
                sleep(EXPOSURE).await;
            }
        }
        if case.told {
            let told = async || self.watcher.cache.last_error().is_some();
            eventually(DEADLINE, "the cache to be told", told).await?;
        }
        ensure!(!self.watcher.watching.is_finished(), "the discovery has ended");
        ensure!(!newcomer.watching.is_finished(), "the new discovery has ended");
        ensure!(self.watcher.cache.attr(FIRST).is_some(), "what was known is gone");
        ensure!(witness.accepted() == 0, "somebody went where he was sent");
        newcomer.stop().await
    }

    /// Who starts now is told soon that it cannot be, and why. Says whether it was so.
    async fn start_meanwhile(&self) -> Result<bool> {
        let register =
            (self.makers.new_register)(registration(self.victim, MEANWHILE, self.front.address()))?;
        let began = Instant::now();
        let started = timeout(DEADLINE, register.start()).await.context("start hangs")?;
        ensure!(began.elapsed() < REFUSAL, "start took {:?}: {started:?}", began.elapsed());
        let stopped = timeout(DEADLINE, register.stop()).await.context("stop hangs")?;
        let Err(error) = started else { return Ok(false) };
        let kinds = [ErrorKind::Unavailable, ErrorKind::TimedOut, ErrorKind::Protocol, ErrorKind::TooLarge];
        ensure!(kinds.contains(&error.kind()), "{error:?}");
        let shown = format!("{error} {stopped:?}");
        ensure!(shown.len() < 4_000 && !shown.contains(char::is_control), "{shown:?}");
        Ok(true)
    }

    /// Connects again and again.
    async fn attempt(&self, tamper: Tamper, attempts: usize) {
        for _ in 0..attempts {
            let accepted = self.front.accepted();
            let next = async || self.front.accepted() > accepted;
            // Where the place was harmless nothing happens by itself.
            let _ = eventually(ATTEMPT, "the next attempt", next).await;
            if !matches!(tamper, Tamper::EndLater) || self.front.accepted() == accepted {
                self.front.reset_all();
            }
        }
    }

    /// Gives the registry back.
    async fn recover(&self) -> Result<()> {
        self.front.tamper(None);
        self.front.lead_to(self.servers.member(0).address());
        self.front.reset_all();
        let well = async || {
            self.register.status().state == RegisterState::Registered
                && self.watcher.discover.status().state == DiscoverState::Synced
        };
        let waited = eventually(DEADLINE, "the recovery", well).await;
        waited
            .with_context(|| format!("{:?} {:?}", self.register.status(), self.watcher.discover.status()))?;
        let last =
            (self.makers.new_register)(registration(self.victim, LAST, self.servers.member(0).address()))?;
        last.start().await?;
        self.watcher.lists(&[FIRST, LAST]).await?;
        Ok(last.stop().await?)
    }

    async fn end(self) -> Result<()> {
        self.register.stop().await?;
        self.watcher.lists(&[]).await?;
        self.watcher.stop().await
    }

    fn discovery(&self) -> DiscoverConfig {
        discovery(self.victim, self.front.address())
    }
}

fn backend(victim: Victim) -> BackendType {
    match victim.kind {
        Kind::Etcd => BackendType::Etcd,
        Kind::Zookeeper => BackendType::Zookeeper,
        Kind::Consul => BackendType::Consul,
    }
}

/// Everything as short as it can be, so that much happens in little time.
fn connection(victim: Victim) -> ConnectionConfig {
    ConnectionConfig {
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(1),
        detection: Duration::from_secs(2),
        backoff_initial: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        denied_backoff_max: Duration::from_millis(500),
        max_endpoints: ENDPOINTS,
        max_service_bytes: BYTES,
        zookeeper: ZookeeperOptions { guard: victim.guard, ..Default::default() },
        ..Default::default()
    }
}

fn registration(victim: Victim, endpoint: &str, at: &str) -> RegisterConfig {
    RegisterConfig {
        backend_type: backend(victim),
        backend_endpoints: vec![at.to_owned()],
        discover_prefix: "/discox/hostile".into(),
        service_name: "demo".into(),
        service_endpoint: endpoint.to_owned(),
        attr: ATTR.into(),
        heart_beat_period: Duration::from_secs(1),
        ttl: Some(Duration::from_secs(4)),
        connection: connection(victim),
        ..Default::default()
    }
}

fn discovery(victim: Victim, at: &str) -> DiscoverConfig {
    DiscoverConfig {
        backend_type: backend(victim),
        backend_endpoints: vec![at.to_owned()],
        discover_prefix: "/discox/hostile".into(),
        service_name: "demo".into(),
        grace: Duration::from_secs(3),
        connection: connection(victim),
        ..Default::default()
    }
}
