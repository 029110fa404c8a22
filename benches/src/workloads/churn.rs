//! What a watcher works and asks while others come, change and go: in a steady pace, and as fast as they
//! can.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use discox::BackendType;
use futures_util::{
    future::try_join,
    stream::{self, TryStreamExt},
};
use tokio::time::{sleep, sleep_until};

use crate::{
    bench::{Bench, Driver, Party, SIDES, Side, Watched, World},
    fleet,
    lane::Lane,
    raw::Layout,
    report::{Row, Target},
    stats::Stat,
    tap::{Passed, Tap},
};

const NAME: &str = "churn";

/// Changes of a paced round: a third registers, a third changes, a third leaves.
const PACED: usize = 21;

/// Endpoints that come, change and go at full speed, and how many do so at once.
const FAST: usize = 300;
const AT_ONCE: usize = 16;

/// Measures, and notes rows.
///
/// # Errors
/// It could not be run.
pub async fn run(bench: &mut Bench) -> Result<()> {
    wakes(bench).await?;
    for backend in bench.options.backends() {
        let world = World::start(bench, backend).await?;
        for n in bench.options.sizes(&[1_000, 10_000], &[1_000]) {
            one(bench, &world, n).await?;
        }
    }
    Ok(())
}

/// What the machine itself takes for as many wakes as there are paced changes: that depends on it most of all.
async fn wakes(bench: &mut Bench) -> Result<()> {
    let pace = pace(bench);
    let lane = Lane::new("wakes")?;
    let mut cpu = Vec::new();
    for _ in 0..bench.options.samples(3, 1) {
        let idle = move || async move {
            for _ in 0..PACED {
                sleep(pace).await;
            }
            Ok(())
        };
        let ((), taken) = lane.timed(idle).await?;
        cpu.push(taken.cpu.as_secs_f64() * 1e3);
    }
    bench.note(Row::new(NAME, "", "CPU, 21 wakes of a thread for nothing", 0, "ms", Stat::of(cpu)));
    Ok(())
}

fn pace(bench: &Bench) -> Duration {
    Duration::from_millis(if bench.options.quick { 100 } else { 300 })
}

async fn one(bench: &mut Bench, world: &World, n: usize) -> Result<()> {
    let pace = pace(bench);
    let mut runners = Vec::new();
    for side in SIDES {
        runners.push(Runner::new(world, side, n).await?);
    }
    let [discox, raw] = &mut runners[..] else { bail!("two sides") };
    for sample in 0..bench.options.samples(3, 1) {
        // Little is done meanwhile: both can do it at the same time.
        let rest = || async {
            sleep(pace * PACED as u32).await;
            Ok(())
        };
        let (one, other) = try_join(discox.while_doing(rest()), raw.while_doing(rest())).await?;
        discox.at_rest.push(one);
        raw.at_rest.push(other);
        let both = try_join(discox.while_doing(discox.paced(pace)), raw.while_doing(raw.paced(pace)));
        let (one, other) = both.await?;
        discox.paced.push(one);
        raw.paced.push(other);
        let in_turn = if sample % 2 == 0 { [&mut *discox, &mut *raw] } else { [&mut *raw, &mut *discox] };
        for runner in in_turn {
            let cost = runner.while_doing(runner.fast()).await?;
            runner.fast.push(cost);
        }
    }
    note(bench, world.backend, n, &runners);
    Ok(())
}

fn note(bench: &mut Bench, backend: BackendType, n: usize, runners: &[Runner]) {
    let row = |what: &str, unit: &str, of: &dyn Fn(&Runner) -> Vec<f64>| {
        Row::new(NAME, backend, what, n, unit, Stat::of(of(&runners[0]))).against(Stat::of(of(&runners[1])))
    };
    // What it does anyway is not for the changes.
    let less = |busy: &[Cost], rest: &[Cost], of: &dyn Fn(&Cost) -> f64| -> Vec<f64> {
        busy.iter().zip(rest).map(|(busy, rest)| (of(busy) - of(rest)).max(0.0)).collect()
    };
    let requests = |cost: &Cost| cost.passed.requests as f64;
    let bytes = |cost: &Cost| (cost.passed.up + cost.passed.down) as f64 / 1e3;
    let cpu = |cost: &Cost| cost.cpu.as_secs_f64() * 1e3;
    let most = if backend == BackendType::Etcd { 0.0 } else { PACED as f64 };
    bench.note(
        row("requests, 21 paced", "", &|r| less(&r.paced, &r.at_rest, &requests))
            .target(Target::AtMost(most)),
    );
    bench.note(row("CPU, 21 paced", "ms", &|r| r.paced.iter().map(cpu).collect()).target(Target::Ratio(1.5)));
    bench.note(row("CPU, 21 paced, less that at rest", "ms", &|r| less(&r.paced, &r.at_rest, &cpu)));
    bench.note(row("traffic, 21 paced", "kB", &|r| less(&r.paced, &r.at_rest, &bytes)));
    bench.note(row("CPU at rest, as long", "ms", &|r| r.at_rest.iter().map(cpu).collect()));
    bench.note(row("requests at rest, as long", "", &|r| r.at_rest.iter().map(requests).collect()));
    bench.note(row("time, 900 fast", "ms", &|r| r.fast.iter().map(|c| c.wall.as_secs_f64() * 1e3).collect()));
    bench.note(row("CPU, 900 fast", "ms", &|r| r.fast.iter().map(cpu).collect()));
    bench.note(row("requests, 900 fast", "", &|r| r.fast.iter().map(requests).collect()));
    bench.note(row("traffic, 900 fast", "kB", &|r| r.fast.iter().map(bytes).collect()));
}

/// What a watcher has worked, and what has passed to and from it.
struct Cost {
    wall: Duration,
    cpu: Duration,
    passed: Passed,
}

/// One side that watches, behind a tap.
struct Runner {
    party: Party,
    watched: Watched,
    service: String,
    /// Makes the changes.
    driver: Driver,
    n: usize,
    tap: Tap,
    at_rest: Vec<Cost>,
    paced: Vec<Cost>,
    fast: Vec<Cost>,
}

impl Runner {
    async fn new(world: &World, side: Side, n: usize) -> Result<Self> {
        let service = format!("{NAME}-{n}-{}", side.as_str());
        world.driver.fill(&service, n, Layout::Discox).await?;
        let tap = Tap::to(world.backend, &world.address).await?;
        let party = Party::connect(side, world.backend, &tap.address()).await?;
        let watched = party.watch(&service).await?;
        ensure!(watched.watching.len() == n, "{side:?} sees {} of {n}", watched.watching.len());
        let driver = Driver::connect(world.backend, &world.address).await?;
        let (at_rest, paced, fast) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { party, watched, service, driver, n, tap, at_rest, paced, fast })
    }

    async fn while_doing(&self, work: impl Future<Output = Result<()>>) -> Result<Cost> {
        let (began, cpu, passed) = (Instant::now(), self.party.cpu().await?, self.tap.passed());
        work.await?;
        let cpu = self.party.cpu().await?.saturating_sub(cpu);
        Ok(Cost { wall: began.elapsed(), cpu, passed: self.tap.passed().since(passed) })
    }

    /// One change each `pace`.
    async fn paced(&self, pace: Duration) -> Result<()> {
        let (service, sight) = (self.service.clone(), self.watched.sight.clone());
        self.driver
            .run(move |raw| async move {
                let mut due = Instant::now();
                let mut entries = Vec::new();
                for i in 0..PACED / 3 {
                    due += pace;
                    sleep_until(due.into()).await;
                    entries.push(raw.register_for_discox(&service, &newcomer(i), &fleet::attr(i, 0)).await?);
                }
                for (i, entry) in entries.iter().enumerate() {
                    due += pace;
                    sleep_until(due.into()).await;
                    entry.update(&fleet::attr(i, 1)).await?;
                }
                for entry in entries.iter().skip(1) {
                    due += pace;
                    sleep_until(due.into()).await;
                    entry.withdraw().await?;
                }
                due += pace;
                sleep_until(due.into()).await;
                let gone = sight.of(&newcomer(0), None);
                let began = Instant::now();
                if let Some(entry) = entries.first() {
                    entry.withdraw().await?;
                }
                gone.after(began).await.map(drop)
            })
            .await
    }

    /// All come, change and go as fast as they can; the last one goes when all others have gone.
    async fn fast(&self) -> Result<()> {
        let (service, sight) = (self.service.clone(), self.watched.sight.clone());
        self.driver
            .run(move |raw| async move {
                let last = raw.register_for_discox(&service, &newcomer(FAST), "").await?;
                let (raw, service) = (&raw, &service);
                let one = |i: usize| async move {
                    let entry = raw.register_for_discox(service, &newcomer(i), &fleet::attr(i, 0)).await?;
                    entry.update(&fleet::attr(i, 1)).await?;
                    entry.withdraw().await
                };
                stream::iter((0..FAST).map(|i| Ok(one(i))))
                    .try_buffer_unordered(AT_ONCE)
                    .try_for_each(|()| async { Ok(()) })
                    .await?;
                let gone = sight.of(&newcomer(FAST), None);
                let began = Instant::now();
                last.withdraw().await?;
                gone.after(began).await.map(drop)
            })
            .await?;
        ensure!(
            self.watched.watching.len() == self.n,
            "{:?} sees {}",
            self.party.side,
            self.watched.watching.len()
        );
        Ok(())
    }
}

/// An endpoint that no fleet has.
fn newcomer(i: usize) -> String {
    format!("10.255.{}.{}:9000", i >> 8 & 255, i & 255)
}
