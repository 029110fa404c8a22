//! Registering and deregistering.

use std::time::Duration;

use anyhow::{Result, ensure};
use discox_core::RegisterState;

use super::{
    ground::Ground,
    recorder::{What, says},
    scene::{AT_ONCE, ATTR, ATTR2, PERIOD, SHORT_TTL, Scene, same, started},
};

const HERE: &str = "10.1.0.1:8111";

/// `start` returns when the record is there; who watches sees it, and who comes later lists it.
pub async fn registers_at_once_and_is_listed(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let register = scene.register(HERE, ATTR)?;
    same("the state before start", register.status().state, RegisterState::New)?;
    register.start().await?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR))?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    let later = scene.watch().await?;
    same("the first list", later.seen.endpoints().keys().collect::<Vec<_>>(), vec![HERE])?;
    let status = register.status();
    same("the state", status.state, RegisterState::Registered)?;
    ensure!(status.granted_ttl.is_some_and(|ttl| ttl >= PERIOD), "no TTL was granted: {status:?}");
    later.stop().await?;
    watching.stop().await?;
    Ok(register.stop().await?)
}

/// The order of the callbacks: what is there first, then that it is all.
pub async fn the_first_list_comes_before_synced(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let there = ["10.1.0.1:1", "10.1.0.1:2", "10.1.0.1:3"];
    let mut registers = Vec::new();
    for endpoint in there {
        registers.push(started(registry.register(scene.registration(endpoint, ATTR))?).await?);
    }
    let watching = scene.watch().await?;
    let log = watching.seen.since(0);
    let synced = log.iter().position(|what| matches!(what, What::Synced));
    same("the callbacks before Synced", synced, Some(there.len()))?;
    ensure!(log.iter().take(there.len()).all(|what| matches!(what, What::Put(..))), "not only puts: {log:?}");
    Ok(())
}

/// `stop` removes the record from the registry and from all who watch.
pub async fn deregisters_at_once(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    let watching = scene.watch().await?;
    register.stop().await?;
    same("the registry's record", scene.read(HERE).await?, None::<String>)?;
    watching.seen.misses(HERE, AT_ONCE).await?;
    same("the state", register.status().state, RegisterState::Stopped)
}

/// Stopping twice, one after the other and at once, is as good as stopping once.
pub async fn stop_is_idempotent(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    let (first, second) = tokio::join!(register.stop(), register.stop());
    first?;
    second?;
    register.stop().await?;
    same("the registry's record", scene.read(HERE).await?, None::<String>)
}

/// IPv4, IPv6, DNS names and two ports on one host are all instances of one service.
pub async fn several_endpoints_of_one_service(ground: &dyn Ground) -> Result<()> {
    const ALL: [&str; 5] =
        ["10.1.0.1:80", "10.1.0.1:81", "[2001:db8::1]:8080", "node-1.example.org:9000", "localhost:65535"];
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let mut registers = Vec::new();
    for endpoint in ALL {
        registers.push(scene.registered(endpoint, &format!(r#"{{"at":"{endpoint}"}}"#)).await?);
    }
    watching.seen.lists(&ALL, AT_ONCE).await?;
    for (endpoint, attr) in watching.seen.endpoints() {
        ensure!(says(&attr, &format!(r#"{{"at":"{endpoint}"}}"#)), "{endpoint} has {attr:?}");
    }
    let mark = watching.seen.mark();
    registers.remove(2).stop().await?;
    watching.seen.misses(ALL[2], AT_ONCE).await?;
    same("what was told of the others", watching.seen.since(mark).len(), 1)
}

/// A service sees its own records only: not those of a service whose name begins like its own, nor
/// those of the same service under another prefix.
pub async fn services_and_prefixes_do_not_mix(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let others = [
        scene.other_service("2"),
        scene.other_service("-a"),
        scene.other_prefix(&format!("{}2", scene.prefix)),
        scene.other_prefix(&format!("{}/deeper", scene.prefix)),
    ];
    let watching = scene.watch().await?;
    let mut registers = Vec::new();
    for (port, other) in others.iter().enumerate() {
        registers.push(other.registered(&format!("10.1.0.2:{}", port + 1), ATTR).await?);
    }
    registers.push(scene.registered(HERE, ATTR).await?);
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    watching.seen.lists(&[HERE], Duration::ZERO).await?;
    for (port, other) in others.iter().enumerate() {
        let watching = other.watch().await?;
        watching.seen.lists(&[&format!("10.1.0.2:{}", port + 1)], Duration::ZERO).await?;
    }
    let watching = scene.watch().await?;
    watching.seen.lists(&[HERE], Duration::ZERO).await
}

/// The same endpoint may be registered for two services.
pub async fn one_endpoint_can_serve_two_services(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let other = scene.other_service("-too");
    let first = scene.registered(HERE, ATTR).await?;
    let second = other.registered(HERE, ATTR2).await?;
    let (watching, watching_other) = (scene.watch().await?, other.watch().await?);
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    watching_other.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    first.stop().await?;
    watching.seen.misses(HERE, AT_ONCE).await?;
    same("the other's record", other.read(HERE).await?.as_deref(), Some(ATTR2))?;
    watching_other.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    Ok(second.stop().await?)
}

/// `a/b`, `/a/b/` and `//a//b` are one prefix.
pub async fn prefixes_are_normalised(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let bare = scene.other_prefix(scene.prefix.trim_start_matches('/'));
    let slashes = scene.other_prefix(&format!("{}//", scene.prefix.replace('/', "//")));
    let register = bare.registered(HERE, ATTR).await?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR))?;
    let watching = slashes.watch().await?;
    watching.seen.lists(&[HERE], AT_ONCE).await?;
    Ok(register.stop().await?)
}

/// Without a prefix a record is at `/{service}/{endpoint}`.
pub async fn the_prefix_may_be_empty(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground).other_prefix("");
    let register = scene.registered(HERE, ATTR).await?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR))?;
    let watching = scene.watch().await?;
    watching.seen.lists(&[HERE], AT_ONCE).await?;
    register.stop().await?;
    watching.seen.misses(HERE, AT_ONCE).await
}

/// A record outlives its TTL many times, and nobody is told anything.
pub async fn heart_beats_keep_a_record_alive(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let register = started(scene.make(scene.short_registration(HERE, ATTR))?).await?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    let mark = watching.seen.mark();
    let granted = register.status().granted_ttl.unwrap_or(SHORT_TTL);
    watching.seen.stays_free_of(mark, "any callback", 2 * ground.expiry(granted), |_| true).await?;
    let confirmed = register.status().last_confirmed;
    ensure!(confirmed.is_some_and(|at| at.elapsed() < 2 * PERIOD + AT_ONCE), "confirmed at {confirmed:?}");
    Ok(register.stop().await?)
}

/// The longest names that are allowed can be stored.
pub async fn long_names_are_stored(ground: &dyn Ground) -> Result<()> {
    let mut scene = Scene::new(ground);
    // Below the usual one, which is all that a user of least rights may write.
    scene.prefix += &format!("/{}", "p".repeat(24)).repeat(4);
    scene.service += &"s".repeat(60);
    let endpoint = format!("{}.example.org:65535", "h".repeat(63));
    let register = scene.registered(&endpoint, ATTR).await?;
    let watching = scene.watch().await?;
    watching.seen.lists(&[&endpoint], AT_ONCE).await?;
    Ok(register.stop().await?)
}
