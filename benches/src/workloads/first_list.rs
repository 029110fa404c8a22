//! From the call that begins to watch to the moment at which the cache holds the whole list, on a
//! connection that is up.

use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::{
    bench::{Bench, Party, SIDES, World},
    client::Sight,
    lane::Taken,
    report::{Row, Target},
    stats::Stat,
};

const NAME: &str = "first_list";

/// Measures, and notes rows.
///
/// # Errors
/// It could not be run.
pub async fn run(bench: &mut Bench) -> Result<()> {
    for backend in bench.options.backends() {
        let world = World::start(backend).await?;
        for n in bench.options.sizes(&[100, 1_000, 10_000, 50_000], &[100, 10_000]) {
            one(bench, &world, n).await?;
        }
    }
    Ok(())
}

async fn one(bench: &mut Bench, world: &World, n: usize) -> Result<()> {
    let usual = if n > 10_000 { 11 } else { 31 };
    let samples = bench.options.samples(usual, 3);
    let mut parties = Vec::new();
    for side in SIDES {
        world.fill(&service(side, n), n, side).await?;
        let party = Party::connect(side, world.backend, &world.address).await?;
        // The first one pays for the connection.
        take(&party, n).await?;
        parties.push((party, Vec::new()));
    }
    for _ in 0..samples {
        for (party, taken) in &mut parties {
            taken.push(take(party, n).await?);
        }
    }
    let stat = |i: usize, of: fn(&Taken) -> std::time::Duration| {
        Stat::millis(&parties[i].1.iter().map(of).collect::<Vec<_>>())
    };
    let time =
        Row::new(NAME, world.backend, "time", n, "ms", stat(0, |t| t.wall)).against(stat(1, |t| t.wall));
    bench.note(if n == 10_000 { time.target(Target::Ratio(1.25)) } else { time });
    bench.note(Row::new(NAME, world.backend, "CPU", n, "ms", stat(0, |t| t.cpu)).against(stat(1, |t| t.cpu)));
    Ok(())
}

fn service(side: crate::bench::Side, n: usize) -> String {
    format!("{NAME}-{n}-{}", side.as_str())
}

async fn take(party: &Party, n: usize) -> Result<Taken> {
    let (client, service) = (party.client.clone(), service(party.side, n));
    let watch = move || async move { client.watch(&service, Arc::new(Sight::default())).await };
    let (watching, taken) = party.lane.timed(watch).await?;
    ensure!(watching.len() == n, "{:?} sees {} of {n}", party.side, watching.len());
    party
        .lane
        .run(move || async move {
            watching.end().await;
            Ok(())
        })
        .await?;
    Ok(taken)
}
