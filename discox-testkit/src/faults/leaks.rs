//! What is left behind, and what an outage costs. These cells have their process for themselves.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use discox_core::{DiscoverState, LiteEndpoint, RegisterState, Registry};
use futures_util::future::try_join_all;
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, sleep},
};

use super::{
    stage::{Live, Stage, Via},
    tools,
    watcher::Watcher,
};
use crate::{
    conformance::connections_to,
    server::{
        Data, Kind,
        ask::{four_letters, get},
    },
    wait::eventually,
};

/// After the last stop, until the kernel and the registry have forgotten.
const FORGOTTEN: Duration = Duration::from_secs(20);

/// Resident memory may differ by this much: the allocator keeps some.
const MEMORY: u64 = 8 * 1024;

/// What there is of everything that could be left behind.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Census {
    tasks: usize,
    sockets: usize,
    files: usize,
    /// Leases (etcd), sessions (ZooKeeper), services (Consul).
    in_registry: usize,
}

/// Many starts and stops, and many outages.
pub(crate) async fn starts_stops_and_outages_leave_nothing_behind(stage: &mut Stage) -> Result<()> {
    let clients = Clients::new()?;
    // What is made once and kept: runtimes' threads, caches of the allocator and of the name service.
    cycles(stage, &clients, stage.form.choose(30, 200)).await?;
    outages(stage, &clients, 2).await?;
    let (before, memory) = (settled(stage, &clients, None).await?, resident()?);
    cycles(stage, &clients, stage.form.choose(50, 1_000)).await?;
    outages(stage, &clients, stage.form.choose(5, 100)).await?;
    let after = settled(stage, &clients, Some(before)).await?;
    let grown = resident()?.saturating_sub(memory);
    stage.notes.count("census", format!("{after:?}"));
    stage.notes.count("memory_grown_kib", grown);
    ensure!(after == before, "before {before:?}, afterwards {after:?}");
    ensure!(grown <= MEMORY, "resident memory grew by {grown} KiB from {memory} KiB");
    Ok(())
}

/// Discox in a runtime of its own, so that its tasks can be counted.
struct Clients(Option<Runtime>);

impl Clients {
    fn new() -> Result<Self> {
        Ok(Self(Some(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)))
    }

    fn handle(&self) -> Result<&tokio::runtime::Handle> {
        Ok(self.0.as_ref().context("no runtime")?.handle())
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.handle()?.spawn(work).await.context("it panicked")?
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts and stops one registration and one discovery, again and again: each on a connection of its own, on
/// Consul all on one (an agent keeps the place of an abandoned query until its wait ends).
async fn cycles(stage: &Stage, clients: &Clients, times: usize) -> Result<()> {
    let shared: Option<Arc<dyn Registry>> = match stage.kind() {
        Kind::Consul => Some(stage.connect(Via::Doors)?),
        _ => None,
    };
    let began = Instant::now();
    for i in 0..times {
        let config = stage.register_config("10.0.7.1:8000", "cycle", Via::Doors);
        let discovery = stage.discovery(Duration::ZERO, Via::Doors);
        let (register, discover) = match &shared {
            Some(registry) => (registry.register(config)?, registry.discover(discovery)?),
            None => {
                ((stage.suite.makers.new_register)(config)?, (stage.suite.makers.new_discover)(discovery)?)
            }
        };
        let cycle = clients.run(async move {
            let cache = Arc::new(LiteEndpoint::new());
            let watching = tokio::spawn({
                let (discover, cache) = (discover.clone(), cache.clone());
                async move { discover.start(cache).await }
            });
            register.start().await?;
            cache.ready().await;
            register.stop().await?;
            discover.stop().await;
            Ok(watching.await??)
        });
        cycle.await.with_context(|| format!("cycle {i}"))?;
    }
    if let Some(registry) = shared {
        clients
            .run(async move {
                registry.close().await;
                Ok(())
            })
            .await?;
    }
    stage.notes.count("cycles", times);
    stage.notes.count("cycles_took_ms", u64::try_from(began.elapsed().as_millis())?);
    Ok(())
}

/// Keeps registrations and watchers through resets of all their connections.
async fn outages(stage: &Stage, clients: &Clients, times: usize) -> Result<()> {
    let shared = stage.connect(Via::Doors)?;
    let mut fleet = Vec::new();
    for i in 0..4 {
        let endpoint = format!("10.0.8.{i}:8000");
        let config = stage.register_config(&endpoint, "outage", Via::Doors);
        let register =
            if i < 2 { shared.register(config)? } else { (stage.suite.makers.new_register)(config)? };
        fleet.push(Live { endpoint, register });
    }
    let mut discovers = vec![shared.discover(stage.discovery(stage.settings.grace, Via::Doors))?];
    for _ in 0..2 {
        discovers.push((stage.suite.makers.new_discover)(stage.discovery(stage.settings.grace, Via::Doors))?);
    }
    let door = stage.doors.first().context("no proxy")?;
    let (fleet, watchers) = clients
        .run(async move {
            try_join_all(fleet.iter().map(|live| live.register.start())).await?;
            let watchers = discovers.into_iter().map(|discover| Watcher::start("leaks", discover));
            Ok((fleet, watchers.collect::<Vec<_>>()))
        })
        .await?;
    for i in 0..=times {
        let outage = Instant::now().into_std();
        let fresh = |last: Option<std::time::Instant>| last.is_some_and(|last| last > outage);
        if i > 0 {
            door.reset_all();
        }
        let back = eventually(Duration::from_secs(20), "the end of the outage", async || {
            let registered = fleet.iter().map(|live| live.register.status());
            let synced = watchers.iter().map(|watcher| watcher.discover.status());
            registered.into_iter().all(|s| s.state == RegisterState::Registered && fresh(s.last_confirmed))
                && synced
                    .into_iter()
                    .all(|s| s.state == DiscoverState::Synced && s.endpoints == 4 && fresh(s.last_confirmed))
        });
        back.await.with_context(|| format!("outage {i}"))?;
    }
    clients
        .run(async move {
            try_join_all(fleet.iter().map(|live| live.register.stop())).await?;
            for watcher in watchers {
                watcher.stop().await?;
            }
            shared.close().await;
            Ok(())
        })
        .await?;
    stage.notes.count("outages", times);
    Ok(())
}

/// Counts when nothing of the clients runs any more, or when it is again as it was `before`, at the latest after
/// a while.
async fn settled(stage: &Stage, clients: &Clients, before: Option<Census>) -> Result<Census> {
    let mut last = census(stage, clients).await?;
    let calm = eventually(FORGOTTEN, "the end of everything", async || {
        if let Ok(census) = census(stage, clients).await {
            last = census;
        }
        before.map_or(last.tasks == 0 && last.sockets == 0 && last.in_registry == 0, |before| last == before)
    });
    match (calm.await, before) {
        (Err(error), None) => Err(error.context(format!("{last:?}"))),
        _ => Ok(last),
    }
}

async fn census(stage: &Stage, clients: &Clients) -> Result<Census> {
    let door = stage.doors.first().context("no proxy")?.address();
    let port = door.rsplit(':').next().and_then(|port| port.parse().ok()).context("no port")?;
    let in_registry = in_registry(stage).await?;
    Ok(Census {
        tasks: clients.handle()?.metrics().num_alive_tasks(),
        sockets: connections_to(port)?,
        files: fs::read_dir("/proc/self/fd")?.count(),
        in_registry,
    })
}

async fn in_registry(stage: &Stage) -> Result<usize> {
    let member = tools::answering(stage).await?;
    Ok(match stage.kind() {
        Kind::Etcd => {
            let listed = member.tool(&["lease", "list"]).await?;
            listed.lines().skip(1).filter(|line| !line.trim().is_empty()).count()
        }
        Kind::Zookeeper => {
            // "Session Sets (n)/(m):": n dates at which sessions end, m sessions.
            let dump = four_letters(member.address(), "dump").await?;
            let of_all =
                dump.lines().find(|line| line.starts_with("Session Sets")).context("no sessions in dump")?;
            let number = of_all.rsplit('(').next().and_then(|rest| rest.split(')').next()?.parse().ok());
            number.with_context(|| of_all.to_owned())?
        }
        Kind::Consul => {
            get(member.address(), "/v1/agent/services").await?.as_object().context("no list")?.len()
        }
    })
}

/// In KiB.
pub(crate) fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Connections, each with a registration and a watcher, while the registry is down and while it hangs.
pub(crate) async fn an_outage_costs_less_than_2_percent_of_a_core(stage: &mut Stage) -> Result<()> {
    const CONNECTIONS: u32 = 10;
    let mut registries = Vec::new();
    for i in 0..CONNECTIONS {
        let registry = stage.connect(Via::Direct)?;
        let endpoint = format!("10.0.9.{i}:8000");
        stage.book.live(&endpoint, "busy");
        let register = registry.register(stage.register_config(&endpoint, "busy", Via::Direct))?;
        register.start().await?;
        stage.fleet.push(Live { endpoint, register });
        let watcher = Watcher::start(
            i.to_string(),
            registry.discover(stage.discovery(stage.settings.grace, Via::Direct))?,
        );
        stage.watchers.push(watcher);
        registries.push(registry);
    }
    stage.wait_until_right(Duration::from_secs(10)).await?;
    let server = stage.servers.member(0);
    let faulty = Instant::now();
    server.kill().await?;
    let down = share_of_a_core(stage).await? / f64::from(CONNECTIONS);
    server.start(Data::Kept).await?;
    stage.right_again("recovery", faulty, Instant::now(), stage.recovery_target()).await?;
    let faulty = Instant::now();
    server.pause().await?;
    let hung = share_of_a_core(stage).await? / f64::from(CONNECTIONS);
    server.resume().await?;
    server.ready().await?;
    stage.right_again("recovery", faulty, Instant::now(), stage.recovery_target()).await?;
    let percent = |share: f64| (share * 10_000.0).round() / 100.0;
    stage.notes.count("percent_of_a_core_while_down", percent(down));
    stage.notes.count("percent_of_a_core_while_hung", percent(hung));
    ensure!(
        down < 0.02 && hung < 0.02,
        "{} % while down, {} % while hung, a connection",
        percent(down),
        percent(hung)
    );
    stage.settles().await
}

/// What this process takes, after the first seconds of an outage.
async fn share_of_a_core(stage: &Stage) -> Result<f64> {
    sleep(Duration::from_secs(2)).await;
    let (began, before) = (Instant::now(), cpu_ticks()?);
    sleep(stage.form.choose(Duration::from_secs(8), Duration::from_secs(20))).await;
    let ticks = u32::try_from(cpu_ticks()? - before)?;
    Ok(f64::from(ticks) / TICKS_A_SECOND / began.elapsed().as_secs_f64())
}

/// What every Linux that we know of counts in.
const TICKS_A_SECOND: f64 = 100.0;

fn cpu_ticks() -> Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field, the name in parentheses, may hold blanks: count behind it.
    let fields: Vec<_> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok()).context("stat");
    Ok(ticks(11)? + ticks(12)?)
}
