//! Servers that are killed, and come back with or without their data.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::{cell::Topology, stage::Stage};
use crate::server::Data;

/// "Failover from a killed member within this."
const FAILOVER: Duration = Duration::from_secs(3);

/// Back after a second, with its data.
pub(crate) async fn killed_and_back_within_the_ttl(stage: &mut Stage) -> Result<()> {
    killed(stage, Duration::from_secs(1), Data::Kept).await
}

/// Back after more than the TTL, with its data.
pub(crate) async fn killed_and_back_after_the_ttl(stage: &mut Stage) -> Result<()> {
    killed(stage, stage.settings.ttl * 2, Data::Kept).await
}

/// Back without its data.
pub(crate) async fn killed_and_back_without_its_data(stage: &mut Stage) -> Result<()> {
    killed(stage, Duration::from_secs(1), Data::Wiped).await
}

/// A member that clients use is back after a second.
pub(crate) async fn member_killed_and_back_within_the_ttl(stage: &mut Stage) -> Result<()> {
    killed(stage, Duration::from_secs(1), Data::Kept).await
}

/// A member that clients use is back after more than the TTL.
pub(crate) async fn member_killed_and_back_after_the_ttl(stage: &mut Stage) -> Result<()> {
    killed(stage, stage.settings.ttl * 3, Data::Kept).await
}

async fn killed(stage: &mut Stage, down: Duration, data: Data) -> Result<()> {
    let victim = match stage.cell.topology {
        Topology::Single => stage.servers.member(0),
        // What it takes to elect another leader is a fault of its own.
        Topology::Cluster => {
            let (leader, _) = stage.servers.elected().await?;
            stage.servers.member(stage.most_used(|member| member != leader)?)
        }
    };
    victim.kill().await?;
    let killed = Instant::now();
    if stage.cell.topology == Topology::Cluster {
        stage.right_again("failover", killed, killed, FAILOVER).await?;
    }
    // How long it is away is the fault itself.
    sleep(down.saturating_sub(killed.elapsed())).await;
    victim.start(data).await?;
    stage.recovers(killed, Instant::now()).await
}
