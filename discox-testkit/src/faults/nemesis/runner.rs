//! Which schedules are played, and what is printed of those that fail.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};

use super::{
    super::{Suite, cell::Topology},
    judge,
    schedule::Schedule,
    shrink,
};
use crate::server::Kind;

/// Seeds of the short form: all that have ever found something, and some others.
const FIXED: [u64; 2] = [1, 2];

/// Longer than this no schedule takes: servers start, it storms, calms down and is closed.
const LIMIT: Duration = Duration::from_secs(300);

const WHERE: [(Kind, Topology); 6] = [
    (Kind::Etcd, Topology::Single),
    (Kind::Zookeeper, Topology::Single),
    (Kind::Consul, Topology::Single),
    (Kind::Etcd, Topology::Cluster),
    (Kind::Zookeeper, Topology::Cluster),
    (Kind::Consul, Topology::Cluster),
];

/// The `main` of a test binary with `harness = false`; takes the arguments of `cargo test`.
pub fn run(suite: Suite) -> ExitCode {
    match try_run(suite) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the environment asks for.
struct Wanted {
    /// For how long new seeds are played; None: the short form.
    long: Option<Duration>,
    seed: Option<u64>,
    drop: Vec<usize>,
    shrink: usize,
}

impl Wanted {
    fn from_env() -> Result<Self> {
        let long = match variable("DISCOX_NEMESIS").as_deref() {
            None | Some("short") => None,
            Some(text) => {
                Some(minutes(text).with_context(|| format!("DISCOX_NEMESIS is {text:?}, use short or 90m"))?)
            }
        };
        let drop = variable("DISCOX_NEMESIS_DROP").unwrap_or_default();
        let drop =
            drop.split(',').filter(|number| !number.is_empty()).map(|number| Ok(number.trim().parse()?));
        Ok(Self {
            long,
            seed: number("DISCOX_NEMESIS_SEED")?,
            drop: drop.collect::<Result<_>>().context("DISCOX_NEMESIS_DROP")?,
            shrink: number("DISCOX_NEMESIS_SHRINK")?.unwrap_or(0),
        })
    }

    /// The seeds of one place. A new one every time, beside those that are fixed.
    fn seeds(&self, topology: Topology) -> Vec<Option<u64>> {
        match (self.seed, self.long, topology) {
            (Some(seed), ..) => vec![Some(seed)],
            (_, Some(_), _) => vec![None],
            (.., Topology::Single) => FIXED.into_iter().map(Some).chain([None]).collect(),
            (.., Topology::Cluster) => vec![Some(FIXED[0])],
        }
    }
}

fn try_run(suite: Suite) -> Result<bool> {
    let wanted = Arc::new(Wanted::from_env()?);
    let mut arguments = Arguments::from_args();
    let jobs = number("DISCOX_NEMESIS_JOBS")?.unwrap_or(6);
    arguments.test_threads.get_or_insert(jobs);
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let (suite, began) = (Arc::new(suite), Instant::now());
    let mut trials = Vec::new();
    for (kind, topology) in WHERE {
        for seed in wanted.seeds(topology) {
            let number = seed.map_or_else(|| "new".to_owned(), |seed| seed.to_string());
            let lanes = if wanted.long.is_some() { jobs.div_ceil(WHERE.len()) } else { 1 };
            for lane in 0..lanes {
                let (suite, wanted, handle) = (suite.clone(), wanted.clone(), runtime.handle().clone());
                let name = match lanes {
                    1 => format!("{kind}::{topology}::seed_{number}"),
                    _ => format!("{kind}::{topology}::seed_{number}::lane_{lane}"),
                };
                let place = (kind, topology);
                trials.push(Trial::test(name, move || {
                    lane_of(&suite, &wanted, place, seed, began, &handle)
                        .map_err(|error| Failed::from(format!("{error:#}")))
                }));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    runtime.shutdown_timeout(Duration::from_secs(10));
    Ok(!conclusion.has_failed())
}

/// One seed, or new ones until the time is over.
fn lane_of(
    suite: &Arc<Suite>,
    wanted: &Wanted,
    (kind, topology): (Kind, Topology),
    seed: Option<u64>,
    began: Instant,
    handle: &Handle,
) -> Result<()> {
    let (mut played, mut failures) = (0, Vec::new());
    loop {
        let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
        let schedule = Schedule::new(seed, kind, topology).without(&wanted.drop);
        eprintln!("plays seed {seed} on {kind} {topology}");
        played += 1;
        if let Err(error) = handle.block_on(once(suite.clone(), &schedule)) {
            let error = handle.block_on(told(suite, wanted, &schedule, error));
            eprintln!("{error:#}");
            failures.push(error);
        }
        if wanted.long.is_none_or(|long| began.elapsed() >= long) {
            break;
        }
    }
    let failed = failures.len();
    match failures.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(first.context(format!("{failed} of {played} schedules failed; the first one"))),
    }
}

pub(super) async fn once(suite: Arc<Suite>, schedule: &Schedule) -> Result<()> {
    // In a task, so that a panic is a failure like others.
    let schedule = schedule.clone();
    let played = tokio::task::LocalSet::new();
    let played = played.run_until(async move {
        tokio::task::spawn_local(async move { timeout(LIMIT, judge::play(suite, &schedule)).await }).await
    });
    played
        .await
        .context("it panicked, see above")?
        .unwrap_or_else(|_| Err(anyhow!("not over within {LIMIT:?}")))
}

/// How a failure is played again, and with which steps at least.
async fn told(
    suite: &Arc<Suite>,
    wanted: &Wanted,
    schedule: &Schedule,
    error: anyhow::Error,
) -> anyhow::Error {
    let (dropped, error) = shrink::shrunk(suite, schedule, wanted.shrink, error).await;
    let (seed, kind, topology) = (schedule.seed, schedule.kind, schedule.topology);
    let drop = if dropped.is_empty() {
        String::new()
    } else {
        let numbers: Vec<_> = dropped.iter().map(usize::to_string).collect();
        format!("DISCOX_NEMESIS_DROP={} ", numbers.join(","))
    };
    let again = format!(
        "play it again: DISCOX_NEMESIS_SEED={seed} {drop}scripts/test -p discox --all-features --test nemesis -- \
         {kind}::{topology}"
    );
    anyhow!("{schedule}\n{again}\n{error:#}")
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number<T: std::str::FromStr>(name: &str) -> Result<Option<T>> {
    let Some(text) = variable(name) else { return Ok(None) };
    text.parse().ok().map(Some).with_context(|| format!("{name} is {text:?}, use a number"))
}

/// `90m`, `6h`.
fn minutes(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}
