//! The grace after an outage: who lives is never removed, who died is.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use discox_core::Registry;
use tokio::time::{Instant, sleep};

use super::{
    notes::TOO_MUCH,
    process::Process,
    stage::{Live, Stage, Via, start_all},
};
use crate::{
    conformance::What,
    server::{Data, Kind},
    wait::eventually,
};

/// The slack of "gone within max(grace, granted TTL) + 2 s".
const SLACK: Duration = Duration::from_secs(2);

/// A hundred live endpoints survive an outage of three TTLs in every cache, and one that died meanwhile does not.
pub(crate) async fn grace_removes_the_dead_and_none_of_100(stage: &mut Stage) -> Result<()> {
    hundred(stage).await?;
    let (dead, alive) = (stage.newcomer(), stage.newcomer());
    let mut processes = Vec::new();
    for endpoint in [&dead, &alive] {
        stage.book.live(endpoint, "process");
        processes.push(Process::registered(stage, endpoint, "process", Via::Doors).await?);
    }
    stage.wait_until_right(Duration::from_secs(20)).await?;
    stage.servers.kill().await?;
    let killed = Instant::now();
    let victim = processes.swap_remove(0);
    stage.book.died(&dead);
    victim.kill().await?;
    sleep((stage.settings.ttl * 3).saturating_sub(killed.elapsed())).await;
    stage.servers.start(Data::Kept).await?;
    let back = Instant::now();
    stage.right_again("recovery", killed, back, stage.recovery_target()).await?;
    says_so(stage, back)?;
    removed(stage, &dead, back).await?;
    stage.book.gone(&dead);
    stage.still_works().await?;
    stage.settles().await?;
    stage.book.ended(&alive);
    processes.remove(0).terminate().await
}

/// The same with the default settings.
pub(crate) async fn grace_by_default_removes_the_dead_and_none_of_100(stage: &mut Stage) -> Result<()> {
    grace_removes_the_dead_and_none_of_100(stage).await
}

/// On ten connections, in this process, one after the other.
async fn hundred(stage: &mut Stage) -> Result<()> {
    for connection in 0..10 {
        let registry: Arc<dyn Registry> = stage.connect(Via::Doors)?;
        for i in 0..10 {
            let endpoint = format!("10.0.6.{connection}:{}", 8000 + i);
            stage.book.live(&endpoint, "one of 100");
            let register = registry.register(stage.register_config(&endpoint, "one of 100", Via::Doors))?;
            stage.fleet.push(Live { endpoint, register });
        }
        start_all(&stage.fleet[stage.fleet.len() - 10..]).await?;
    }
    Ok(())
}

/// As long as the grace cannot be over, the status of each watcher says how much of it is left.
fn says_so(stage: &Stage, back: Instant) -> Result<()> {
    for watcher in &stage.watchers {
        let status = watcher.discover.status();
        // Watchers may be back before the suite's own tool is.
        let so_far = back.elapsed().max(status.since.elapsed() + Duration::from_millis(200));
        ensure!(
            !status.grace_left.is_zero() || so_far >= stage.settings.grace,
            "watcher {}: no grace",
            watcher.name
        );
    }
    Ok(())
}

/// Waits until every watcher has removed the endpoint, and notes when.
async fn removed(stage: &Stage, dead: &str, back: Instant) -> Result<()> {
    let target = stage.settings.grace.max(granted(stage)) + SLACK;
    let shown = || stage.watchers.iter().find(|watcher| watcher.seen.endpoints().contains_key(dead));
    let gone = eventually(target * TOO_MUCH, "the end of the dead", async || shown().is_none()).await;
    if let (Err(error), Some(watcher)) = (gone, shown()) {
        return Err(stage.wrong_end(format!(
            "{error}: watcher {} {:?}",
            watcher.name,
            watcher.discover.status()
        )));
    }
    stage.notes.took("removal of the dead", back.elapsed(), target)
}

/// The TTL that the registry granted. (ZooKeeper's sessions begin anew with a restarted server, and Consul's
/// checks may.)
fn granted(stage: &Stage) -> Duration {
    let granted = stage.fleet.iter().filter_map(|live| live.register.status().granted_ttl).max();
    let granted = granted.unwrap_or(stage.settings.ttl);
    if stage.kind() == Kind::Zookeeper { granted + Duration::from_secs(2) } else { granted }
}

/// The connections of everybody go up for 3 s and down for 3 s, and still who died is removed and nobody else.
pub(crate) async fn flapping_connection_ends_the_grace(stage: &mut Stage) -> Result<()> {
    const HALF: Duration = Duration::from_secs(3);
    let dead = stage.newcomer();
    stage.book.live(&dead, "process");
    let process = Process::registered(stage, &dead, "process", Via::Doors).await?;
    stage.wait_until_right(Duration::from_secs(5)).await?;
    let began = Instant::now();
    stage.book.died(&dead);
    let mut process = Some(process);
    let gone = || stage.watchers.iter().all(|watcher| !watcher.seen.endpoints().contains_key(&dead));
    // Of each cycle, half is reachable; a further grace for what is missed late, and a TTL to miss it.
    let limit = (stage.settings.grace * 2 + granted(stage)) * 2 + HALF * 2;
    while !gone() {
        ensure!(
            began.elapsed() < limit * TOO_MUCH,
            "the dead one is still shown after {:?}",
            began.elapsed()
        );
        for door in &stage.doors {
            door.refuse().await;
            door.reset_all();
        }
        if let Some(process) = process.take() {
            process.kill().await?;
        }
        sleep(HALF).await;
        for door in &stage.doors {
            door.accept().await;
        }
        sleep(HALF).await;
    }
    stage.notes.took("removal of the dead", began.elapsed(), limit)?;
    let removed = stage
        .watchers
        .iter()
        .filter(|watcher| watcher.seen.log().iter().any(|seen| is_removal(&seen.what, &dead)));
    ensure!(removed.count() == stage.watchers.len(), "somebody was never told");
    stage.recovers(began, Instant::now()).await
}

fn is_removal(what: &What, endpoint: &str) -> bool {
    what.is_delete() && what.is_about(endpoint)
}
