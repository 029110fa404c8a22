//! Two incarnations of one endpoint.

use anyhow::{Result, ensure};
use discox_core::{ErrorKind, RegisterConfig, RegisterState};

use super::{
    ground::Ground,
    recorder::What,
    scene::{AT_ONCE, ATTR, ATTR2, PERIOD, SHORT_TTL, Scene, becomes, fails, same, started},
};

const HERE: &str = "10.1.0.1:8111";

/// The later `start` has the record, as one update for who watches; the earlier one is told, takes
/// nothing back and removes nothing.
pub async fn the_later_start_wins(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let earlier = scene.registered(HERE, ATTR).await?;
    let watching = scene.watch().await?;
    let mark = watching.seen.mark();
    let later = scene.registered(HERE, ATTR2).await?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR2))?;
    becomes(&*earlier, RegisterState::Superseded, PERIOD + AT_ONCE).await?;
    same("the later one's state", later.status().state, RegisterState::Registered)?;
    fails("update_attr of the earlier one", earlier.update_attr("mine!").await, ErrorKind::Superseded)?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR2))?;
    // It looks again every heart beat whether the record is gone.
    watching.seen.stays_free_of(mark, "a delete", 3 * PERIOD, What::is_delete).await?;
    earlier.stop().await?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR2))?;
    later.update_attr(ATTR).await?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    let told: Vec<_> = watching.seen.since(mark).into_iter().filter(|what| what.is_about(HERE)).collect();
    ensure!(told.len() == 2 && !told.iter().any(What::is_delete), "not two updates: {told:?}");
    Ok(later.stop().await?)
}

/// A superseded registration comes back when the record is gone.
pub async fn a_superseded_one_returns_when_the_record_is_gone(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let earlier = scene.registered(HERE, ATTR).await?;
    let later = scene.registered(HERE, ATTR2).await?;
    becomes(&*earlier, RegisterState::Superseded, PERIOD + AT_ONCE).await?;
    later.stop().await?;
    becomes(&*earlier, RegisterState::Registered, PERIOD + AT_ONCE).await?;
    scene.reads(HERE, Some(ATTR), AT_ONCE).await?;
    earlier.stop().await?;
    same("the registry's record", scene.read(HERE).await?, None::<String>)
}

/// An attr that is wanted while superseded is registered when the record is gone.
pub async fn an_attr_wanted_while_superseded_is_written_later(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let earlier = scene.registered(HERE, ATTR).await?;
    let later = scene.registered(HERE, ATTR).await?;
    becomes(&*earlier, RegisterState::Superseded, PERIOD + AT_ONCE).await?;
    fails("update_attr", earlier.update_attr(ATTR2).await, ErrorKind::Superseded)?;
    later.stop().await?;
    scene.reads(HERE, Some(ATTR2), PERIOD + AT_ONCE).await?;
    Ok(earlier.stop().await?)
}

/// A record that a former life still holds is taken over as one update, and it survives the end of
/// that life's lease, session or check. (A life that ends by `kill -9` is played in `processes`: a
/// handle that is dropped may take its session with it at once.)
pub async fn a_takeover_is_one_update_and_survives_the_former_life(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let former = started(scene.make(scene.short_registration(HERE, ATTR))?).await?;
    let granted = former.status().granted_ttl.unwrap_or(SHORT_TTL);
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    let mark = watching.seen.mark();
    let restarted = scene.registered(HERE, ATTR2).await?;
    watching.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    drop(former);
    let past_the_end = ground.expiry(granted) + PERIOD;
    watching.seen.stays_free_of(mark, "a delete", past_the_end, What::is_delete).await?;
    same("what was told", watching.seen.since(mark).len(), 1)?;
    same("the state", restarted.status().state, RegisterState::Registered)?;
    restarted.stop().await?;
    watching.seen.misses(HERE, AT_ONCE).await
}

/// However a `stop` and another one's `start` race, the record of the one that started is there.
pub async fn a_stop_never_removes_a_successors_record(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let mut earlier = scene.registered(HERE, ATTR).await?;
    for round in 0..10 {
        let attr = format!(r#"{{"round":"{round}"}}"#);
        let later = scene.register(HERE, &attr)?;
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

/// Several that start at once agree on one: one is registered, the others are superseded.
pub async fn of_many_starts_at_once_one_remains(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let mut all = Vec::new();
    for n in 0..5 {
        all.push(scene.register(HERE, &format!(r#"{{"n":"{n}"}}"#))?);
    }
    for outcome in futures_util::future::join_all(all.iter().map(|register| register.start())).await {
        // Who was overtaken before its own start was answered may say so.
        if let Err(error) = outcome {
            same("the kind of the error", error.kind(), ErrorKind::Superseded)?;
        }
    }
    let in_state = |wanted| all.iter().filter(|register| register.status().state == wanted).count();
    crate::wait::eventually(PERIOD + AT_ONCE, "one to remain", async || {
        in_state(RegisterState::Registered) == 1
    })
    .await?;
    let winner = all.iter().position(|register| register.status().state == RegisterState::Registered);
    let attr = winner.map(|n| format!(r#"{{"n":"{n}"}}"#));
    same("the registry's record", scene.read(HERE).await?, attr)?;
    for register in all {
        register.stop().await?;
    }
    same("the registry's record", scene.read(HERE).await?, None::<String>)
}

/// A record that the registry's tools made is taken over like any other; for who watches that is an
/// update. Where both are kept side by side, as in Consul, the other one is its owner's to remove.
pub async fn a_record_made_by_hand_is_taken_over(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    ground.tool_put(&scene.place(HERE), ATTR).await?;
    let watching = scene.watch().await?;
    let config = RegisterConfig { ttl: None, ..scene.registration(HERE, ATTR2) };
    let register = started(scene.make(config)?).await?;
    watching.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    ensure!(!watching.seen.since(0).iter().any(What::is_delete), "a delete: {:?}", watching.seen);
    register.stop().await?;
    ground.tool_delete(&scene.place(HERE)).await?;
    watching.seen.misses(HERE, AT_ONCE).await
}
