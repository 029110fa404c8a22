//! From the call that registers, changes or removes an endpoint to the moment at which a watcher's cache
//! shows it, with `n` others present.

use std::time::{Duration, Instant};

use anyhow::Result;
use discox::BackendType;
use futures_util::future::try_join_all;
use tokio::time::sleep_until;

use crate::{
    bench::{Bench, Party, SIDES, Side, Watched, World},
    client::Entry,
    fleet,
    raw::Layout,
    report::{Row, Target},
    stats::Stat,
};

const NAME: &str = "propagation";

/// What is done to the endpoint, in turn.
const STEPS: [&str; 3] = ["register", "attr", "deregister"];

/// The endpoint that comes and goes; no other is called so.
const ENDPOINT: &str = "10.255.255.1:9000";

/// Measures, and notes rows.
///
/// # Errors
/// It could not be run.
pub async fn run(bench: &mut Bench) -> Result<()> {
    for backend in bench.options.backends() {
        let world = World::start(bench, backend).await?;
        let sizes = bench.options.sizes(&[0, 1_000, 10_000], &[0, 1_000]);
        let mut runners = Vec::new();
        for n in &sizes {
            let quick = if backend == BackendType::Consul { 10 } else { 30 };
            let samples = bench.options.samples(samples(backend, *n), quick);
            for side in SIDES.into_iter().chain(is_guarded(backend, *n).then_some(Side::Guarded)) {
                runners.push(Runner::new(&world, side, *n, samples).await?);
            }
        }
        for sample in 0..runners.iter().map(|runner| runner.samples).max().unwrap_or(0) {
            for step in 0..STEPS.len() {
                // Both sides and all sizes in turn, each time in another order: who comes first finds everything cold.
                let mut order: Vec<usize> = (0..runners.len()).collect();
                fastrand::shuffle(&mut order);
                for i in order {
                    if sample < runners[i].samples {
                        runners[i].step(step, sample).await?;
                    }
                }
            }
        }
        for n in sizes {
            note(bench, backend, n, &runners);
        }
        compare_sizes(bench, backend);
    }
    without_a_registry(bench).await
}

/// The same on the registry that is in the process, which takes next to nothing: what discox does besides.
async fn without_a_registry(bench: &mut Bench) -> Result<()> {
    for n in bench.options.sizes(&[0, 1_000, 10_000], &[100]) {
        let service = format!("{NAME}-{n}");
        let party =
            Party::connect(Side::Discox, BackendType::Memory, &format!("memory://{NAME}-{n}")).await?;
        let (client, name) = (party.client.clone(), service.clone());
        let fill = move || async move {
            let entry = |i| {
                let (client, name) = (&client, &name);
                async move { client.register(name, &fleet::endpoint(i), &fleet::attr(i, 0)).await }
            };
            try_join_all((0..n).map(entry)).await
        };
        let _present = party.lane.run(fill).await?;
        let samples = bench.options.samples(300, 30);
        let mut runner = Runner::watch(party, service, n, samples, Duration::from_millis(2)).await?;
        for sample in 0..samples {
            for step in 0..STEPS.len() {
                runner.step(step, sample).await?;
            }
        }
        for (step, what) in STEPS.iter().enumerate() {
            let times = Stat::millis(&runner.times[step]);
            bench.note(Row::new("propagation alone", BackendType::Memory, what, n, "ms", times));
        }
    }
    Ok(())
}

/// Whether discox is measured with a guard too.
fn is_guarded(backend: BackendType, n: usize) -> bool {
    backend == BackendType::Zookeeper && n == 1_000
}

/// A change among 10,000 takes Consul half a second, most of it for a list of several MB.
fn samples(backend: BackendType, n: usize) -> usize {
    if backend == BackendType::Consul && n >= 10_000 { 100 } else { 300 }
}

fn note(bench: &mut Bench, backend: BackendType, n: usize, runners: &[Runner]) {
    for (step, what) in STEPS.iter().enumerate() {
        let of = |side| {
            let times = runners.iter().filter(|runner| runner.party.side == side && runner.n == n);
            Stat::millis(&times.flat_map(|runner| runner.times[step].clone()).collect::<Vec<_>>())
        };
        let (discox, raw) = (of(Side::Discox), of(Side::Raw));
        let target = Target::Ratio(if backend == BackendType::Consul { 1.1 } else { 1.15 });
        bench.note(Row::new(NAME, backend, what, n, "ms", discox).against(raw).target(target));
        if is_guarded(backend, n) {
            let row = Row::new("propagation guarded", backend, what, n, "ms", of(Side::Guarded));
            bench.note(row.against(discox));
        }
    }
}

/// How the cost grows: the largest against the empty service.
fn compare_sizes(bench: &mut Bench, backend: BackendType) {
    let name = backend.to_string();
    let median = |n: usize, what: &str| {
        let row = bench.report.of(NAME).find(|row| row.backend == name && row.n == n && row.what == what)?;
        Some((row.discox.median, row.raw?.median))
    };
    let mut rows = Vec::new();
    for what in STEPS {
        if let (Some(empty), Some(full)) = (median(0, what), median(10_000, what)) {
            let row = Row::new(
                "propagation growth",
                backend,
                &format!("{what}, N = 10,000 to N = 0"),
                10_000,
                "×",
                Stat::one(full.0 / empty.0),
            )
            .against(Stat::one(full.1 / empty.1));
            rows.push(if backend == BackendType::Consul { row } else { row.target(Target::AtMost(1.3)) });
        }
    }
    rows.into_iter().for_each(|row| bench.note(row));
}

/// One side, with a service of its own.
struct Runner {
    party: Party,
    watched: Watched,
    service: String,
    n: usize,
    samples: usize,
    entry: Option<Box<dyn Entry>>,
    /// When discox's floor between two queries of Consul is over, so that none is measured.
    not_before: Instant,
    pause: Duration,
    times: [Vec<Duration>; 3],
}

impl Runner {
    async fn new(world: &World, side: Side, n: usize, samples: usize) -> Result<Self> {
        let service = format!("{NAME}-{n}-{}", side.as_str());
        world.driver.fill(&service, n, Layout::Discox).await?;
        let party = Party::connect(side, world.backend, &world.address).await?;
        let pause = match world.backend {
            BackendType::Consul if side == Side::Discox => {
                Duration::from_millis(450) + Duration::from_micros(70) * u32::try_from(n)?
            }
            _ => Duration::from_millis(2),
        };
        Self::watch(party, service, n, samples, pause).await
    }

    async fn watch(party: Party, service: String, n: usize, samples: usize, pause: Duration) -> Result<Self> {
        let watched = party.watch(&service).await?;
        let seen = watched.watching.len();
        anyhow::ensure!(seen == n, "{:?} sees {seen} of {n}", party.side);
        let times = [Vec::new(), Vec::new(), Vec::new()];
        let not_before = Instant::now() + pause;
        Ok(Self { party, watched, service, n, samples, entry: None, not_before, pause, times })
    }

    async fn step(&mut self, step: usize, sample: usize) -> Result<()> {
        sleep_until(self.not_before.into()).await;
        let attr = (step < 2).then(|| fleet::attr(step, sample));
        let (client, sight, service) =
            (self.party.client.clone(), self.watched.sight.clone(), self.service.clone());
        let entry = self.entry.take();
        let work = move || async move {
            let coming = sight.of(ENDPOINT, attr.as_deref());
            let began = Instant::now();
            let entry = match (entry, attr) {
                (None, attr) => Some(client.register(&service, ENDPOINT, &attr.unwrap_or_default()).await?),
                (Some(entry), Some(attr)) => {
                    entry.update(&attr).await?;
                    Some(entry)
                }
                (Some(entry), None) => {
                    entry.withdraw().await?;
                    None
                }
            };
            Ok((entry, coming.after(began).await?))
        };
        let (entry, took) = self.party.lane.run(work).await?;
        self.entry = entry;
        self.times[step].push(took);
        self.not_before = Instant::now() + self.pause;
        Ok(())
    }
}
