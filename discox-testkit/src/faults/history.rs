//! Watchers whose place in the registry's history is gone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    stage::{Live, Stage, Via, start_all},
    tools,
};

/// Endpoints that change while the watchers are cut off.
const CHANGING: usize = 50;

/// Endpoints that are registered after a snapshot was saved.
const LATER: usize = 5;

/// etcd: the watchers' revision is compacted while they are cut off.
pub(crate) async fn compaction_while_the_watcher_is_cut_off(stage: &mut Stage) -> Result<()> {
    let changed = changing(stage).await?;
    let cut = cut_off(stage).await?;
    change(&*stage, &changed, 2 * CHANGING).await?;
    tools::compact(stage).await?;
    back(stage, cut).await
}

/// Thousands of changes while the watchers are cut off.
pub(crate) async fn five_thousand_changes_while_the_watcher_is_cut_off(stage: &mut Stage) -> Result<()> {
    let changed = changing(stage).await?;
    let cut = cut_off(stage).await?;
    change(&*stage, &changed, 5_000).await?;
    back(stage, cut).await
}

async fn changing(stage: &mut Stage) -> Result<Vec<usize>> {
    register(stage, "10.0.4", CHANGING).await
}

/// Live endpoints that reach the registry directly, on one connection.
async fn register(stage: &mut Stage, network: &str, endpoints: usize) -> Result<Vec<usize>> {
    let registry = stage.connect(Via::Direct)?;
    let before = stage.fleet.len();
    for i in 0..endpoints {
        let endpoint = format!("{network}.{i}:8000");
        stage.book.live(&endpoint, "change 0");
        let register = registry.register(stage.register_config(&endpoint, "change 0", Via::Direct))?;
        stage.fleet.push(Live { endpoint, register });
    }
    start_all(&stage.fleet[before..]).await?;
    stage.wait_until_right(Duration::from_secs(10)).await?;
    Ok((before..stage.fleet.len()).collect())
}

/// Cuts off whoever is behind the proxy, and waits until the watchers have noticed.
async fn cut_off(stage: &Stage) -> Result<Instant> {
    let door = stage.doors.first().context("no proxy")?;
    door.refuse().await;
    door.reset_all();
    let cut = Instant::now();
    for watcher in &stage.watchers {
        let lost = |what: &crate::conformance::What| matches!(what, crate::conformance::What::Lost(_));
        watcher.seen.wait_for(0, "the loss", Duration::from_secs(5), lost).await?;
    }
    Ok(cut)
}

/// Until the registry has acknowledged so many changes.
async fn change(stage: &Stage, changing: &[usize], times: usize) -> Result<()> {
    let (began, mut round, mut changes) = (Instant::now(), 0, 0);
    while changes < times {
        round += 1;
        let attr = format!("change {round}");
        let updates = changing.iter().map(|i| {
            let live = &stage.fleet[*i];
            stage.book.live(&live.endpoint, &attr);
            live.register.update_attr(&attr)
        });
        // What is not acknowledged in time, by a registry that has its hands full, is wanted all the same.
        changes += join_all(updates).await.iter().filter(|done| done.is_ok()).count();
    }
    stage.notes.count("changes", changes);
    stage.notes.count("changes_took_ms", u64::try_from(began.elapsed().as_millis())?);
    Ok(())
}

async fn back(stage: &Stage, cut: Instant) -> Result<()> {
    stage.doors.first().context("no proxy")?.accept().await;
    stage.recovers(cut, Instant::now()).await
}

/// Consul: the servers' state is set back to a snapshot from before some of the live endpoints were registered and
/// others were changed, and the index with it. None of them may be removed from a cache.
pub(crate) async fn index_going_backwards(stage: &mut Stage) -> Result<()> {
    let file = format!("/tmp/discox-test-{:016x}.snapshot", fastrand::u64(..));
    stage.servers.member(0).tool(&["snapshot", "save", &file]).await?;
    let before = index(stage).await?;
    register(stage, "10.0.5", LATER).await?;
    for i in 0..20 {
        let attr = format!("later {i}");
        let live = &stage.fleet[0];
        stage.book.live(&live.endpoint, &attr);
        live.register.update_attr(&attr).await?;
    }
    stage.wait_until_right(Duration::from_secs(5)).await?;
    let later = index(stage).await?;
    let member = stage.servers.member(0);
    let restored = Instant::now();
    // It soon goes on from where the servers' log is.
    let mut back = later;
    let lowest = async {
        while restored.elapsed() < Duration::from_secs(10) && back >= later {
            back = back.min(index(stage).await.unwrap_or(later));
        }
    };
    let restore = ["snapshot", "restore", &file];
    let (restored_it, ()) = tokio::join!(member.tool(&restore), lowest);
    restored_it?;
    let _ = std::fs::remove_file(&file);
    stage.notes.count("indexes", serde_json::json!([before, later, back]));
    ensure!(back < later, "the index went from {later} to {back}, which is not back");
    stage.recovers(restored, Instant::now()).await
}

async fn index(stage: &Stage) -> Result<u64> {
    let address = stage.servers.member(0).address();
    crate::server::ask::consul_index(address, &format!("/v1/health/service/{}", stage.service)).await
}
