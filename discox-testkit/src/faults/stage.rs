//! What a cell plays on: its own servers, live registrations, watchers, and a book of what is true.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use discox_core::{
    BackendType, ConnectionConfig, ConsulOptions, Discover, DiscoverConfig, Register, RegisterConfig,
    Registry, RegistryConfig, ZookeeperOptions,
};
use futures_util::future::{join_all, try_join_all};

use super::{
    Suite,
    book::{Book, Expected, Verdict},
    cell::{Cell, Settings, Topology},
    form::Form,
    notes::Notes,
    reading::Reader,
    truth::Truth,
    watcher::Watcher,
};
use crate::{
    conformance::connections_to,
    proxy::Proxy,
    server::{Kind, Servers},
    wait::eventually,
};

/// Until all is up before the fault, on a machine that runs many cells.
pub(crate) const UP: Duration = Duration::from_secs(30);

/// By which way a client reaches the servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Via {
    /// Through the proxies, if there are any.
    Doors,
    /// Directly.
    Direct,
}

/// A registration that must stay registered.
pub(crate) struct Live {
    pub(crate) endpoint: String,
    pub(crate) register: Arc<dyn Register>,
}

/// Everything that a cell has.
pub struct Stage {
    pub(crate) suite: Arc<Suite>,
    pub(crate) cell: Cell,
    pub(crate) form: Form,
    pub(crate) settings: Settings,
    pub(crate) servers: Arc<Servers>,
    /// A proxy before each member, if asked for.
    pub(crate) doors: Vec<Proxy>,
    pub(crate) notes: Arc<Notes>,
    pub(crate) book: Arc<Book>,
    pub(crate) prefix: String,
    pub(crate) service: String,
    pub(crate) shared: Arc<dyn Registry>,
    pub(crate) fleet: Vec<Live>,
    pub(crate) watchers: Vec<Watcher>,
    /// Compares statuses with what the registry has.
    pub(crate) truth: Truth,
    newcomers: AtomicUsize,
}

impl Stage {
    /// Starts servers, registrations and watchers, and waits until all see all.
    pub(crate) async fn open(suite: Arc<Suite>, cell: &Cell, form: Form, notes: Arc<Notes>) -> Result<Stage> {
        let settings = cell.fault.settings.clone();
        let members = if cell.topology == Topology::Cluster { 3 } else { 1 };
        let mut builder = Servers::builder(cell.kind).members(members);
        let config = (settings.config)(cell.kind);
        if !config.is_empty() {
            builder = builder.config(config);
        }
        let servers = Arc::new(builder.start().await?);
        let mut doors = Vec::new();
        if settings.doors {
            doors = try_join_all(servers.addresses().into_iter().map(Proxy::to)).await?;
        }
        let unique = fastrand::u64(..);
        let shared_config = RegistryConfig {
            backend_type: backend(cell.kind),
            backend_endpoints: addresses(&servers, &doors, Via::Doors),
            connection: connection(&settings, backend(cell.kind)),
            ..Default::default()
        };
        let shared = (suite.makers.connect)(shared_config)?;
        let (prefix, service) = (format!("/faults/{unique:016x}"), format!("service-{unique:016x}"));
        let reader = Reader { servers: servers.clone(), prefix: prefix.clone(), service: service.clone() };
        let truth = Truth::watch(reader, &settings);
        let mut stage = Stage {
            suite,
            cell: cell.clone(),
            form,
            settings,
            servers,
            doors,
            notes,
            book: Arc::default(),
            prefix,
            service,
            shared,
            fleet: Vec::new(),
            watchers: Vec::new(),
            truth,
            newcomers: AtomicUsize::new(0),
        };
        stage.fill().await.context("before the fault")?;
        Ok(stage)
    }

    async fn fill(&mut self) -> Result<()> {
        let Settings { endpoints, watchers, .. } = self.settings;
        for i in 0..endpoints {
            let endpoint = format!("10.0.0.{}:8000", i + 1);
            let register = if i < endpoints.div_ceil(2) {
                self.registration_on_shared(&endpoint, "first")?
            } else {
                self.registration(&endpoint, "first", Via::Doors)?
            };
            self.fleet.push(Live { endpoint, register });
        }
        start_all(&self.fleet).await?;
        for i in 0..watchers {
            let discovery = self.discovery(self.settings.grace, Via::Doors);
            let discover = match i {
                1 => self.shared.discover(discovery)?,
                _ => (self.suite.makers.new_discover)(discovery)?,
            };
            self.watchers.push(self.audience(format!("{i}"), discover));
        }
        self.wait_until_right(UP).await
    }

    /// Waits until every watcher shows exactly what is live.
    pub(crate) async fn wait_until_right(&self, within: Duration) -> Result<()> {
        let expected = self.book.expected();
        let problem = || self.watchers.iter().find_map(|watcher| watcher.problem(&expected, None));
        let right = eventually(within, "all watchers to be right", async || problem().is_none());
        right.await.with_context(|| problem().unwrap_or_default())
    }

    /// An endpoint that nobody has used.
    pub(crate) fn newcomer(&self) -> String {
        let number = self.newcomers.fetch_add(1, Relaxed);
        format!("10.0.1.{}:{}", number % 250, 8000 + number / 250)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.cell.kind
    }

    pub(crate) fn backend(&self) -> BackendType {
        backend(self.cell.kind)
    }

    pub(crate) fn addresses(&self, via: Via) -> Vec<String> {
        addresses(&self.servers, &self.doors, via)
    }

    pub(crate) fn register_config(&self, endpoint: &str, attr: &str, via: Via) -> RegisterConfig {
        RegisterConfig {
            backend_type: self.backend(),
            backend_endpoints: self.addresses(via),
            discover_prefix: self.prefix.clone(),
            service_name: self.service.clone(),
            service_endpoint: endpoint.to_owned(),
            attr: attr.to_owned(),
            heart_beat_period: self.settings.heart_beat,
            ttl: Some(self.settings.ttl),
            connection: connection(&self.settings, self.backend()),
            ..Default::default()
        }
    }

    /// A registration with a connection of its own, written into the book as live, not started.
    pub(crate) fn registration(&self, endpoint: &str, attr: &str, via: Via) -> Result<Arc<dyn Register>> {
        self.book.live(endpoint, attr);
        let register = (self.suite.makers.new_register)(self.register_config(endpoint, attr, via))?;
        self.truth.registration(endpoint, &register);
        Ok(register)
    }

    /// A registration on the shared connection, written into the book as live, not started.
    pub(crate) fn registration_on_shared(&self, endpoint: &str, attr: &str) -> Result<Arc<dyn Register>> {
        self.book.live(endpoint, attr);
        let register = self.shared.register(self.register_config(endpoint, attr, Via::Doors))?;
        self.truth.registration(endpoint, &register);
        Ok(register)
    }

    pub(crate) fn discovery(&self, grace: Duration, via: Via) -> DiscoverConfig {
        DiscoverConfig {
            backend_type: self.backend(),
            backend_endpoints: self.addresses(via),
            discover_prefix: self.prefix.clone(),
            service_name: self.service.clone(),
            grace,
            connection: connection(&self.settings, self.backend()),
            ..Default::default()
        }
    }

    /// Another connection for many.
    pub(crate) fn connect(&self, via: Via) -> Result<Arc<dyn Registry>> {
        Ok((self.suite.makers.connect)(RegistryConfig {
            backend_type: self.backend(),
            backend_endpoints: self.addresses(via),
            connection: connection(&self.settings, self.backend()),
            ..Default::default()
        })?)
    }

    /// A watcher with a connection of its own, started, that is no part of the cell's audience.
    pub(crate) fn watch(&self, name: &str, grace: Duration, via: Via) -> Result<Watcher> {
        let discover = (self.suite.makers.new_discover)(self.discovery(grace, via))?;
        Ok(self.audience(name, discover))
    }

    fn audience(&self, name: impl Into<String>, discover: Arc<dyn Discover>) -> Watcher {
        let watcher = Watcher::start(name, discover);
        self.truth.discovery(&watcher.name, &watcher.discover, &watcher.cache);
        watcher
    }

    /// The member that most of this process's connections go to.
    pub(crate) fn in_use(&self) -> Result<usize> {
        self.most_used(|_| true)
    }

    /// Of some members, the one that most of this process's connections go to.
    pub(crate) fn most_used(&self, eligible: impl Fn(usize) -> bool) -> Result<usize> {
        let mut most = None;
        for (member, address) in self.servers.addresses().iter().enumerate().filter(|(i, _)| eligible(*i)) {
            let port = address.rsplit(':').next().and_then(|port| port.parse().ok()).context("no port")?;
            let connections = match self.doors.get(member) {
                Some(door) => door.connections(),
                None => connections_to(port)?,
            };
            most = most.max(Some((connections, member)));
        }
        most.map(|(_, member)| member).context("no member")
    }

    /// Judges what the watchers were told on the way, and notes it.
    ///
    /// # Errors
    /// A live endpoint was removed without excuse, or something else was told that is not true.
    pub(crate) fn judge(&self) -> Result<()> {
        let verdicts: Vec<_> =
            self.watchers.iter().map(|w| (&w.name, self.book.judge(&w.seen.log()))).collect();
        let count =
            |of: fn(&Verdict) -> usize| verdicts.iter().map(|(_, verdict)| of(verdict)).sum::<usize>();
        let removals = count(|verdict| verdict.live_removals.len());
        let excuse = self.cell.excuse();
        self.notes.count(if excuse.is_some() { "excused_removals" } else { "live_removals" }, removals);
        self.notes.count("wrong_adds", count(|verdict| verdict.wrong_adds.len()));
        self.notes.count("losses_told", count(|verdict| verdict.losses));
        let mut wrong = String::new();
        for (name, verdict) in &verdicts {
            let unless_excused = |list| if excuse.is_some() { &[][..] } else { list };
            let lists = [
                ("removed", unless_excused(&verdict.live_removals[..])),
                ("added", unless_excused(&verdict.wrong_adds[..])),
                ("told", &verdict.wrong_events[..]),
            ];
            for (what, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
                let _ = writeln!(wrong, "watcher {name} wrongly {what}: {}", list.join("; "));
            }
            let losses = self.cell.losses();
            if !losses.contains(&verdict.losses) {
                let told = verdict.losses;
                let _ = writeln!(wrong, "watcher {name} was told of {told} losses and not of {losses:?}");
            }
        }
        let (lies, readings) = self.truth.lies();
        self.notes.count("status_readings", readings);
        self.notes.count("untrue_statuses", lies.len());
        for lie in lies {
            let _ = writeln!(wrong, "{lie}");
        }
        if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.trim_end()) }
    }

    /// What everybody saw and says, for the message of a failure.
    pub(crate) async fn describe(&self) -> String {
        let mut text = String::new();
        for watcher in &self.watchers {
            let log = format!("{:?}", watcher.seen);
            let _ =
                writeln!(text, "watcher {}: {:?}{}", watcher.name, watcher.discover.status(), shorten(&log));
        }
        for live in &self.fleet {
            let _ = writeln!(text, "{}: {:?}", live.endpoint, live.register.status());
        }
        let logs = join_all(self.servers.members().iter().map(|member| async move {
            let log = member.log_tail().await;
            let lines: Vec<_> = log.lines().collect();
            format!("the end of the log of {member}:\n{}", lines[lines.len().saturating_sub(12)..].join("\n"))
        }));
        text + &logs.await.join("\n")
    }

    /// Ends all registrations and watchers, and returns when they are gone.
    pub(crate) async fn close(mut self) -> Result<()> {
        let stopped = join_all(self.fleet.iter().map(|live| {
            self.book.ended(&live.endpoint);
            live.register.stop()
        }));
        let failed = stopped.await.into_iter().find_map(Result::err);
        if let Some(error) = failed {
            return Err(error).context("stop after recovery");
        }
        let nobody = Expected::default();
        for watcher in &self.watchers {
            let empty = eventually(Duration::from_secs(10), "the removals", async || {
                watcher.differs(&nobody).is_none()
            });
            empty.await.with_context(|| watcher.differs(&nobody).unwrap_or_default())?;
        }
        for watcher in self.watchers.drain(..) {
            watcher.stop().await?;
        }
        self.shared.close().await;
        Ok(())
    }
}

/// Starts registrations before the fault: a busy machine may take longer than one start waits.
pub(crate) async fn start_all(fleet: &[Live]) -> Result<()> {
    let starts = fleet.iter().map(|live| async {
        let start = eventually(UP, "a start", async || live.register.start().await.ok());
        start.await.with_context(|| format!("{}: {:?}", live.endpoint, live.register.status()))
    });
    try_join_all(starts).await.map(drop)
}

/// A long log is read at both ends.
fn shorten(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    if lines.len() <= 80 {
        return log.to_owned();
    }
    format!(
        "{}\n  … {} lines …\n{}",
        lines[..40].join("\n"),
        lines.len() - 80,
        lines[lines.len() - 40..].join("\n")
    )
}

pub(crate) fn backend(kind: Kind) -> BackendType {
    match kind {
        Kind::Etcd => BackendType::Etcd,
        Kind::Zookeeper => BackendType::Zookeeper,
        Kind::Consul => BackendType::Consul,
    }
}

fn addresses(servers: &Servers, doors: &[Proxy], via: Via) -> Vec<String> {
    match via {
        Via::Doors if !doors.is_empty() => doors.iter().map(|door| door.address().to_owned()).collect(),
        _ => servers.addresses(),
    }
}

fn connection(settings: &Settings, backend: BackendType) -> ConnectionConfig {
    ConnectionConfig {
        detection: settings.detection,
        zookeeper: ZookeeperOptions {
            session_timeout: (backend == BackendType::Zookeeper).then_some(settings.ttl),
            guard: crate::guard(backend),
            client: crate::client(backend).filter(|_| backend == BackendType::Zookeeper),
            ..Default::default()
        },
        consul: ConsulOptions {
            client: crate::client(backend).filter(|_| backend == BackendType::Consul),
            ..Default::default()
        },
        ..Default::default()
    }
}
