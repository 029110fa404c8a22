//! The registry goes and comes back. Each behaviour kills a server of its own.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use discox_core::{
    ConnectionConfig, DiscoverConfig, DiscoverState, FreshnessState, LiteEndpoint, RegisterConfig,
    RegisterState,
};
use tokio::time::Instant;

use super::{
    ground::{Data, Ground},
    recorder::{Recorder, What},
    scene::{AT_ONCE, ATTR, ATTR2, PERIOD, Scene, Watching, becomes, same, started},
};
use crate::wait::eventually;

const HERE: &str = "10.1.0.1:8111";
const THERE: &str = "10.1.0.2:8111";

/// To notice that a server was killed: the connection breaks.
const NOTICED: Duration = AT_ONCE;

/// To be back once the registry can be reached: the longest backoff, a heart beat, and some.
const BACK: Duration = Duration::from_secs(15);

fn is_lost(what: &What) -> bool {
    matches!(what, What::Lost(_))
}

fn is_recovered(what: &What) -> bool {
    matches!(what, What::Recovered)
}

/// A restart with its data removes nobody and changes nothing; it is told once that the registry was
/// lost, and once that it is back.
pub async fn a_restart_with_its_data_is_noticed_by_nobody(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registers = [scene.registered(HERE, ATTR).await?, scene.registered(THERE, ATTR2).await?];
    let watching = scene.watch().await?;
    let mark = watching.seen.mark();
    ground.kill_server().await?;
    watching.seen.wait_for(mark, "the loss", NOTICED, is_lost).await?;
    same("the state", watching.discover.status().state, DiscoverState::Lost)?;
    ground.start_server(Data::Kept).await?;
    watching.seen.wait_for(mark, "the recovery", BACK, is_recovered).await?;
    for register in &registers {
        becomes(&**register, RegisterState::Registered, BACK).await?;
    }
    let late = scene.registered("10.1.0.3:1", ATTR).await?;
    watching.seen.shows("10.1.0.3:1", ATTR, AT_ONCE).await?;
    let grace_over = DiscoverConfig::default().grace + Duration::from_secs(1);
    watching.seen.stays_free_of(mark, "a delete", grace_over, What::is_delete).await?;
    let told = watching.seen.since(mark);
    let count = |wanted: fn(&What) -> bool| told.iter().filter(|what| wanted(what)).count();
    same("the losses told", count(is_lost), 1)?;
    same("the errors told", count(|what| matches!(what, What::Error(_))), 1)?;
    same("the recoveries told", count(is_recovered), 1)?;
    same("the endpoints told", count(|what| matches!(what, What::Put(..) | What::Delete(_))), 1)?;
    for register in &registers {
        register.stop().await?;
    }
    watching.seen.lists(&["10.1.0.3:1"], AT_ONCE).await?;
    Ok(late.stop().await?)
}

/// After a restart without its data everything is registered again, and nobody who watches misses it.
pub async fn what_a_registry_lost_is_registered_again(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let registers = [
        scene.registered(HERE, ATTR).await?,
        started(registry.register(scene.registration(THERE, ATTR2))?).await?,
    ];
    let watching = scene.watch().await?;
    let mark = watching.seen.mark();
    ground.kill_server().await?;
    watching.seen.wait_for(mark, "the loss", NOTICED, is_lost).await?;
    ground.start_server(Data::Wiped).await?;
    scene.reads(HERE, Some(ATTR), BACK).await?;
    scene.reads(THERE, Some(ATTR2), BACK).await?;
    watching.seen.wait_for(mark, "the recovery", BACK, is_recovered).await?;
    for register in &registers {
        becomes(&**register, RegisterState::Registered, BACK).await?;
    }
    let grace_over = DiscoverConfig::default().grace + Duration::from_secs(1);
    watching.seen.stays_free_of(mark, "a delete", grace_over, What::is_delete).await?;
    let told = watching.seen.since(mark);
    let changes = told.iter().filter(|what| matches!(what, What::Put(..) | What::Delete(_))).count();
    ensure!(changes == 0, "{changes} changes were told: {:?}", watching.seen);
    let later = scene.watch().await?;
    later.seen.lists(&[HERE, THERE], Duration::ZERO).await
}

/// While the registry is down the last known endpoints stay, and the loss is told once, not once an
/// attempt.
pub async fn a_crashed_registry_keeps_the_last_known(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let _register = scene.registered(HERE, ATTR).await?;
    let endpoints = Arc::new(LiteEndpoint::new());
    let discover = scene.discover()?;
    let task = tokio::spawn({
        let (discover, endpoints) = (discover.clone(), endpoints.clone());
        async move { discover.start(endpoints).await }
    });
    endpoints.ready().await;
    let watching = scene.watch().await?;
    let mark = watching.seen.mark();
    ground.kill_server().await?;
    watching.seen.wait_for(mark, "the loss", NOTICED, is_lost).await?;
    let told = watching.seen.mark();
    watching.seen.stays_free_of(told, "a callback", Duration::from_secs(4), |_| true).await?;
    same("the endpoints", endpoints.list(), [HERE])?;
    same("the freshness", endpoints.freshness().state, FreshnessState::Stale)?;
    ensure!(endpoints.is_ready() && endpoints.last_error().is_some(), "{endpoints:?}");
    let status = watching.discover.status();
    ensure!(status.state == DiscoverState::Lost && status.last_error.is_some(), "{status:?}");
    ground.start_server(Data::Kept).await?;
    eventually(BACK, "the cache to be fresh", async || endpoints.freshness().state == FreshnessState::Synced)
        .await?;
    same("the endpoints", endpoints.list(), [HERE])?;
    discover.stop().await;
    Ok(task.await??)
}

/// A registration says that it is retrying, since when and why.
pub async fn a_registration_says_that_it_is_retrying(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    ground.kill_server().await?;
    becomes(&*register, RegisterState::Retrying, NOTICED).await?;
    ensure!(register.status().last_error.is_some(), "no reason: {:?}", register.status());
    ground.start_server(Data::Kept).await?;
    becomes(&*register, RegisterState::Registered, BACK).await?;
    Ok(register.stop().await?)
}

/// A discovery that starts before its registry succeeds when that comes, and told why it waited.
pub async fn discovery_waits_for_its_registry(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    ground.kill_server().await?;
    let watching = Watching::start(scene.discover()?);
    watching.seen.wait_for(0, "the error", 2 * NOTICED, |what| matches!(what, What::Error(_))).await?;
    same("the state", watching.discover.status().state, DiscoverState::Connecting)?;
    ground.start_server(Data::Kept).await?;
    let watching = watching.synced().await?;
    let errors = watching.seen.since(0).iter().filter(|what| matches!(what, What::Error(_))).count();
    same("the errors told", errors, 1)?;
    let register = scene.registered(HERE, ATTR).await?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    Ok(register.stop().await?)
}

/// An attr that could not be written is written when the registry is back.
pub async fn an_update_during_an_outage_is_written_afterwards(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    let watching = scene.watch().await?;
    ground.kill_server().await?;
    becomes(&*register, RegisterState::Retrying, NOTICED).await?;
    let began = Instant::now();
    ensure!(register.update_attr(ATTR2).await.is_err(), "update_attr succeeded without a registry");
    ensure!(began.elapsed() < Duration::from_secs(6), "update_attr took {:?}", began.elapsed());
    ground.start_server(Data::Kept).await?;
    scene.reads(HERE, Some(ATTR2), BACK).await?;
    watching.seen.shows(HERE, ATTR2, BACK).await?;
    Ok(register.stop().await?)
}

/// What is gone after an outage is shown until the grace is over; what is new is shown at once, so that
/// the list is never falsely empty.
pub async fn after_an_outage_additions_come_at_once_and_removals_after_the_grace(
    ground: &dyn Ground,
) -> Result<()> {
    // Longer than what comes at once may take: else the old goes before the new is there.
    let grace = AT_ONCE + Duration::from_secs(2);
    let scene = Scene::new(ground);
    ground.tool_put(&scene.place(HERE), ATTR).await?;
    let discover = (ground.makers().new_discover)(DiscoverConfig { grace, ..scene.discovery() })?;
    let watching = Watching::start(discover).synced().await?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    let mark = watching.seen.mark();
    ground.kill_server().await?;
    watching.seen.wait_for(mark, "the loss", NOTICED, is_lost).await?;
    ground.start_server(Data::Wiped).await?;
    let recovered = watching.seen.wait_for(mark, "the recovery", BACK, is_recovered).await?;
    same("the endpoints held", watching.discover.status().held, 1)?;
    let register = scene.registered(THERE, ATTR).await?;
    watching.seen.shows(THERE, ATTR, AT_ONCE).await?;
    let removed = watching.seen.wait_for(mark, "the removal", grace + AT_ONCE, What::is_delete).await?;
    let held = removed - recovered;
    ensure!(held + Duration::from_millis(500) >= grace, "removed after {held:?} of a grace of {grace:?}");
    watching.seen.lists(&[THERE], AT_ONCE).await?;
    ensure!(watching.seen.fewest() >= 1, "an empty list was shown: {:?}", watching.seen);
    Ok(register.stop().await?)
}

/// Without a grace, what is gone after an outage is removed with the first new list.
pub async fn without_a_grace_removals_come_with_the_recovery(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    ground.tool_put(&scene.place(HERE), ATTR).await?;
    let config = DiscoverConfig { grace: Duration::ZERO, ..scene.discovery() };
    let watching = Watching::start((ground.makers().new_discover)(config)?).synced().await?;
    let mark = watching.seen.mark();
    ground.kill_server().await?;
    watching.seen.wait_for(mark, "the loss", NOTICED, is_lost).await?;
    ground.start_server(Data::Wiped).await?;
    watching.seen.wait_for(mark, "the recovery", BACK, is_recovered).await?;
    watching.seen.lists(&[], Duration::ZERO).await
}

/// One connection for many survives a restart as a connection of one's own does.
pub async fn a_shared_connection_survives_a_restart(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let mut registers = Vec::new();
    for port in 1..=20 {
        let config = scene.registration(&format!("10.1.0.1:{port}"), ATTR);
        registers.push(started(registry.register(config)?).await?);
    }
    let watching = Watching::start(registry.discover(scene.discovery())?).synced().await?;
    same("the endpoints", watching.seen.endpoints().len(), 20)?;
    let mark = watching.seen.mark();
    ground.kill_server().await?;
    watching.seen.wait_for(mark, "the loss", NOTICED, is_lost).await?;
    eventually(NOTICED, "the registry handle to know", async || registry.trouble().is_some()).await?;
    ground.start_server(Data::Wiped).await?;
    for register in &registers {
        becomes(&**register, RegisterState::Registered, BACK).await?;
    }
    watching.seen.wait_for(mark, "the recovery", BACK, is_recovered).await?;
    let later = scene.watch().await?;
    same("the endpoints", later.seen.endpoints().len(), 20)?;
    ensure!(!watching.seen.since(mark).iter().any(What::is_delete), "a delete: {:?}", watching.seen);
    registry.close().await;
    Ok(())
}

/// A server that hangs is noticed in time, and when it goes on nobody is missed.
pub async fn a_hung_registry_is_noticed_in_time(ground: &dyn Ground) -> Result<()> {
    let detection = Duration::from_secs(5);
    let scene = Scene::new(ground);
    let connection = ConnectionConfig { detection, ..ground.connection() };
    let config = RegisterConfig { connection: connection.clone(), ..scene.registration(HERE, ATTR) };
    let register = started(scene.make(config)?).await?;
    let config = DiscoverConfig { connection, ..scene.discovery() };
    let discover = (ground.makers().new_discover)(config)?;
    let watching = Watching::into(discover, Recorder::default()).synced().await?;
    let mark = watching.seen.mark();
    let hung = Instant::now();
    ground.hang_server().await?;
    let lost = watching.seen.wait_for(mark, "the loss", detection + AT_ONCE, is_lost).await;
    lost.with_context(|| format!("hung for {:?}", hung.elapsed()))?;
    ground.resume_server().await?;
    watching.seen.wait_for(mark, "the recovery", BACK, is_recovered).await?;
    becomes(&*register, RegisterState::Registered, BACK).await?;
    scene.reads(HERE, Some(ATTR), PERIOD + AT_ONCE).await?;
    ensure!(!watching.seen.since(mark).iter().any(What::is_delete), "a delete: {:?}", watching.seen);
    Ok(register.stop().await?)
}

/// With the default settings a hung server is noticed within 15 s.
pub async fn a_hung_registry_is_noticed_within_15_s_by_default(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let mark = watching.seen.mark();
    ground.hang_server().await?;
    let limit = Duration::from_secs(15) + Duration::from_secs(1);
    watching.seen.wait_for(mark, "the loss", limit, is_lost).await?;
    ground.resume_server().await?;
    watching.seen.wait_for(mark, "the recovery", BACK, is_recovered).await?;
    Ok(())
}
