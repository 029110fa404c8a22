//! What happens to a cluster as a whole.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::{hangs::BEYOND_DETECTION, stage::Stage};
use crate::{
    server::{Data, Member},
    wait::eventually,
};

/// "Failover from a killed member within this."
const FAILOVER: Duration = Duration::from_secs(3);

/// An election, and then a failover.
const ELECTION: Duration = Duration::from_secs(3);

/// The leader is killed, and comes back later.
pub(crate) async fn leader_killed(stage: &mut Stage) -> Result<()> {
    let (_, leader) = stage.servers.elected().await?;
    leader.kill().await?;
    let killed = Instant::now();
    let election = async {
        stage.servers.elected().await?;
        stage.notes.took("of which election", killed.elapsed(), ELECTION)
    };
    let failover = stage.right_again("failover", killed, killed, FAILOVER + ELECTION);
    tokio::try_join!(failover, election)?;
    leader.start(Data::Kept).await?;
    stage.recovers(killed, Instant::now()).await
}

/// The leader is cut off from its peers while clients still reach it, and comes back later.
pub(crate) async fn leader_cut_off_from_its_peers(stage: &mut Stage) -> Result<()> {
    let (_, leader) = stage.servers.elected().await?;
    leader.cut_off().await?;
    let cut = Instant::now();
    let target = stage.settings.detection + BEYOND_DETECTION;
    stage.right_again("failover", cut, cut, target).await?;
    sleep((stage.settings.ttl * 3).saturating_sub(cut.elapsed())).await;
    leader.rejoin().await?;
    leader.ready().await?;
    stage.recovers(cut, Instant::now()).await
}

/// All members are restarted, one after the other.
pub(crate) async fn rolling_restart(stage: &mut Stage) -> Result<()> {
    for member in stage.servers.members() {
        member.kill().await?;
        let killed = Instant::now();
        member.start(Data::Kept).await?;
        stage.servers.elected().await?;
        stage.right_again("each restart", killed, Instant::now(), stage.recovery_target()).await?;
    }
    stage.still_works().await?;
    stage.settles().await
}

/// Two of three members are killed, for longer than the TTL.
pub(crate) async fn quorum_lost_and_regained(stage: &mut Stage) -> Result<()> {
    let (leader, _) = stage.servers.elected().await?;
    let members = stage.servers.members();
    let victims: Vec<&Member> =
        [leader, (leader + 1) % members.len()].into_iter().map(|i| &members[i]).collect();
    futures_util::future::try_join_all(victims.iter().map(|member| member.kill())).await?;
    let lost = Instant::now();
    sleep(stage.settings.ttl * 2 + Duration::from_secs(1)).await;
    futures_util::future::try_join_all(victims.iter().map(|member| member.start(Data::Kept))).await?;
    stage.servers.elected().await?;
    eventually(Duration::from_secs(30), "all members", async || {
        futures_util::future::join_all(members.iter().map(Member::answers))
            .await
            .into_iter()
            .all(|answers| answers)
    })
    .await?;
    stage.recovers(lost, Instant::now()).await
}
