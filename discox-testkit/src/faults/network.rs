//! Networks that reset, lose and delay, between clients and servers: by the suite's own proxies.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use super::{
    cell::Topology,
    hangs::BEYOND_DETECTION,
    stage::{Stage, Via},
};

/// Every 200 ms, while attrs are updated and endpoints come and go.
pub(crate) async fn connections_reset_every_200_ms_under_load(stage: &mut Stage) -> Result<()> {
    let lasts = stage.form.choose(Duration::from_secs(8), Duration::from_secs(30));
    let began = Instant::now();
    let resets = async {
        while began.elapsed() < lasts {
            sleep(Duration::from_millis(200)).await;
            stage.doors.iter().for_each(crate::proxy::Proxy::reset_all);
        }
    };
    let load = async {
        let mut round = 0_u32;
        while began.elapsed() < lasts {
            round += 1;
            for live in &stage.fleet {
                let attr = format!("load {round}");
                stage.book.live(&live.endpoint, &attr);
                // Ok or not: it is the wanted attr from now on.
                let _ = live.register.update_attr(&attr).await;
            }
        }
        round
    };
    let ((), rounds) = tokio::join!(resets, load);
    stage.notes.count("load_rounds", rounds);
    stage.recovers(began, Instant::now()).await
}

/// For a good part of the TTL.
pub(crate) async fn packets_dropped_shorter_than_the_ttl(stage: &mut Stage) -> Result<()> {
    dropped(stage, stage.settings.ttl / 2).await
}

/// For longer than the TTL and the detection.
pub(crate) async fn packets_dropped_longer_than_the_ttl(stage: &mut Stage) -> Result<()> {
    dropped(stage, stage.settings.detection + stage.settings.ttl).await
}

/// A member that clients use, for longer than the TTL and the detection.
pub(crate) async fn member_black_holed_while_connected(stage: &mut Stage) -> Result<()> {
    dropped(stage, stage.settings.detection + stage.settings.ttl).await
}

async fn dropped(stage: &mut Stage, lasts: Duration) -> Result<()> {
    let member = stage.in_use()?;
    let door = stage.doors.get(member).context("no proxy")?;
    door.hold();
    let held = Instant::now();
    if stage.cell.topology == Topology::Single && lasts > stage.settings.ttl {
        stage.detects(held).await?;
    }
    if stage.cell.topology == Topology::Cluster && lasts > stage.settings.ttl {
        let target = stage.settings.detection + BEYOND_DETECTION;
        stage.right_again("failover", held, held, target).await?;
    }
    sleep(lasts.saturating_sub(held.elapsed())).await;
    door.release();
    stage.recovers(held, Instant::now()).await
}

/// One member swallows every packet from before anybody connects.
pub(crate) async fn member_black_holed_while_connecting(stage: &mut Stage) -> Result<()> {
    const START: Duration = Duration::from_secs(3);
    stage.doors.first().context("no proxy")?.hold();
    for i in 0..6 {
        let (endpoint, began) = (format!("10.0.2.{i}:8000"), Instant::now());
        let register = stage.registration(&endpoint, "connected", Via::Doors)?;
        register.start().await.with_context(|| format!("start {i}"))?;
        stage.notes.took("start", began.elapsed(), START)?;
        stage.fleet.push(super::stage::Live { endpoint, register });
        let began = Instant::now();
        let watcher = stage.watch(&format!("late {i}"), stage.settings.grace, Via::Doors)?;
        watcher.synced(Duration::from_secs(10)).await?;
        stage.notes.took("first list", began.elapsed(), START)?;
        stage.watchers.push(watcher);
    }
    stage.wait_until_right(Duration::from_secs(3)).await?;
    stage.doors.iter().for_each(crate::proxy::Proxy::release);
    stage.still_works().await?;
    stage.settles().await
}

/// 100 ms each way, and stalls of a second.
pub(crate) async fn slow_network(stage: &mut Stage) -> Result<()> {
    let door = stage.doors.first().context("no proxy")?;
    door.delay(Duration::from_millis(100));
    let slow = Instant::now();
    for _ in 0..stage.form.choose(2, 5) {
        stage.still_works().await?;
        door.stall(Duration::from_secs(1));
        stage.still_works().await?;
    }
    let (expected, late) = (stage.book.expected(), &stage.newcomer());
    let began = Instant::now();
    let newcomer = stage.watch("newcomer", stage.settings.grace, Via::Doors)?;
    newcomer.synced(Duration::from_secs(10)).await?;
    super::recovery::shows(&newcomer, &expected, Duration::from_secs(3)).await?;
    stage.notes.took("first list", began.elapsed(), Duration::from_secs(2))?;
    let began = Instant::now();
    let register = stage.registration(late, "late", Via::Doors)?;
    register.start().await?;
    stage.notes.took("start", began.elapsed(), Duration::from_secs(2))?;
    stage.book.ended(late);
    register.stop().await?;
    newcomer.stop().await?;
    door.delay(Duration::ZERO);
    stage.recovers(slow, Instant::now()).await
}
