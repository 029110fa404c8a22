//! What people do to a registry by hand.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use super::{stage::Stage, tools};

/// A record is repaired within a heart beat, and a second for the rest.
fn repair(stage: &Stage) -> Duration {
    stage.settings.heart_beat + Duration::from_secs(1)
}

async fn repaired(stage: &Stage, done: Instant) -> Result<()> {
    stage.right_again("repair", done, done, repair(stage)).await?;
    stage.still_works().await?;
    stage.settles().await
}

fn first(stage: &Stage) -> Result<String> {
    ensure!(!stage.fleet.is_empty(), "no endpoint");
    Ok(stage.fleet[0].endpoint.clone())
}

/// A live endpoint's record is deleted.
pub(crate) async fn record_deleted_by_hand(stage: &mut Stage) -> Result<()> {
    let endpoint = first(stage)?;
    stage.book.removed_by_hand(&endpoint);
    tools::delete(stage, &endpoint).await?;
    repaired(stage, Instant::now()).await
}

/// A live endpoint's record is overwritten.
pub(crate) async fn record_overwritten_by_hand(stage: &mut Stage) -> Result<()> {
    let endpoint = first(stage)?;
    tools::overwrite(stage, &endpoint).await?;
    repaired(stage, Instant::now()).await
}

/// etcd: all leases are revoked.
pub(crate) async fn leases_revoked_by_hand(stage: &mut Stage) -> Result<()> {
    stage.fleet.iter().for_each(|live| stage.book.removed_by_hand(&live.endpoint));
    let revoked = tools::revoke_leases(stage).await?;
    ensure!(revoked > 0, "there were no leases");
    stage.notes.count("leases_revoked", revoked);
    repaired(stage, Instant::now()).await
}

/// ZooKeeper: the server closes the sessions.
pub(crate) async fn sessions_closed_by_the_server(stage: &mut Stage) -> Result<()> {
    stage.fleet.iter().for_each(|live| stage.book.removed_by_hand(&live.endpoint));
    let closed = tools::close_sessions(stage).await?;
    ensure!(closed > 0, "there were no sessions");
    stage.notes.count("sessions_closed", closed);
    repaired(stage, Instant::now()).await
}

/// Consul: the check of a live endpoint's record is deregistered.
pub(crate) async fn check_deregistered_by_hand(stage: &mut Stage) -> Result<()> {
    let endpoint = first(stage)?;
    stage.book.removed_by_hand(&endpoint);
    tools::deregister_check(stage, &endpoint).await?;
    repaired(stage, Instant::now()).await
}
