//! Many over one connection: services that are watched, and endpoints that are kept registered. What that
//! costs while nothing happens.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use discox::BackendType;
use futures_util::stream::{self, TryStreamExt};
use tokio::time::sleep;

use crate::{
    bench::{Bench, Party, SIDES, Side, World},
    client::{Client, Sight},
    fleet,
    memory::live_bytes,
    raw::Layout,
    report::{Row, Target},
    stats::Stat,
    tap::Tap,
};

const NAME: &str = "many";

/// Requests under way at once.
const AT_ONCE: usize = 64;

/// Services of those that are kept.
const FLEETS: usize = 100;

/// Endpoints of each service.
const EACH: usize = 5;

/// Measures, and notes rows.
///
/// # Errors
/// It could not be run.
pub async fn run(bench: &mut Bench) -> Result<()> {
    for backend in bench.options.backends() {
        // An agent holds 150 blocking queries for us; above that they take turns.
        let (usual, quick): (&[usize], &[usize]) =
            if backend == BackendType::Consul { (&[150, 300], &[50]) } else { (&[1_000], &[100]) };
        for n in bench.options.sizes(usual, quick) {
            let all = SIDES
                .into_iter()
                .filter(|side| *side == Side::Discox || n <= 150 || backend != BackendType::Consul);
            let mut measured = Vec::new();
            for side in all {
                // An agent holds on to queries that were given up, and to their connections.
                let world = World::start(bench, backend).await?;
                measured.push(services(bench, &world, side, n).await?);
            }
            note(bench, backend, n, &measured, is_aimed_at_nothing);
        }
        // An agent passes TTL checks one by one: about as many as this a heart beat.
        let (usual, quick): (&[usize], &[usize]) =
            if backend == BackendType::Consul { (&[1_000, 3_000], &[100]) } else { (&[10_000], &[500]) };
        for n in bench.options.sizes(usual, quick) {
            let mut measured = Vec::new();
            for side in SIDES {
                let world = World::start(bench, backend).await?;
                measured.push(endpoints(bench, &world, side, n).await?);
            }
            note(bench, backend, n, &measured, aim);
        }
    }
    Ok(())
}

/// What was measured of one side: what, unit, values.
type Measured = Vec<(&'static str, &'static str, Stat)>;

fn is_aimed_at_nothing(_: BackendType, _: &str) -> Option<Target> {
    None
}

fn aim(backend: BackendType, what: &str) -> Option<Target> {
    let one = Some(Target::AtMost(1.0)).filter(|_| backend != BackendType::Consul);
    match what {
        "endpoints kept: CPU at rest" | "endpoints kept: sockets" => one,
        _ => None,
    }
}

fn note(
    bench: &mut Bench,
    backend: BackendType,
    n: usize,
    measured: &[Measured],
    aim: fn(BackendType, &str) -> Option<Target>,
) {
    let Some((discox, others)) = measured.split_first() else { return };
    for (i, (what, unit, stat)) in discox.iter().enumerate() {
        let mut row = Row::new(NAME, backend, what, n, unit, *stat);
        row.raw = others.first().and_then(|raw| raw.get(i)).map(|(_, _, stat)| *stat);
        row.target = aim(backend, what);
        bench.note(row);
    }
}

/// Watches `n` services.
async fn services(bench: &Bench, world: &World, side: Side, n: usize) -> Result<Measured> {
    for i in 0..n {
        world.driver.fill(&service(side, i), EACH, Layout::Discox).await?;
    }
    let tap = Tap::to(world.backend, &world.address).await?;
    let party = Party::connect(side, world.backend, &tap.address()).await?;
    let sight = Arc::new(Sight::default());
    let before = live_bytes();
    let client = party.client.clone();
    let seen_by = sight.clone();
    let watch = move || async move {
        let one = |i| {
            let (client, sight): (&Arc<dyn Client>, _) = (&client, seen_by.clone());
            async move { client.watch(&service(side, i), sight).await }
        };
        stream::iter((0..n).map(|i| Ok(one(i)))).try_buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await
    };
    let (watched, taken) = party.lane.timed(watch).await?;
    ensure!(watched.iter().all(|watched| watched.len() == EACH), "{side:?} does not see all");
    let at_rest = at_rest(bench, &party, &tap).await?;
    let memory = (live_bytes() - before) as f64 / n as f64;
    let mut seen = Vec::new();
    for sample in 0..bench.options.samples(30, 5) {
        seen.push(one_change(world, side, sample * 37 % n, sight.clone()).await?);
    }
    let [cpu, requests, sockets] = at_rest;
    Ok(vec![
        ("services watched: all listed", "ms", Stat::millis(&[taken.wall])),
        ("services watched: a change is seen", "ms", Stat::millis(&seen)),
        ("services watched: CPU at rest", "% of a core", Stat::one(cpu)),
        ("services watched: requests at rest", "/s", Stat::one(requests)),
        ("services watched: sockets", "", Stat::one(sockets)),
        ("services watched: memory of each", "bytes", Stat::one(memory)),
    ])
}

fn service(side: Side, i: usize) -> String {
    format!("{NAME}-{i}-{}", side.as_str())
}

/// From the call that registers to the watcher's cache; then the endpoint leaves.
async fn one_change(world: &World, side: Side, i: usize, sight: Arc<Sight>) -> Result<Duration> {
    const NEW: &str = "10.255.255.1:9000";
    world
        .driver
        .run(move |raw| async move {
            let coming = sight.of(NEW, Some("{}"));
            let began = Instant::now();
            let entry = raw.register_for_discox(&service(side, i), NEW, "{}").await?;
            let took = coming.after(began).await?;
            entry.withdraw().await?;
            // Above its 150 places on Consul, discox sees it leave later.
            sleep(Duration::from_millis(200)).await;
            Ok(took)
        })
        .await
}

/// Keeps `n` endpoints registered.
async fn endpoints(bench: &Bench, world: &World, side: Side, n: usize) -> Result<Measured> {
    let tap = Tap::to(world.backend, &world.address).await?;
    let party = Party::connect(side, world.backend, &tap.address()).await?;
    let before = live_bytes();
    let client = party.client.clone();
    let register = move || async move {
        let one = |i| {
            let client: &Arc<dyn Client> = &client;
            // One service of thousands is what propagation is about.
            let service = format!("fleet-{}", i % FLEETS);
            async move { client.register(&service, &fleet::endpoint(i), &fleet::attr(i, 0)).await }
        };
        stream::iter((0..n).map(|i| Ok(one(i)))).try_buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await
    };
    let (_entries, taken) = party.lane.timed(register).await?;
    let [cpu, requests, sockets] = at_rest(bench, &party, &tap).await?;
    let memory = (live_bytes() - before) as f64 / n as f64;
    let mut measured = vec![
        ("endpoints kept: all registered", "ms", Stat::millis(&[taken.wall])),
        ("endpoints kept: CPU at rest", "% of a core", Stat::one(cpu)),
        ("endpoints kept: requests at rest", "/s", Stat::one(requests)),
        ("endpoints kept: sockets", "", Stat::one(sockets)),
        ("endpoints kept: memory of each", "bytes", Stat::one(memory)),
    ];
    if let Some(leases) = world.driver.run(|raw| async move { raw.leases().await }).await? {
        // One is the driver's.
        measured.push(("endpoints kept: leases", "", Stat::one(leases.saturating_sub(1) as f64)));
    }
    Ok(measured)
}

/// CPU in percent of a core, requests a second, and sockets, while nothing happens.
async fn at_rest(bench: &Bench, party: &Party, tap: &Tap) -> Result<[f64; 3]> {
    sleep(Duration::from_secs(if bench.options.quick { 1 } else { 10 })).await;
    // Two heart beats of 10 s.
    let time = Duration::from_secs(if bench.options.quick { 2 } else { 20 });
    let (cpu, passed) = (party.cpu().await?, tap.passed());
    sleep(time).await;
    let cpu = party.cpu().await?.saturating_sub(cpu);
    let requests = tap.passed().since(passed).requests as f64;
    Ok([
        100.0 * cpu.as_secs_f64() / time.as_secs_f64(),
        requests / time.as_secs_f64(),
        tap.connections() as f64,
    ])
}
