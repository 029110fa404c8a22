//! What a watched endpoint costs in memory: all that is allocated more when 10,000 are watched than when
//! none is, once it is quiet again.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use crate::{
    bench::{Bench, Party, SIDES, Side, World},
    fleet,
    memory::live_bytes,
    raw::Layout,
    report::{Row, Target},
    stats::Stat,
};

const NAME: &str = "memory";

/// Buffers have gone back to their sizes at rest.
const QUIET: Duration = Duration::from_secs(2);

/// Measures, and notes rows.
///
/// # Errors
/// It could not be run.
pub async fn run(bench: &mut Bench) -> Result<()> {
    for backend in bench.options.backends() {
        let world = World::start(bench, backend).await?;
        for n in bench.options.sizes(&[10_000], &[2_000]) {
            let mut stats = Vec::new();
            for side in SIDES {
                world.driver.fill(&service(side, n), n, Layout::Discox).await?;
            }
            for side in SIDES {
                let mut values = Vec::new();
                for _ in 0..bench.options.samples(3, 1) {
                    values.push(per_endpoint(&world, side, n).await?);
                }
                stats.push(Stat::of(values));
            }
            let row = Row::new(NAME, backend, "an endpoint", n, "bytes", stats[0]).against(stats[1]);
            bench.note(row.target(Target::Ratio(1.3)));
        }
    }
    let text: usize = (0..1_000).map(|i| fleet::endpoint(i).len() + fleet::attr(i, 0).len()).sum();
    let text = Stat::one(text as f64 / 1_000.0);
    bench.note(Row::new(NAME, "", "the text of an endpoint and its attr", 1_000, "bytes", text));
    Ok(())
}

fn service(side: Side, n: usize) -> String {
    format!("{NAME}-{n}-{}", side.as_str())
}

async fn per_endpoint(world: &World, side: Side, n: usize) -> Result<f64> {
    let party = Party::connect(side, world.backend, &world.address).await?;
    let _empty = party.watch("memory-none").await?;
    sleep(QUIET).await;
    let before = live_bytes();
    let watched = party.watch(&service(side, n)).await?;
    ensure!(watched.watching.len() == n, "{side:?} sees {} of {n}", watched.watching.len());
    sleep(QUIET).await;
    let after = live_bytes();
    Ok((after - before) as f64 / n as f64)
}
