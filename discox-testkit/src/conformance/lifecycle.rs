//! Starting and stopping in every order, and what is left behind.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use discox_core::{DiscoverState, EndpointCacher, ErrorKind, LiteEndpoint, RegisterState};
use tokio::time::{Instant, timeout};

use super::{
    census::nothing_is_left,
    ground::{Data, Ground},
    recorder::{Recorder, What},
    scene::{AT_ONCE, ATTR, PERIOD, SHORT_TTL, Scene, TTL, Watching, fails, same, started},
};
use crate::wait::eventually;

const HERE: &str = "10.1.0.1:8111";

/// How long `start` and `stop` may take, whatever the registry does: 5 s, and what a busy machine adds.
const AT_MOST: Duration = Duration::from_secs(6);

/// A stopped registration stays stopped; a second start is an error and harms nothing.
pub async fn a_registration_starts_once_and_stops_for_good(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    fails("the second start", register.start().await, ErrorKind::AlreadyStarted)?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR))?;
    register.stop().await?;
    fails("start after stop", register.start().await, ErrorKind::Stopped)?;
    same("the registry's record", scene.read(HERE).await?, None::<String>)?;
    let never = scene.register(HERE, ATTR)?;
    never.stop().await?;
    fails("start after stop", never.start().await, ErrorKind::Stopped)
}

/// A stopped discovery stays stopped; a second start is an error and harms nothing.
pub async fn a_discovery_starts_once_and_stops_for_good(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let again: Arc<dyn EndpointCacher> = Arc::new(Recorder::default());
    fails("the second start", watching.discover.start(again.clone()).await, ErrorKind::AlreadyStarted)?;
    let register = scene.registered(HERE, ATTR).await?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    let discover = watching.discover.clone();
    watching.stop().await?;
    discover.stop().await;
    same("the state", discover.status().state, DiscoverState::Stopped)?;
    timeout(AT_ONCE, discover.start(again)).await.context("start after stop")??;
    let never = scene.discover()?;
    never.stop().await;
    let unused = Arc::new(Recorder::default());
    timeout(AT_ONCE, never.start(unused.clone())).await.context("start after stop")??;
    ensure!(!unused.since(0).iter().any(|what| !matches!(what, What::Ended)), "callbacks: {unused:?}");
    Ok(register.stop().await?)
}

/// However `start` and `stop` of a registration race, it is stopped in the end and its record is gone.
pub async fn a_registrations_stop_that_races_with_its_start_is_final(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    for round in 0..10 {
        let register = scene.register(HERE, ATTR)?;
        let (starting, stopping) = (register.clone(), register.clone());
        let (started, stopped) = tokio::join!(
            tokio::spawn(async move { starting.start().await }),
            tokio::spawn(async move {
                // From before the start to after it.
                tokio::time::sleep(Duration::from_millis(round)).await;
                stopping.stop().await
            })
        );
        if let Err(error) = started? {
            same("the kind of the error", error.kind(), ErrorKind::Stopped)?;
        }
        stopped??;
        same("the state", register.status().state, RegisterState::Stopped)?;
        // A write that was given up may be carried out after the withdrawal, and is withdrawn then.
        scene.reads(HERE, None, AT_ONCE).await?;
    }
    Ok(())
}

/// However `start` and `stop` of a discovery race, nothing is told after `stop` has returned.
pub async fn a_discoverys_stop_that_races_with_its_start_is_final(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    for round in 0..100 {
        let mut watching = Watching::start(scene.discover()?);
        let (discover, seen) = (watching.discover.clone(), watching.seen.clone());
        let stopping = tokio::spawn(async move {
            discover.stop().await;
            seen.mark()
        });
        let stopped = stopping.await?;
        watching.ended(AT_ONCE).await??;
        let told = watching.seen.since(stopped).len();
        ensure!(told == 0, "round {round}: {told} callbacks after stop: {:?}", watching.seen);
        same("the state", watching.discover.status().state, DiscoverState::Stopped)?;
    }
    Ok(())
}

/// Dropping the future of `Discover::start` equals `stop`.
pub async fn dropping_a_discoverys_start_equals_stop(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let mut watching = scene.watch().await?;
    watching.abort().await;
    timeout(AT_ONCE, watching.discover.stop()).await.context("stop")?;
    let log = watching.seen.since(0);
    ensure!(matches!(log.last(), Some(What::Ended)), "the last callback is not the end: {log:?}");
    same("the state", watching.discover.status().state, DiscoverState::Stopped)?;
    let register = scene.registered(HERE, ATTR).await?;
    let witness = scene.watch().await?;
    witness.seen.shows(HERE, ATTR, AT_ONCE).await?;
    same("the callbacks after it", watching.seen.since(log.len()).len(), 0)?;
    Ok(register.stop().await?)
}

/// `stop` during `start` ends it: the registry is down, so that `start` is still trying.
pub async fn stop_during_start_ends_it(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    ground.kill_server().await?;
    let register = scene.register(HERE, ATTR)?;
    let starting = tokio::spawn({
        let register = register.clone();
        async move { register.start().await }
    });
    eventually(AT_ONCE, "the start", async || register.status().state == RegisterState::Retrying).await?;
    let began = Instant::now();
    // Whether nothing could be removed is an error or not is left open.
    let _ = register.stop().await;
    ensure!(began.elapsed() < AT_MOST, "stop took {:?}", began.elapsed());
    fails("start", timeout(AT_ONCE, starting).await.context("start did not return")??, ErrorKind::Stopped)?;
    same("the state", register.status().state, RegisterState::Stopped)?;
    ground.start_server(Data::Kept).await?;
    let watching = scene.watch().await?;
    same("the first list", watching.seen.endpoints().len(), 0)
}

/// A start that is cancelled leaves nothing that outlives the TTL, wherever it was cancelled, and can
/// be repeated.
pub async fn a_cancelled_start_leaves_nothing_and_can_be_repeated(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    for polls in 1..=4 {
        let register = scene.make(scene.short_registration(HERE, ATTR))?;
        cancelled_after(polls, register.start()).await.transpose()?;
        drop(register);
    }
    scene.is_unlisted(HERE, ground.expiry(SHORT_TTL) + AT_ONCE).await?;
    let register = scene.register(HERE, ATTR)?;
    for polls in 1..=4 {
        if cancelled_after(polls, register.start()).await.transpose()?.is_some() {
            break;
        }
        same("the state after a cancelled start", register.status().state, RegisterState::New)?;
    }
    if register.status().state == RegisterState::New {
        register.start().await.context("the start after the cancelled ones")?;
    }
    scene.reads(HERE, Some(ATTR), AT_ONCE).await?;
    register.stop().await?;
    scene.is_unlisted(HERE, AT_ONCE).await
}

/// Drops a future after it was polled so many times, unless it was ready before.
async fn cancelled_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            left -= 1;
            if left == 0 { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}

/// Without a registry `start` fails in time and says why; it succeeds when the registry is there.
pub async fn start_fails_in_time_without_a_registry(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    ground.kill_server().await?;
    let register = scene.register(HERE, ATTR)?;
    let began = Instant::now();
    let Err(error) = register.start().await else { anyhow::bail!("start succeeded without a registry") };
    ensure!(began.elapsed() < AT_MOST, "start took {:?}", began.elapsed());
    let kinds = [ErrorKind::Unavailable, ErrorKind::TimedOut];
    ensure!(kinds.contains(&error.kind()), "the wrong kind: {error:?}");
    let text = error.to_string();
    ensure!(
        text.contains(&error.backend().map(|backend| backend.to_string()).unwrap_or("?".into())),
        "{text}"
    );
    for endpoint in ground.backend_endpoints() {
        let address = endpoint.rsplit('/').next().unwrap_or(&endpoint).to_owned();
        ensure!(text.contains(&address), "the error does not name {address}: {text}");
    }
    same("the state", register.status().state, RegisterState::New)?;
    ground.start_server(Data::Kept).await?;
    register.start().await.context("start again")?;
    same("the registry's record", scene.read(HERE).await?.as_deref(), Some(ATTR))?;
    Ok(register.stop().await?)
}

/// `ready` returns when discovery has ended without a list, and the cache says why.
pub async fn ready_returns_when_discovery_has_ended(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    ground.kill_server().await?;
    let endpoints = Arc::new(LiteEndpoint::new());
    let discover = scene.discover()?;
    let task = tokio::spawn({
        let (discover, endpoints) = (discover.clone(), endpoints.clone());
        async move { discover.start(endpoints).await }
    });
    eventually(2 * AT_MOST, "the first error", async || endpoints.last_error().is_some()).await?;
    let early = timeout(Duration::from_millis(200), endpoints.ready()).await;
    ensure!(early.is_err(), "ready returned before there was a list");
    discover.stop().await;
    timeout(AT_ONCE, endpoints.ready()).await.context("ready")?;
    ensure!(!endpoints.is_ready() && endpoints.last_error().is_some(), "{endpoints:?}");
    Ok(task.await??)
}

/// After `stop` of everything no task and no connection is left, though the handles still are.
pub async fn nothing_is_left_after_stop(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    let watching = scene.watch().await?;
    let registry = scene.connect()?;
    let shared = started(registry.register(scene.registration("10.1.0.2:1", ATTR))?).await?;
    let shared_watching = Watching::start(registry.discover(scene.discovery())?).synced().await?;
    ensure!(ground.connections()? > 0, "connections are not counted");
    let discover = watching.discover.clone();
    watching.stop().await?;
    shared_watching.stop().await?;
    register.stop().await?;
    shared.stop().await?;
    registry.close().await;
    nothing_is_left(ground, AT_ONCE).await?;
    drop((register, discover, shared, registry));
    Ok(())
}

/// After everything was dropped no task and no connection is left, and the registry forgets the
/// records by their TTL.
pub async fn nothing_is_left_after_drop(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let witness = scene.watch().await?;
    let register = started(scene.make(scene.short_registration(HERE, ATTR))?).await?;
    let granted = register.status().granted_ttl.unwrap_or(SHORT_TTL);
    let watching = scene.watch().await?;
    let registry = scene.connect()?;
    let shared = started(registry.register(scene.short_registration("10.1.0.2:1", ATTR))?).await?;
    let shared_watching = Watching::start(registry.discover(scene.discovery())?).synced().await?;
    witness.seen.lists(&[HERE, "10.1.0.2:1"], AT_ONCE).await?;
    drop((register, watching, registry, shared, shared_watching));
    witness.seen.lists(&[], ground.expiry(granted) + Duration::from_secs(1)).await?;
    witness.stop().await?;
    nothing_is_left(ground, AT_ONCE).await
}

/// On a shared connection that lives on, a handle that is dropped is withdrawn at once.
pub async fn a_dropped_handle_on_a_shared_connection_is_withdrawn(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let stays = started(registry.register(scene.registration("10.1.0.2:1", ATTR))?).await?;
    let dropped = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    let watching = scene.watch().await?;
    drop(dropped);
    watching.seen.misses(HERE, AT_ONCE.min(TTL / 2)).await?;
    watching.seen.lists(&["10.1.0.2:1"], Duration::ZERO).await?;
    let again = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    again.stop().await?;
    Ok(stays.stop().await?)
}

/// A handle that is dropped without `stop` is forgotten by its TTL at the latest.
pub async fn a_dropped_handle_is_forgotten_by_its_ttl(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let register = started(scene.make(scene.short_registration(HERE, ATTR))?).await?;
    let granted = register.status().granted_ttl.unwrap_or(SHORT_TTL);
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    drop(register);
    watching.seen.misses(HERE, ground.expiry(granted) + PERIOD).await?;
    scene.is_unlisted(HERE, Duration::ZERO).await
}

/// `stop` on a hung registry ends in time, with an error, and the record ends with its TTL.
pub async fn stop_ends_in_time_on_a_hung_registry(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = started(scene.make(scene.short_registration(HERE, ATTR))?).await?;
    ground.hang_server().await?;
    let began = Instant::now();
    let outcome = register.stop().await;
    ensure!(began.elapsed() < AT_MOST, "stop took {:?}", began.elapsed());
    ensure!(outcome.is_err(), "stop succeeded on a hung registry");
    ground.resume_server().await?;
    scene.is_unlisted(HERE, ground.expiry(SHORT_TTL) + AT_ONCE).await
}
