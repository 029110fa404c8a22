//! Lives of one endpoint that overlap: what an earlier one does late never harms a later one.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use discox_core::{Register, Registry};
use tokio::time::{Instant, sleep};

use super::{
    book::Expected,
    recovery::shows,
    stage::{Stage, Via},
    tools,
    watcher::Watcher,
};
use crate::conformance::{Seen, What};

/// Until a watcher shows what the registry has acknowledged.
const SHOWN: Duration = Duration::from_secs(3);

/// The same endpoint is stopped by one connection and started by another at the same time, again and again.
pub(crate) async fn overlapping_lives_do_not_harm_each_other(stage: &mut Stage) -> Result<()> {
    let endpoint = stage.newcomer();
    let watcher = stage.watch("fence", Duration::ZERO, Via::Direct)?;
    watcher.synced(Duration::from_secs(10)).await?;
    // The shared one twice in a row, so that one connection replaces itself, too.
    let (one, other) = (stage.connect(Via::Direct)?, stage.connect(Via::Direct)?);
    let connections = [&one, &other, &stage.shared, &stage.shared];
    let lives = stage.form.choose(100, 1_000);
    let mut last = life(stage, &one, &endpoint, 0)?;
    last.start().await?;
    let mut stops = Vec::new();
    for number in 1..=lives {
        stops.push(Instant::now());
        let next = life(stage, connections[number % connections.len()], &endpoint, number)?;
        let (stopped, started) = tokio::join!(
            after(fastrand::u64(..8), || last.stop()),
            after(fastrand::u64(..8), || next.start())
        );
        stopped.with_context(|| format!("stop of life {}", number - 1))?;
        started.with_context(|| format!("start of life {number}"))?;
        holds(stage, &watcher, &endpoint, number).await?;
        last = next;
    }
    stage.notes.count("lives", lives);
    holds(stage, &watcher, &endpoint, lives).await?;
    stops.push(Instant::now());
    last.stop().await?;
    nobody_was_removed_alive(stage, &watcher, &stops)?;
    ends(stage, watcher).await
}

fn life(stage: &Stage, on: &Arc<dyn Registry>, endpoint: &str, number: usize) -> Result<Arc<dyn Register>> {
    Ok(on.register(stage.register_config(endpoint, &format!("life {number}"), Via::Direct))?)
}

async fn after<T>(millis: u64, work: impl AsyncFnOnce() -> T) -> T {
    sleep(Duration::from_millis(millis)).await;
    work().await
}

/// The later life's record is there, and now and then: is still there a while later.
async fn holds(stage: &Stage, watcher: &Watcher, endpoint: &str, number: usize) -> Result<()> {
    let expected = Expected::only([(endpoint.to_owned(), format!("life {number}"))]);
    let shown = shows(watcher, &expected, SHOWN).await;
    shown.map_err(|error| stage.wrong_end(format!("life {number}: {error:#}; seen:{:?}", tail(watcher))))?;
    if number.is_multiple_of(50) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(500) {
            if let Some(difference) = watcher.differs(&expected) {
                return Err(
                    stage.wrong_end(format!("life {number}, later: {difference}; seen:{:?}", tail(watcher)))
                );
            }
            sleep(Duration::from_millis(10)).await;
        }
        let records = tools::records(stage).await?;
        let difference = tools::disagreement(&records, &expected);
        ensure!(difference.is_empty(), "life {number}: the registry's own tool: {difference}");
    }
    Ok(())
}

/// What is repaired within a heart beat was wrong all the same: once a life has been seen, it may be removed
/// only after its own stop began.
fn nobody_was_removed_alive(stage: &Stage, watcher: &Watcher, stops: &[Instant]) -> Result<()> {
    let mut shown = None;
    for Seen { at, what } in watcher.seen.log() {
        match what {
            What::Put(_, attr) => {
                let number = std::str::from_utf8(&attr)?.strip_prefix("life ").context("whose attr?")?;
                shown = Some(number.parse::<usize>()?);
            }
            What::Delete(_) => {
                let number = shown.context("removed before it was added")?;
                if stops.get(number).is_none_or(|stop| at < *stop) {
                    return Err(stage.wrong_end(format!("life {number} was removed before its stop")));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// After the last stop nothing comes back.
async fn ends(stage: &Stage, watcher: Watcher) -> Result<()> {
    let nobody = Expected::default();
    shows(&watcher, &nobody, SHOWN)
        .await
        .map_err(|error| stage.wrong_end(format!("the last stop: {error:#}")))?;
    let began = Instant::now();
    while began.elapsed() < stage.settings.ttl + Duration::from_secs(2) {
        if let Some(difference) = watcher.differs(&nobody) {
            return Err(stage.wrong_end(format!("after the last stop: {difference}")));
        }
        sleep(Duration::from_millis(20)).await;
    }
    let difference = tools::disagreement(&tools::records(stage).await?, &nobody);
    ensure!(difference.is_empty(), "after the last stop, the registry's own tool: {difference}");
    watcher.stop().await
}

fn tail(watcher: &Watcher) -> Vec<crate::conformance::What> {
    let log = watcher.seen.log();
    log[log.len().saturating_sub(8)..].iter().map(|seen| seen.what.clone()).collect()
}
