//! The names of the services that there are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use discox_core::{FreshnessState, ServiceChange, ServiceChanges};
use tokio::time::timeout;

use super::{
    ground::{Data, Ground, Place},
    scene::{AT_ONCE, ATTR, ATTR2, Scene, same, started},
};
use crate::wait::eventually;

const HERE: &str = "10.1.0.1:8111";

/// Consul looks at names that several prefixes have after a pause.
const SHARED_NAME: Duration = Duration::from_secs(20);

/// Waits for this change, whatever else changes: a registry may have services of its own.
async fn sees(changes: &mut ServiceChanges, wanted: &ServiceChange) -> Result<()> {
    let seen = timeout(AT_ONCE, async {
        while let Some(change) = changes.next().await {
            if change == *wanted {
                return true;
            }
        }
        false
    });
    ensure!(seen.await.with_context(|| format!("{wanted:?} did not come"))?, "the stream ended");
    Ok(())
}

fn added(scene: &Scene<'_>) -> ServiceChange {
    ServiceChange::Added(scene.service.as_str().into())
}

fn removed(scene: &Scene<'_>) -> ServiceChange {
    ServiceChange::Removed(scene.service.as_str().into())
}

/// A name is there as long as its service has a record, however that is written and removed.
pub async fn names_appear_and_vanish_with_their_records(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let (second, third) = (scene.other_service("-b"), scene.other_service("-c"));
    let registry = scene.connect()?;
    let first = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    let listed = registry.services(&scene.prefix).await?;
    ensure!(listed.contains(&scene.service), "{} is missing in {listed:?}", scene.service);
    ensure!(!listed.contains(&second.service), "{listed:?}");
    let services = registry.watch_services(&scene.prefix)?;
    let mut changes = services.changes();
    sees(&mut changes, &added(&scene)).await?;
    let one = second.registered("10.1.0.1:1", ATTR).await?;
    sees(&mut changes, &added(&second)).await?;
    let two = second.registered("10.1.0.1:2", ATTR).await?;
    two.update_attr(ATTR2).await?;
    one.stop().await?;
    third.ground.tool_put(&third.place(HERE), ATTR).await?;
    sees(&mut changes, &added(&third)).await?;
    ensure!(services.contains(&second.service), "gone with the first of its two records");
    two.stop().await?;
    sees(&mut changes, &removed(&second)).await?;
    ground.tool_delete(&third.place(HERE)).await?;
    sees(&mut changes, &removed(&third)).await?;
    first.stop().await?;
    sees(&mut changes, &removed(&scene)).await?;
    ensure!(
        !registry.services(&scene.prefix).await.is_ok_and(|names| names.contains(&scene.service)),
        "listed"
    );
    let again = scene.registered(HERE, ATTR).await?;
    sees(&mut changes, &added(&scene)).await?;
    services.stop().await;
    Ok(again.stop().await?)
}

/// Other prefixes' services are not ours: neither those of a prefix that begins like ours, nor what lies deeper, nor
/// what no discovery can read.
pub async fn names_of_other_prefixes_are_not_ours(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let beside = scene.other_service("-b").other_prefix(&format!("{}2", scene.prefix));
    let deeper = scene.other_service("-c").other_prefix(&format!("{}/deeper", scene.prefix));
    let unreadable = Place { endpoint: "no-endpoint".into(), ..scene.other_service("-d").place(HERE) };
    let registry = scene.connect()?;
    let mut registers = vec![
        beside.registered(HERE, ATTR).await?,
        deeper.registered(HERE, ATTR).await?,
        scene.registered(HERE, ATTR).await?,
    ];
    ground.tool_garbage(&unreadable).await?;
    let services = registry.watch_services(&scene.prefix)?;
    sees(&mut services.changes(), &added(&scene)).await?;
    for other in [&beside.service, &deeper.service, "deeper"] {
        ensure!(!services.contains(other), "{other} in {:?}", services.names());
    }
    if ground.backend() != discox_core::BackendType::Consul {
        same("the names", services.names(), vec![scene.service.clone()])?;
    }
    // The same name under both prefixes: each of them has it as long as it has a record.
    let here_too = Scene { prefix: scene.prefix.clone(), ..beside.other_prefix("") };
    registers.push(here_too.registered("10.1.0.1:7", ATTR).await?);
    eventually(SHARED_NAME, "the other's name to be ours", async || services.contains(&beside.service))
        .await?;
    registers.pop().context("no registration")?.stop().await?;
    eventually(SHARED_NAME, "the name to be the other's alone", async || !services.contains(&beside.service))
        .await?;
    let listed = registry.services(&beside.prefix).await?;
    ensure!(listed.contains(&beside.service), "the other has lost it: {listed:?}");
    for register in registers {
        register.stop().await?;
    }
    Ok(())
}

/// The names stay while the registry is away, and are followed again when it is back.
pub async fn names_survive_a_restart(ground: &dyn Ground) -> Result<()> {
    const BACK: Duration = Duration::from_secs(30);
    let scene = Scene::new(ground);
    let other = scene.other_service("-b");
    let registry = scene.connect()?;
    let register = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    let services = registry.watch_services(&scene.prefix)?;
    sees(&mut services.changes(), &added(&scene)).await?;
    ground.kill_server().await?;
    let stale = async || services.freshness().state == FreshnessState::Stale;
    eventually(BACK, "the loss to be told", stale).await?;
    ensure!(services.contains(&scene.service), "forgotten in the outage");
    ground.start_server(Data::Kept).await?;
    eventually(BACK, "the recovery", async || services.freshness().state == FreshnessState::Synced).await?;
    let late = started(registry.register(other.registration(HERE, ATTR))?).await?;
    eventually(BACK, "the new name", async || services.contains(&other.service)).await?;
    ensure!(services.contains(&scene.service), "forgotten behind the outage");
    late.stop().await?;
    register.stop().await?;
    Ok(())
}
