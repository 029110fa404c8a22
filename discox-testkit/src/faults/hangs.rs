//! Servers that hang: connections stay open, nothing is answered.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::{cell::Topology, stage::Stage};

/// What is added to the detection: "from a hung or black-holed one within detection + 3 s".
pub(crate) const BEYOND_DETECTION: Duration = Duration::from_secs(3);

/// For a good part of the TTL.
pub(crate) async fn hung_shorter_than_the_ttl(stage: &mut Stage) -> Result<()> {
    hung(stage, stage.settings.ttl / 2, false).await
}

/// For longer than the TTL and the detection.
pub(crate) async fn hung_longer_than_the_ttl(stage: &mut Stage) -> Result<()> {
    hung(stage, stage.settings.detection + stage.settings.ttl, true).await
}

/// The same with the default settings.
pub(crate) async fn hung_longer_than_the_ttl_by_default(stage: &mut Stage) -> Result<()> {
    hung_longer_than_the_ttl(stage).await
}

/// For longer than the TTL, but not long enough to be noticed: the one hang that may remove live endpoints.
pub(crate) async fn hung_longer_than_the_ttl_but_not_noticed(stage: &mut Stage) -> Result<()> {
    hung(stage, stage.settings.ttl + Duration::from_secs(2), false).await
}

/// A member that clients use, for longer than the TTL and the detection.
pub(crate) async fn member_hung_longer_than_the_ttl(stage: &mut Stage) -> Result<()> {
    hung(stage, stage.settings.detection + stage.settings.ttl, true).await
}

async fn hung(stage: &mut Stage, hang: Duration, noticed: bool) -> Result<()> {
    let member = stage.in_use()?;
    let victim = stage.servers.member(member);
    victim.pause().await?;
    let hung = Instant::now();
    if stage.cell.topology == Topology::Single && noticed {
        stage.detects(hung).await?;
    }
    if stage.cell.topology == Topology::Cluster && noticed {
        let target = stage.settings.detection + BEYOND_DETECTION;
        stage.right_again("failover", hung, hung, target).await?;
    }
    sleep(hang.saturating_sub(hung.elapsed())).await;
    victim.resume().await?;
    victim.ready().await?;
    stage.recovers(hung, Instant::now()).await
}
