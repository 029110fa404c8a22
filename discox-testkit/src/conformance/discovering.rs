//! Discovering on a registry that is well.

use anyhow::{Result, ensure};
use discox_core::{DiscoverState, RegisterState};

use super::{
    ground::Ground,
    recorder::What,
    scene::{AT_ONCE, ATTR, ATTR2, PERIOD, Scene, becomes, same},
};

const HERE: &str = "10.1.0.1:8111";
const WITNESS: &str = "10.1.0.9:1";

/// A service that does not exist is an empty, ready list; it is found when it comes.
pub async fn an_unknown_service_is_empty_and_appears_later(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    same("the first list", watching.seen.endpoints().len(), 0)?;
    same("the state", watching.discover.status().state, DiscoverState::Synced)?;
    let register = scene.registered(HERE, ATTR).await?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    register.stop().await?;
    watching.seen.misses(HERE, AT_ONCE).await?;
    let register = scene.registered(HERE, ATTR2).await?;
    watching.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    Ok(register.stop().await?)
}

/// Records made, changed and removed by the registry's own tools are seen as such.
pub async fn records_of_the_registrys_own_tools_are_seen(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    ground.tool_put(&scene.place(HERE), ATTR).await?;
    let watching = scene.watch().await?;
    same("the first list", watching.seen.endpoints().len(), 1)?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    ground.tool_put(&scene.place("10.1.0.2:1"), ATTR).await?;
    watching.seen.shows("10.1.0.2:1", ATTR, AT_ONCE).await?;
    ground.tool_put(&scene.place(HERE), ATTR2).await?;
    watching.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    ground.tool_delete(&scene.place(HERE)).await?;
    watching.seen.lists(&["10.1.0.2:1"], AT_ONCE).await?;
    let told = watching.seen.since(0).into_iter().filter(|what| what.is_about(HERE)).count();
    same("what was told of it", told, 3)?;
    ground.tool_delete(&scene.place("10.1.0.2:1")).await
}

/// A record that nobody can read is skipped; the rest is served, also when it comes later.
pub async fn unreadable_records_are_skipped(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    ground.tool_garbage(&scene.place("garbage")).await?;
    let watching = scene.watch().await?;
    watching.seen.lists(&[HERE], AT_ONCE).await?;
    ground.tool_garbage(&scene.place("more-garbage")).await?;
    let witness = scene.registered(WITNESS, ATTR).await?;
    watching.seen.shows(WITNESS, ATTR, AT_ONCE).await?;
    watching.seen.lists(&[HERE, WITNESS], AT_ONCE).await?;
    ensure!(!watching.seen.since(0).iter().any(What::is_delete), "a delete: {:?}", watching.seen);
    witness.stop().await?;
    Ok(register.stop().await?)
}

/// A record that somebody deletes or alters is written again within a heart beat.
pub async fn deleted_and_altered_records_are_repaired(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    ground.tool_delete(&scene.place(HERE)).await?;
    scene.reads(HERE, Some(ATTR), PERIOD + AT_ONCE).await?;
    becomes(&*register, RegisterState::Registered, PERIOD + AT_ONCE).await?;
    ground.tool_put(&scene.place(HERE), ATTR2).await?;
    scene.reads(HERE, Some(ATTR), PERIOD + AT_ONCE).await?;
    becomes(&*register, RegisterState::Registered, PERIOD + AT_ONCE).await?;
    register.stop().await?;
    same("the registry's record", scene.read(HERE).await?, None::<String>)
}

/// Every change is told once, and only to those whom it concerns: adding one does not touch another.
pub async fn nobody_flickers_because_of_others(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    let watching = scene.watch().await?;
    let mark = watching.seen.mark();
    for port in 1..=5 {
        let endpoint = format!("10.1.0.2:{port}");
        let other = scene.registered(&endpoint, ATTR).await?;
        watching.seen.shows(&endpoint, ATTR, AT_ONCE).await?;
        other.update_attr(ATTR2).await?;
        watching.seen.shows(&endpoint, ATTR2, AT_ONCE).await?;
        other.stop().await?;
        watching.seen.misses(&endpoint, AT_ONCE).await?;
    }
    let told = watching.seen.since(mark);
    same(
        "what was told of the one that did nothing",
        told.iter().filter(|what| what.is_about(HERE)).count(),
        0,
    )?;
    same("what was told of the five others", told.len(), 15)?;
    Ok(register.stop().await?)
}

/// While instances are replaced one after the other, a reader never sees an empty list.
pub async fn a_rolling_update_is_never_an_empty_list(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let mut old = scene.registered("10.1.0.1:1", ATTR).await?;
    for port in 2..=10 {
        let new = scene.registered(&format!("10.1.0.1:{port}"), ATTR).await?;
        old.stop().await?;
        old = new;
    }
    watching.seen.lists(&["10.1.0.1:10"], AT_ONCE).await?;
    ensure!(watching.seen.fewest() >= 1, "an empty list was shown: {:?}", watching.seen);
    Ok(old.stop().await?)
}

/// Several discoveries of one service are told the same.
pub async fn all_watchers_see_the_same(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watchers = [scene.watch().await?, scene.watch().await?, scene.watch().await?];
    let register = scene.registered(HERE, ATTR).await?;
    register.update_attr(ATTR2).await?;
    for watching in &watchers {
        watching.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    }
    register.stop().await?;
    for watching in &watchers {
        watching.seen.misses(HERE, AT_ONCE).await?;
    }
    Ok(())
}
