//! Endpoints that one process keeps registered, many over one connection.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use discox::BackendType;
use futures_util::stream::{self, TryStreamExt};

use super::many::{AT_ONCE, Measured, at_rest, note};
use crate::{
    bench::{Bench, HEART_BEAT, Party, SIDES, Side, World},
    client::Client,
    fleet,
    memory::live_bytes,
    report::Target,
    stats::Stat,
    tap::Tap,
};

const NAME: &str = "kept";

/// Services of those that are kept.
const FLEETS: usize = 100;

/// About as many TTL checks as an agent passes in a heart beat of the usual length: it takes one to two milliseconds
/// for each.
const PASSED: usize = 3_000;

/// Heart beats for more than that.
const SELDOM: Duration = Duration::from_secs(60);

/// Measures, and notes rows.
///
/// # Errors
/// It could not be run.
pub async fn run(bench: &mut Bench) -> Result<()> {
    for backend in bench.options.backends() {
        let is_consul = backend == BackendType::Consul;
        let (usual, quick): (&[usize], &[usize]) =
            if is_consul { (&[1_000, PASSED, 10_000], &[100]) } else { (&[10_000], &[500]) };
        for n in bench.options.sizes(usual, quick) {
            let heart_beat = if is_consul && n > PASSED { SELDOM } else { HEART_BEAT };
            let mut measured = Vec::new();
            for side in SIDES {
                let world = World::start(bench, backend).await?;
                measured.push(endpoints(bench, &world, side, n, heart_beat).await?);
            }
            note(bench, NAME, backend, n, &measured, aim);
        }
    }
    Ok(())
}

fn aim(backend: BackendType, what: &str) -> Option<Target> {
    let one = Some(Target::AtMost(1.0)).filter(|_| backend != BackendType::Consul);
    match what {
        "endpoints kept: CPU at rest" | "endpoints kept: sockets" => one,
        _ => None,
    }
}

/// Keeps `n` endpoints registered.
async fn endpoints(
    bench: &Bench,
    world: &World,
    side: Side,
    n: usize,
    heart_beat: Duration,
) -> Result<Measured> {
    let tap = Tap::to(world.backend, &world.address).await?;
    let party = Party::beating(side, world.backend, &tap.address(), heart_beat).await?;
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
    let [cpu, requests, sockets] = at_rest(bench, &party, &tap, heart_beat).await?;
    let memory = (live_bytes() - before) as f64 / n as f64;
    let kept = match heart_beat.as_secs() {
        usual if usual == HEART_BEAT.as_secs() => "endpoints kept".to_owned(),
        seldom => format!("endpoints kept at {seldom} s"),
    };
    let mut measured = vec![
        (format!("{kept}: all registered"), "ms", Stat::millis(&[taken.wall])),
        (format!("{kept}: CPU at rest"), "% of a core", Stat::one(cpu)),
        (format!("{kept}: requests at rest"), "/s", Stat::one(requests)),
        (format!("{kept}: sockets"), "", Stat::one(sockets)),
        (format!("{kept}: memory of each"), "bytes", Stat::one(memory)),
    ];
    if let Some(leases) = world.driver.run(|raw| async move { raw.leases().await }).await? {
        // One is the driver's.
        measured.push((format!("{kept}: leases"), "", Stat::one(leases.saturating_sub(1) as f64)));
    }
    Ok(measured)
}
