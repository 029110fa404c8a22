//! Services that are watched, many over one connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use discox::BackendType;
use futures_util::stream::{self, TryStreamExt};
use tokio::time::sleep;

use super::many::{AT_ONCE, Measured, at_rest, note};
use crate::{
    bench::{Bench, HEART_BEAT, Party, SIDES, Side, World},
    client::{Client, Sight},
    memory::live_bytes,
    raw::Layout,
    stats::Stat,
    tap::Tap,
};

const NAME: &str = "watched";

/// Endpoints of each service.
const EACH: usize = 5;

/// Blocking queries that an agent holds for us; above that they take turns.
const HELD: usize = 150;

/// Measures, and notes rows.
///
/// # Errors
/// It could not be run.
pub async fn run(bench: &mut Bench) -> Result<()> {
    for backend in bench.options.backends() {
        let (usual, quick): (&[usize], &[usize]) =
            if backend == BackendType::Consul { (&[HELD, 2 * HELD], &[50]) } else { (&[1_000], &[100]) };
        for n in bench.options.sizes(usual, quick) {
            let can = |side: &Side| *side == Side::Discox || n <= HELD || backend != BackendType::Consul;
            let mut measured = Vec::new();
            for side in SIDES.into_iter().filter(can) {
                // An agent holds on to queries that were given up, and to their connections.
                let world = World::start(bench, backend).await?;
                measured.push(services(bench, &world, side, n).await?);
            }
            note(bench, NAME, backend, n, &measured, |_, _| None);
        }
    }
    Ok(())
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
    let at_rest = at_rest(bench, &party, &tap, HEART_BEAT).await?;
    let memory = (live_bytes() - before) as f64 / n as f64;
    let mut seen = Vec::new();
    for sample in 0..bench.options.samples(30, 5) {
        seen.push(one_change(world, side, sample * 37 % n, sight.clone()).await?);
    }
    let [cpu, requests, sockets] = at_rest;
    Ok(vec![
        ("services watched: all listed".into(), "ms", Stat::millis(&[taken.wall])),
        ("services watched: a change is seen".into(), "ms", Stat::millis(&seen)),
        ("services watched: CPU at rest".into(), "% of a core", Stat::one(cpu)),
        ("services watched: requests at rest".into(), "/s", Stat::one(requests)),
        ("services watched: sockets".into(), "", Stat::one(sockets)),
        ("services watched: memory of each".into(), "bytes", Stat::one(memory)),
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
