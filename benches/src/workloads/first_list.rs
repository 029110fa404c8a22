//! From the call that begins to watch to the moment at which the cache holds the whole list, on a
//! connection that is up.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use discox::BackendType;

use crate::{
    bench::{Bench, Party, Side, World},
    client::Sight,
    lane::Taken,
    raw::Layout,
    report::{Row, Target},
    stats::Stat,
};

const NAME: &str = "first_list";

/// Who reads, and whose records. What discox writes for Consul is longer than what has to be: the raw
/// client reads both.
const READERS: [(&str, Side, Layout); 3] = [
    ("discox", Side::Discox, Layout::Discox),
    ("raw", Side::Raw, Layout::Discox),
    ("plain", Side::Raw, Layout::Plain),
];

/// Measures, and notes rows.
///
/// # Errors
/// It could not be run.
pub async fn run(bench: &mut Bench) -> Result<()> {
    for backend in bench.options.backends() {
        let world = World::start(bench, backend).await?;
        for n in bench.options.sizes(&[100, 1_000, 10_000, 50_000], &[100, 2_000]) {
            one(bench, &world, n).await?;
        }
    }
    Ok(())
}

async fn one(bench: &mut Bench, world: &World, n: usize) -> Result<()> {
    let usual = if n > 10_000 { 11 } else { 31 };
    let samples = bench.options.samples(usual, 3);
    let mut readers = Vec::new();
    for (name, side, layout) in READERS {
        if layout == Layout::Plain && world.backend != BackendType::Consul {
            continue;
        }
        let service = format!("{NAME}-{n}-{name}");
        world.driver.fill(&service, n, layout).await?;
        let party = Party::connect(side, world.backend, &world.address).await?;
        let mut reader = Reader { party, service, n, taken: Vec::new() };
        // The first one pays for the connection.
        reader.take().await?;
        reader.taken.clear();
        readers.push(reader);
    }
    for sample in 0..samples {
        for i in 0..readers.len() {
            let i = (i + sample) % readers.len();
            readers[i].take().await?;
        }
    }
    let row = |what: &str, raw: usize, of: fn(&Taken) -> Duration| {
        Row::new(NAME, world.backend, what, n, "ms", readers[0].stat(of)).against(readers[raw].stat(of))
    };
    let time = row("time", 1, |taken| taken.wall);
    bench.note(if n == 10_000 { time.target(Target::Ratio(1.25)) } else { time });
    bench.note(row("CPU", 1, |taken| taken.cpu));
    if readers.len() > 2 {
        bench.note(row("time; raw of the shortest records", 2, |taken| taken.wall));
    }
    Ok(())
}

/// One side and the service that it lists.
struct Reader {
    party: Party,
    service: String,
    n: usize,
    taken: Vec<Taken>,
}

impl Reader {
    async fn take(&mut self) -> Result<()> {
        let (client, service) = (self.party.client.clone(), self.service.clone());
        let watch = move || async move { client.watch(&service, Arc::new(Sight::default())).await };
        let (watching, taken) = self.party.lane.timed(watch).await?;
        ensure!(watching.len() == self.n, "{} of {} are seen: {}", self.n, self.service, watching.len());
        self.taken.push(taken);
        let end = move || async move {
            watching.end().await;
            Ok(())
        };
        self.party.lane.run(end).await
    }

    fn stat(&self, of: fn(&Taken) -> Duration) -> Stat {
        Stat::millis(&self.taken.iter().map(of).collect::<Vec<_>>())
    }
}
