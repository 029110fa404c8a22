//! What an attr may be, and how it changes.

use anyhow::{Result, ensure};
use discox_core::{ErrorKind, RegisterConfig};

use super::{
    ground::Ground,
    recorder::{What, says},
    scene::{AT_ONCE, ATTR, ATTR2, Scene, fails, same, started},
};

const HERE: &str = "10.1.0.1:8111";

fn texts() -> Vec<(&'static str, String)> {
    vec![
        ("empty", String::new()),
        ("JSON", r#"{"weight":1,"zone":"a","nested":{"list":[1,2.5,null,true]},"":"no name"}"#.into()),
        ("no JSON object", "[1,2]".into()),
        ("broken JSON", r#"{"weight":"#.into()),
        ("white space and line ends", " \t\r\n a  b \n".into()),
        ("quotes and escapes", r#"\"quoted\" \u0000 %20 + &amp; ${x} {{ y }}"#.into()),
        ("control characters", "\u{0}\u{1}\u{7f}\u{85}".into()),
        ("any script", "grüße 你好 🦀 \u{10ffff} \u{feff} e\u{301}".into()),
        ("16 KiB of one byte each", "x".repeat(16 << 10)),
        ("16 KiB of four bytes each", "🦀".repeat(4 << 10)),
        ("16 KiB of three bytes each, which no power of two divides", "€".repeat((16 << 10) / 3)),
        ("16 KiB of JSON", format!(r#"{{"pad":"{}","weight":7}}"#, "é".repeat(8_000))),
    ]
}

/// Whatever text it is, it is discovered as it was registered.
pub async fn any_attr_arrives_byte_for_byte(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let watching = scene.watch().await?;
    let mut registers = Vec::new();
    for (port, (what, attr)) in texts().into_iter().enumerate() {
        let endpoint = format!("10.1.0.1:{}", port + 1);
        registers.push(started(registry.register(scene.registration(&endpoint, &attr))?).await?);
        let shown = ground.shown(&attr);
        watching.seen.shows(&endpoint, &shown, AT_ONCE).await.map_err(|error| error.context(what))?;
    }
    let later = scene.watch().await?.seen.endpoints();
    for (port, (what, attr)) in texts().into_iter().enumerate() {
        let endpoint = format!("10.1.0.1:{}", port + 1);
        let found = later.get(&endpoint).is_some_and(|found| says(found, &ground.shown(&attr)));
        ensure!(found, "{what}: {:?}", later.get(&endpoint));
    }
    Ok(())
}

/// Any text can be changed into any other.
pub async fn any_attr_can_become_any_other(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let register = scene.registered(HERE, ATTR).await?;
    for (what, attr) in texts() {
        register.update_attr(&attr).await.map_err(|error| anyhow::Error::from(error).context(what))?;
        let shown = ground.shown(&attr);
        watching.seen.shows(HERE, &shown, AT_ONCE).await.map_err(|error| error.context(what))?;
    }
    let deletes = watching.seen.since(0).into_iter().filter(What::is_delete).count();
    same("the number of deletes", deletes, 0)
}

/// An update is one event, an update, and the registry has it when the call returns.
pub async fn an_update_is_one_event_in_place(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    let watching = scene.watch().await?;
    let mark = watching.seen.mark();
    register.update_attr(ATTR2).await?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR2))?;
    watching.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    // What follows is seen after the update, so that nothing of it can be under way any more.
    let witness = scene.registered("10.1.0.9:1", ATTR).await?;
    watching.seen.shows("10.1.0.9:1", ATTR, AT_ONCE).await?;
    let told = watching.seen.since(mark);
    same("what was told of it", told.iter().filter(|what| what.is_about(HERE)).count(), 1)?;
    witness.stop().await?;
    Ok(register.stop().await?)
}

/// Writing what is there already is told to nobody.
pub async fn an_update_to_the_same_attr_is_no_event(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    let watching = scene.watch().await?;
    let mark = watching.seen.mark();
    register.update_attr(ATTR).await?;
    let witness = scene.registered("10.1.0.9:1", ATTR).await?;
    watching.seen.shows("10.1.0.9:1", ATTR, AT_ONCE).await?;
    let told = watching.seen.since(mark);
    same("what was told of it", told.iter().filter(|what| what.is_about(HERE)).count(), 0)?;
    witness.stop().await?;
    Ok(register.stop().await?)
}

/// Before `start` an update only sets what will be registered.
pub async fn an_update_before_start_is_what_is_registered(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let register = scene.register(HERE, ATTR)?;
    register.update_attr("not this either").await?;
    register.update_attr(ATTR2).await?;
    same("the registry's record before start", scene.read(HERE).await?, None::<String>)?;
    register.start().await?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR2))?;
    watching.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    let puts = watching.seen.since(0).into_iter().filter(|what| matches!(what, What::Put(..))).count();
    same("the number of puts", puts, 1)
}

/// Of many calls at once the one that was made last counts, in the registry and for who watches.
pub async fn the_last_update_wins(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let register = scene.registered(HERE, ATTR).await?;
    let last = r#"{"weight":"19"}"#;
    let calls = (0..20).map(|n| {
        let register = register.clone();
        async move { register.update_attr(&format!(r#"{{"weight":"{n}"}}"#)).await }
    });
    // They are polled in order, each up to where it has made its wish.
    for outcome in futures_util::future::join_all(calls).await {
        outcome?;
    }
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(last))?;
    watching.seen.shows(HERE, last, AT_ONCE).await?;
    let deletes = watching.seen.since(0).into_iter().filter(What::is_delete).count();
    same("the number of deletes", deletes, 0)
}

/// An attr that the backend cannot carry is rejected, and the one before it stays wanted.
pub async fn an_attr_that_is_too_long_is_rejected(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let too_long = "x".repeat(16 << 20);
    let made = scene.ground.makers().new_register;
    let rejected = made(RegisterConfig { attr: too_long.clone(), ..scene.registration(HERE, ATTR) });
    fails("new_register", rejected.map(|_| ()), ErrorKind::Config)?;
    let register = scene.register(HERE, ATTR)?;
    fails("update_attr before start", register.update_attr(&too_long).await, ErrorKind::Config)?;
    register.start().await?;
    fails("update_attr", register.update_attr(&too_long).await, ErrorKind::Config)?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR))?;
    Ok(register.stop().await?)
}

/// After `stop` there is nothing to update.
pub async fn an_update_after_stop_fails(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    register.stop().await?;
    fails("update_attr", register.update_attr(ATTR2).await, ErrorKind::Stopped)?;
    same("the registry's record", scene.read(HERE).await?, None::<String>)
}
