//! Plays one schedule and judges the whole of it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use futures_util::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep_until};

use super::{
    super::{
        Suite,
        cell::{Cell, Fault, Settings, Topology},
        form::Form,
        notes::Notes,
        stage::Stage,
        watcher::Watcher,
    },
    schedule::{REGISTRARS, Schedule},
    world::World,
};
use crate::{
    server::{Kind, Member},
    wait::eventually,
};

/// From the end of the storm until all is right: elections, the longest backoff, a TTL, the grace, a busy machine.
const CALM: Duration = Duration::from_secs(45);

/// What was abandoned or killed ends with its TTL, and is shown for as long as the grace may hold it.
const FORGOTTEN: Duration = Duration::from_secs(40);

const SETTINGS: Settings = Settings {
    endpoints: REGISTRARS,
    watchers: 3,
    heart_beat: Duration::from_secs(1),
    ttl: Duration::from_secs(10),
    grace: Duration::from_secs(6),
    detection: Duration::from_secs(4),
    doors: true,
    losses: 0..=usize::MAX,
    config: |_| "",
};

/// Why live endpoints may be removed on a cluster of Consul, and dead ones come back for a TTL: see RELIABILITY.md.
const SERF: &str = "Consul's serfHealth takes the services of a dead or hung agent out of every answer, and the agent \
                    brings them back with itself";

/// Plays the schedule on servers of its own.
///
/// # Errors
/// A promise was broken, with everything that was seen.
pub(super) async fn play(suite: Arc<Suite>, schedule: &Schedule) -> Result<()> {
    let mut fault = Fault::new("nemesis", "", SETTINGS, |_| Box::pin(async { Ok(()) }));
    if schedule.topology == Topology::Cluster {
        fault = fault.excused(Topology::Cluster, Kind::Consul, SERF);
    }
    let cell = Cell { fault, topology: schedule.topology, kind: schedule.kind };
    let opened = Stage::open(suite, &cell, Form::Short, Arc::<Notes>::default()).await;
    let mut stage = opened.context("before the storm")?;
    match judged(&mut stage, schedule).await {
        Ok(()) => stage.close().await.context("after all"),
        Err(error) => match split_brain(&stage).await {
            Some(lists) => {
                eprintln!(
                    "{schedule}\nnot judged, since the registry's own members differ for good:\n{lists}"
                );
                Ok(())
            }
            None => bail!("{error:#}\n{}", stage.describe().await),
        },
    }
}

/// What each member shows, where that differs: a ZooKeeper leader that was hung may come back with another past than the
/// cluster's, and keeps it (see RELIABILITY.md). No client can know which one is right.
async fn split_brain(stage: &Stage) -> Option<String> {
    if (stage.kind(), stage.cell.topology) != (Kind::Zookeeper, Topology::Cluster) {
        return None;
    }
    let directory = format!("{}/{}", stage.prefix, stage.service);
    let (members, ls) = (stage.servers.members(), ["ls", &*directory]);
    let lists = try_join_all(members.iter().map(|member| member.tool(&ls))).await.ok()?;
    let differ = lists.iter().any(|list| list != &lists[0]);
    differ.then(|| members.iter().zip(&lists).map(|(member, list)| format!("{member} has {list}")).collect())
}

async fn judged(stage: &mut Stage, schedule: &Schedule) -> Result<()> {
    let fleet = std::mem::take(&mut stage.fleet);
    let world = World::new(stage, fleet);
    let stormed = storm(&world, schedule).await;
    let (fleet, visitors, mut wrong) = world.over();
    stage.fleet = fleet;
    stormed.context("the harness")?;
    let end = async {
        let calm = Instant::now();
        is_forgotten(stage).await?;
        is_right(stage, calm).await?;
        stage.settles().await
    };
    wrong.extend(end.await.err().map(|error| format!("{error:#}")));
    wrong.extend(stage.judge().err().map(|error| format!("{error:#}")));
    wrong.extend(visitors.iter().filter_map(|visitor| misled(stage, visitor)));
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

async fn storm(world: &World<'_>, schedule: &Schedule) -> Result<()> {
    let began = Instant::now();
    let steps = schedule.steps.iter().map(|step| async move {
        sleep_until(began + step.at).await;
        world.play(step.act).await.with_context(|| format!("{:?}", step.act))
    });
    try_join_all(steps).await?;
    eventually(Duration::from_secs(60), "all servers", async || {
        join_all(world.stage.servers.members().iter().map(Member::answers))
            .await
            .into_iter()
            .all(|answers| answers)
    })
    .await
}

/// Nobody shows the dead any more.
async fn is_forgotten(stage: &Stage) -> Result<()> {
    let mut expected = stage.book.expected();
    let fading = std::mem::take(&mut expected.fading);
    for endpoint in &fading {
        stage.book.gone(endpoint);
    }
    let shown = || {
        stage.watchers.iter().find_map(|watcher| {
            let shown = watcher.cache.snapshot();
            let dead = fading.iter().find(|endpoint| shown.get(endpoint).is_some())?;
            Some(format!("wrong end: watcher {} shows {dead}, which is dead", watcher.name))
        })
    };
    let gone = eventually(FORGOTTEN, "the dead to go", async || shown().is_none()).await;
    gone.with_context(|| shown().unwrap_or_default())
}

/// All that should be registered is, and says so; all watchers are synced, confirmed since the storm, and equal.
async fn is_right(stage: &Stage, calm: Instant) -> Result<()> {
    let expected = stage.book.expected();
    let problem = || stage.problem(&expected, Some(calm));
    let right = eventually(CALM, "the calm", async || problem().is_none()).await;
    right.with_context(|| format!("wrong end: {}", problem().unwrap_or_default()))
}

/// What a visitor was told wrongly.
fn misled(stage: &Stage, visitor: &Watcher) -> Option<String> {
    let verdict = stage.book.judge(&visitor.seen.log());
    let wrong = [verdict.live_removals, verdict.wrong_adds].concat();
    let list = if stage.cell.excuse().is_some() { vec![] } else { wrong };
    (!list.is_empty()).then(|| format!("{} was told wrongly: {}", visitor.name, list.join("; ")))
}
