//! One process that has registered and watches thousands, on one connection, through an outage.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use discox_core::{DiscoverConfig, DiscoverState, RegisterConfig, RegisterState};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};

use super::{
    leaks::resident,
    stage::{Live, Stage, Via},
    watcher::Watcher,
};
use crate::wait::eventually;

/// Services with one endpoint each: all are registered and all are watched.
const SERVICES: usize = 2_000;

/// Starts under way at once.
const STARTS: usize = 64;

/// Until thousands have started, on a machine that does other things too.
const GATHERED: Duration = Duration::from_secs(180);

/// All registrations are back within this of the registry's return.
const REGISTERED: Duration = Duration::from_secs(10);

/// All watchers have read their list anew within this of it.
const SYNCED: Duration = Duration::from_secs(30);

/// Nobody is lost. Whether registrations are back before the last watcher is, is noted.
pub(crate) async fn two_thousand_services_through_an_outage(stage: &mut Stage) -> Result<()> {
    let before = resident()?;
    let registry = stage.connect(Via::Doors)?;
    let mut fleet = Vec::new();
    let mut watchers = Vec::new();
    for i in 0..SERVICES {
        let service_name = format!("{}-{i}", stage.service);
        let endpoint = format!("10.2.{}.{}:8000", i / 250, i % 250);
        let config = stage.register_config(&endpoint, "one of thousands", Via::Doors);
        let register = registry.register(RegisterConfig { service_name: service_name.clone(), ..config })?;
        fleet.push(Live { endpoint, register });
        let config = stage.discovery(stage.settings.grace, Via::Doors);
        watchers
            .push(Watcher::start("thousands", registry.discover(DiscoverConfig { service_name, ..config })?));
    }
    let began = Instant::now();
    started(&fleet).await?;
    eventually(GATHERED, "all watchers", async || shown(&watchers) == SERVICES).await?;
    note(stage, "gathered_ms", began.elapsed());
    stage.notes.count("memory_kib", resident()?.saturating_sub(before));

    let door = stage.doors.first().context("no proxy")?;
    door.refuse().await;
    door.reset_all();
    let gone = Instant::now();
    // Beyond the TTL: every record has to be written again.
    sleep(stage.settings.ttl + Duration::from_secs(2)).await;
    let lost = watchers.iter().filter(|one| one.discover.status().state == DiscoverState::Lost).count();
    ensure!(lost == SERVICES, "only {lost} watchers have noticed");
    let sent = door.sent();
    door.accept().await;
    let back = Instant::now();

    let registered_first = AtomicBool::new(false);
    let registrations = async {
        let registered = || fleet.iter().filter(|live| confirmed(live, gone)).count();
        let all = eventually(REGISTERED * 3, "all registrations", async || registered() == SERVICES).await;
        all.with_context(|| format!("{} are registered", registered()))?;
        registered_first.store(synced(&watchers, gone) < SERVICES, Relaxed);
        stage.notes.took("registrations", back.elapsed(), REGISTERED)
    };
    let lists = async {
        let all = eventually(SYNCED * 3, "all lists", async || synced(&watchers, gone) == SERVICES).await;
        all.with_context(|| format!("{} are synced", synced(&watchers, gone)))?;
        stage.notes.took("lists", back.elapsed(), SYNCED)
    };
    tokio::try_join!(registrations, lists)?;
    stage.notes.count("registered_first", registered_first.load(Relaxed));
    stage.notes.count("bytes_sent_to_come_back", door.sent() - sent);
    stage.notes.count("memory_afterwards_kib", resident()?.saturating_sub(before));

    let settled = eventually(stage.settings.grace * 3, "the end of the grace", async || {
        watchers.iter().all(Watcher::is_settled)
    });
    settled.await?;
    let removals =
        watchers.iter().filter(|one| one.seen.log().iter().any(|seen| seen.what.is_delete())).count();
    stage.notes.count("live_removals", removals);
    ensure!(removals == 0, "{removals} watchers have lost a live endpoint");
    leave(fleet, watchers).await?;
    registry.close().await;
    Ok(())
}

async fn started(fleet: &[Live]) -> Result<()> {
    let starts = fleet.iter().map(|live| async move {
        let start = eventually(GATHERED, "a start", async || live.register.start().await.ok()).await;
        start.with_context(|| format!("{}: {:?}", live.endpoint, live.register.status()))
    });
    stream::iter(starts).buffer_unordered(STARTS).try_collect().await
}

async fn leave(fleet: Vec<Live>, watchers: Vec<Watcher>) -> Result<()> {
    let stops = fleet.iter().map(|live| live.register.stop());
    let stopped: Vec<_> = stream::iter(stops).buffer_unordered(STARTS).collect().await;
    stopped.into_iter().collect::<discox_core::Result<()>>().context("stop")?;
    let stops = watchers.into_iter().map(Watcher::stop);
    stream::iter(stops).buffer_unordered(STARTS).try_collect().await
}

/// How many watchers show their endpoint.
fn shown(watchers: &[Watcher]) -> usize {
    watchers.iter().filter(|one| one.cache.snapshot().len() == 1).count()
}

/// How many watchers have read their list after that.
fn synced(watchers: &[Watcher], since: Instant) -> usize {
    let synced = watchers.iter().map(|one| one.discover.status()).filter(|status| {
        status.state == DiscoverState::Synced
            && status.last_confirmed.is_some_and(|confirmed| confirmed > since.into_std())
    });
    synced.count()
}

fn confirmed(live: &Live, since: Instant) -> bool {
    let status = live.register.status();
    status.state == RegisterState::Registered
        && status.last_confirmed.is_some_and(|confirmed| confirmed > since.into_std())
}

fn note(stage: &Stage, name: &str, time: Duration) {
    stage.notes.count(name, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
}
