//! Many registrations and discoveries over one connection.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use discox_core::{ErrorKind, LiteEndpoint, Register, RegisterConfig, RegisterState};
use futures_util::future::{join_all, try_join_all};
use tokio::time::timeout;

use super::{
    ground::{Data, Ground},
    recorder::{What, says},
    scene::{AT_ONCE, ATTR, ATTR2, PERIOD, Scene, TTL, Watching, becomes, fails, same, started},
};
use crate::wait::eventually;

const HERE: &str = "10.1.0.1:8111";

/// Several services are registered and discovered over one connection, and do not mix.
pub async fn one_connection_serves_several_services(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let scenes = ["-a", "-b", "-c"].map(|suffix| scene.other_service(suffix));
    let mut registers = Vec::new();
    let mut watchers = Vec::new();
    for (n, scene) in scenes.iter().enumerate() {
        watchers.push(Watching::start(registry.discover(scene.discovery())?).synced().await?);
        for port in 1..=3 {
            let config = scene.registration(&format!("10.1.0.{n}:{port}"), ATTR);
            registers.push(started(registry.register(config)?).await?);
        }
    }
    for (n, watching) in watchers.iter().enumerate() {
        let all = [1, 2, 3].map(|port| format!("10.1.0.{n}:{port}"));
        watching.seen.lists(&all.each_ref().map(String::as_str), AT_ONCE).await?;
    }
    registers[4].update_attr(ATTR2).await?;
    watchers[1].seen.shows("10.1.0.1:2", ATTR2, AT_ONCE).await?;
    watchers.remove(0).stop().await?;
    registers.remove(0).stop().await?;
    same("the registry's record", scenes[0].read("10.1.0.0:1").await?, None::<String>)?;
    let late = started(registry.register(scenes[2].registration("10.1.0.2:9", ATTR))?).await?;
    watchers[1].seen.shows("10.1.0.2:9", ATTR, AT_ONCE).await?;
    Ok(late.stop().await?)
}

/// Many endpoints come and go at once, and every cache ends as the registry is.
pub async fn many_endpoints_come_and_go_at_once(ground: &dyn Ground) -> Result<()> {
    const MANY: u16 = 60;
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let endpoints = Arc::new(LiteEndpoint::new());
    let discover = registry.discover(scene.discovery())?;
    let task = tokio::spawn({
        let (discover, endpoints) = (discover.clone(), endpoints.clone());
        async move { discover.start(endpoints).await }
    });
    let registers: Vec<Arc<dyn Register>> = (1..=MANY)
        .map(|port| registry.register(scene.registration(&format!("10.1.0.1:{port}"), ATTR)))
        .collect::<Result<_, _>>()?;
    try_join_all(registers.iter().map(|register| register.start())).await?;
    eventually(AT_ONCE, "all to be listed", async || endpoints.len() == usize::from(MANY)).await?;
    let (leaving, staying) = registers.split_at(registers.len() / 2);
    let (left, updated) = tokio::join!(
        join_all(leaving.iter().map(|register| register.stop())),
        join_all(staying.iter().map(|register| register.update_attr(ATTR2)))
    );
    left.into_iter().chain(updated).collect::<Result<Vec<()>, _>>()?;
    eventually(AT_ONCE, "the rest to be listed", async || {
        let now = endpoints.snapshot();
        now.len() == staying.len() && now.iter().all(|entry| says(entry.attr(), ATTR2))
    })
    .await?;
    discover.stop().await;
    task.await??;
    registry.close().await;
    Ok(())
}

/// Records with different TTLs and heart beats live over one connection.
pub async fn different_ttls_live_over_one_connection(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let watching = Watching::start(registry.discover(scene.discovery())?).synced().await?;
    let mut registers = Vec::new();
    for (port, seconds) in [3, 6, 20, 60].into_iter().enumerate() {
        let period = Duration::from_secs(seconds) / 3;
        let config = RegisterConfig {
            heart_beat_period: period,
            ttl: None,
            ..scene.registration(&format!("10.1.0.1:{}", port + 1), ATTR)
        };
        registers.push(started(registry.register(config)?).await?);
    }
    watching.seen.lists(&["10.1.0.1:1", "10.1.0.1:2", "10.1.0.1:3", "10.1.0.1:4"], AT_ONCE).await?;
    let past_the_first_two = ground.expiry(Duration::from_secs(6));
    watching.seen.stays_free_of(0, "a delete", past_the_first_two, What::is_delete).await?;
    for register in &registers {
        same("the state", register.status().state, RegisterState::Registered)?;
        register.stop().await?;
    }
    watching.seen.lists(&[], AT_ONCE).await
}

/// Over one connection too, the later start of an endpoint wins, and the earlier one returns.
pub async fn the_later_start_wins_over_one_connection(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let watching = Watching::start(registry.discover(scene.discovery())?).synced().await?;
    let earlier = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    let mark = watching.seen.mark();
    let later = started(registry.register(scene.registration(HERE, ATTR2))?).await?;
    becomes(&*earlier, RegisterState::Superseded, PERIOD + AT_ONCE).await?;
    fails("update_attr of the earlier one", earlier.update_attr("mine!").await, ErrorKind::Superseded)?;
    watching.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    same("what was told", watching.seen.since(mark).len(), 1)?;
    later.stop().await?;
    // What it wanted while superseded is what it registers now.
    scene.reads(HERE, Some("mine!"), PERIOD + AT_ONCE).await?;
    becomes(&*earlier, RegisterState::Registered, AT_ONCE).await?;
    let third = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    earlier.stop().await?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR))?;
    third.stop().await?;
    same("the registry's record", scene.read(HERE).await?, None::<String>)
}

/// However a `stop` and a `start` of one endpoint race over one connection, what started is there.
pub async fn stop_and_start_do_not_race_over_one_connection(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let mut earlier = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    for round in 0..10 {
        let attr = format!(r#"{{"round":"{round}"}}"#);
        let later = registry.register(scene.registration(HERE, &attr))?;
        let (stopping, starting) = (earlier.clone(), later.clone());
        let (stopped, started) = tokio::join!(
            tokio::spawn(async move { stopping.stop().await }),
            tokio::spawn(async move { starting.start().await })
        );
        stopped??;
        started??;
        same("the registry's record", scene.read(HERE).await?, Some(attr))?;
        earlier = later;
    }
    earlier.stop().await?;
    same("the registry's record", scene.read(HERE).await?, None::<String>)
}

/// Closing the connection ends all that was made from it.
pub async fn closing_the_connection_ends_everything(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let witness = scene.watch().await?;
    let registry = scene.connect()?;
    let register = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    let mut watching = Watching::start(registry.discover(scene.discovery())?).synced().await?;
    witness.seen.shows(HERE, ATTR, AT_ONCE).await?;
    registry.close().await;
    registry.close().await;
    fails("start of the discovery", watching.ended(AT_ONCE).await?, ErrorKind::Stopped)?;
    let log = watching.seen.since(0);
    ensure!(matches!(log.last(), Some(What::Ended)), "the last callback is not the end: {log:?}");
    witness.seen.misses(HERE, ground.expiry(TTL) + AT_ONCE).await?;
    // Whether there is anything left to remove is left open; it must not take long.
    let _ = timeout(Duration::from_secs(6), register.stop()).await?;
    let refused = registry.register(scene.registration(HERE, ATTR));
    let refused = match refused {
        Ok(register) => register.start().await,
        Err(error) => Err(error),
    };
    fails("a start after close", refused, ErrorKind::Stopped)
}

/// What was made from a handle lives on when the handle is dropped.
pub async fn a_registration_outlives_the_registry_handle(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let register = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    let watching = Watching::start(registry.discover(scene.discovery())?).synced().await?;
    drop(registry);
    register.update_attr(ATTR2).await?;
    watching.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    watching.stop().await?;
    register.update_attr(ATTR).await?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR))?;
    Ok(register.stop().await?)
}

/// The end of one discovery or registration leaves the connection to the others.
pub async fn one_end_does_not_end_the_others(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let stays = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    let leaves = started(registry.register(scene.registration("10.1.0.2:1", ATTR))?).await?;
    let watching = Watching::start(registry.discover(scene.discovery())?).synced().await?;
    let other = Watching::start(registry.discover(scene.discovery())?).synced().await?;
    leaves.stop().await?;
    other.stop().await?;
    watching.seen.lists(&[HERE], AT_ONCE).await?;
    stays.update_attr(ATTR2).await?;
    watching.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    let told = watching.seen.since(0);
    ensure!(!told.iter().any(|what| matches!(what, What::Lost(_) | What::Error(_))), "{told:?}");
    Ok(stays.stop().await?)
}

/// A start that timed out on a hung registry can be repeated when it goes on; what the first one left
/// undone does not undo the second.
pub async fn a_start_that_timed_out_can_be_repeated(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let other = started(registry.register(scene.registration("10.1.0.2:1", ATTR))?).await?;
    let register = registry.register(scene.registration(HERE, ATTR))?;
    ground.hang_server().await?;
    ensure!(register.start().await.is_err(), "start succeeded on a hung registry");
    let again = tokio::spawn({
        let register = register.clone();
        async move { register.start().await }
    });
    eventually(AT_ONCE, "the second start", async || register.status().state == RegisterState::Retrying)
        .await?;
    ground.resume_server().await?;
    if let Err(error) = again.await? {
        // The connection may still be finding out that the registry is back.
        ensure!(error.kind() != ErrorKind::Superseded, "nobody else holds the record: {error}");
        eventually(Duration::from_secs(20), "start to succeed", async || register.start().await.is_ok())
            .await?;
    }
    let watching = scene.watch().await?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    let mark = watching.seen.mark();
    watching.seen.stays_free_of(mark, "a delete", 3 * PERIOD, What::is_delete).await?;
    scene.reads(HERE, Some(ATTR), AT_ONCE).await?;
    same("the state", register.status().state, RegisterState::Registered)?;
    register.stop().await?;
    Ok(other.stop().await?)
}

/// A connection that nobody could make yet serves when the registry is there.
pub async fn a_shared_connection_waits_for_its_registry(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    ground.kill_server().await?;
    let registry = scene.connect()?;
    ensure!(registry.trouble().is_none(), "trouble before the first start");
    let register = registry.register(scene.registration(HERE, ATTR))?;
    ensure!(register.start().await.is_err(), "start succeeded without a registry");
    ensure!(registry.trouble().is_some(), "the registry handle knows of no trouble");
    let watching = Watching::start(registry.discover(scene.discovery())?);
    ground.start_server(Data::Kept).await?;
    let watching = watching.synced().await?;
    register.start().await?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    ensure!(registry.trouble().is_none(), "there is still trouble: {:?}", registry.trouble());
    Ok(register.stop().await?)
}
