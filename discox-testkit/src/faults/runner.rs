//! Plays the cells, side by side and as often as asked for, and keeps what they measured.

use std::{
    panic::AssertUnwindSafe,
    process::{Command, ExitCode},
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::FutureExt;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};

use super::{
    Suite,
    cell::Cell,
    form::Form,
    notes::{self, Notes},
    options, report,
    stage::Stage,
    table::cells,
};

/// Set for a process that plays one cell alone.
const ALONE: &str = "DISCOX_FAULT_ALONE";

/// The test that RELIABILITY.md is up to date.
const RELIABILITY: &str = "reliability::lists_exactly_these_promises";

/// The `main` of a test binary with `harness = false`; takes the arguments of `cargo test` (a filter, `--exact`,
/// `--list`, `--test-threads`).
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

fn try_run(suite: Suite) -> Result<bool> {
    if std::env::var("DISCOX_RELIABILITY").as_deref() == Ok("write") {
        report::write(&suite.reliability)?;
        return Ok(true);
    }
    let mut arguments = Arguments::from_args();
    let form = Form::from_env()?;
    let runs = form.runs()?;
    arguments.test_threads.get_or_insert(Form::jobs()?);
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let suite = Arc::new(suite);
    let mut trials = Vec::new();
    for cell in chosen(form, &arguments) {
        let (suite, handle) = (suite.clone(), runtime.handle().clone());
        let trial = Trial::test(cell.to_string(), move || {
            play(&suite, &cell, form, runs, &handle).map_err(|error| Failed::from(format!("{error:#}")))
        });
        trials.push(trial);
    }
    trials.push(Trial::test(RELIABILITY, {
        let suite = suite.clone();
        move || report::check(&suite.reliability).map_err(|error| Failed::from(format!("{error:#}")))
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    runtime.shutdown_timeout(Duration::from_secs(10));
    Ok(!conclusion.has_failed())
}

/// The cells of the form, all of them where some are named; says what is left out and why.
fn chosen(form: Form, arguments: &Arguments) -> Vec<Cell> {
    let (cells, mut left_out) = cells();
    let (cells, others): (Vec<_>, Vec<_>) =
        cells.into_iter().partition(|cell| options::why_not(cell).is_none());
    left_out.extend(others.into_iter().filter_map(|cell| options::why_not(&cell).map(|why| (cell, why))));
    let all = cells.len();
    let named = arguments.filter.is_some();
    let chosen: Vec<_> =
        cells.into_iter().filter(|cell| form == Form::Long || named || cell.is_short()).collect();
    if !arguments.list && !named {
        for (cell, why) in left_out {
            eprintln!("does not apply: {cell}: {why}");
        }
        if chosen.len() < all {
            eprintln!("the short form: {} of {all} cells; DISCOX_FAULTS=long plays all", chosen.len());
        }
    }
    chosen
}

/// Held by all that run, and alone by who needs a quiet machine.
static MACHINE: RwLock<()> = RwLock::new(());

/// Plays a cell as often as asked for; an error says how often it failed, and how. In the short form, which runs on
/// busy machines, a cell that fails is played once more with the machine for itself; both runs are recorded.
fn play(suite: &Arc<Suite>, cell: &Cell, form: Form, runs: usize, handle: &Handle) -> Result<()> {
    let mut failures = Vec::new();
    for run in 1..=runs {
        let played = match play_once(suite, cell, form, cell.fault.quiet, handle) {
            Err(error) if form == Form::Short => {
                eprintln!("{cell} FAILED and is played again, alone: {error:#}");
                play_once(suite, cell, form, true, handle)
            }
            played => played,
        };
        if let Err(error) = played {
            eprintln!("{cell}, run {run} of {runs}: {error:#}");
            failures.push(error);
        }
    }
    let failed = failures.len();
    match failures.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(first.context(format!("{failed} of {runs} runs failed; the first one"))),
    }
}

fn play_once(suite: &Arc<Suite>, cell: &Cell, form: Form, quiet: bool, handle: &Handle) -> Result<()> {
    let _shared = (!quiet).then(|| MACHINE.read());
    let _exclusive = quiet.then(|| MACHINE.write());
    if cell.fault.alone && std::env::var_os(ALONE).is_none() {
        in_its_own_process(cell)
    } else {
        handle.block_on(noted(suite.clone(), cell.clone(), form))
    }
}

/// Runs this test binary for one cell.
fn in_its_own_process(cell: &Cell) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--exact", &cell.to_string(), "--test-threads=1"])
        .env(ALONE, "1")
        .env("DISCOX_FAULT_RUNS", "1");
    let output = command.output().context("a process of its own")?;
    if !output.status.success() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        bail!("{}{}", text(&output.stdout), text(&output.stderr));
    }
    Ok(())
}

/// Plays a cell once and keeps what it measured.
async fn noted(suite: Arc<Suite>, cell: Cell, form: Form) -> Result<()> {
    let (name, notes, began) = (cell.to_string(), Arc::new(Notes::default()), Instant::now());
    // A run whose stage did not stand fails too, but is none that the fault had.
    let stage = Stage::open(suite, &cell, form, notes.clone()).await?;
    // A panic is a failure like others.
    let played = AssertUnwindSafe(once(stage)).catch_unwind().await;
    let outcome = played.unwrap_or_else(|_| Err(anyhow!("it panicked, see above")));
    if options::are_tested() {
        return outcome;
    }
    let kept = notes::keep(&notes.line(&name, &form.to_string(), began.elapsed().as_secs_f64(), &outcome));
    outcome.and(kept)
}

async fn once(mut stage: Stage) -> Result<()> {
    let limit = stage.form.choose(Duration::from_secs(200), Duration::from_secs(1_800));
    let play = stage.cell.fault.play;
    let played = timeout(limit, play(&mut stage)).await;
    let played = played.unwrap_or_else(|_| Err(anyhow!("not over within {limit:?}")));
    let judged = stage.judge();
    let outcome = match (played, judged) {
        (Ok(()), Ok(())) => return stage.close().await,
        (Ok(()), Err(error)) | (Err(error), Ok(())) => error,
        (Err(error), Err(judgement)) => error.context(judgement),
    };
    let outcome = anyhow!("{outcome:#}\n{}", stage.describe().await);
    Err(outcome)
}
