//! What a cacher may rely on, and what it may do: callbacks and `stop`.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Waker},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use discox_core::{Discover, ErrorKind};
use tokio::time::timeout;

use super::{
    ground::Ground,
    recorder::{Recorder, What},
    scene::{AT_ONCE, ATTR, ATTR2, Scene, Watching, fails, same, started},
};

const HERE: &str = "10.1.0.1:8111";

/// After `stop` has returned nothing more is told, whatever happens in the registry.
pub async fn no_callback_follows_stop(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let witness = scene.watch().await?;
    let stopped = scene.watch().await?;
    let seen = stopped.seen.clone();
    let register = scene.registered(HERE, ATTR).await?;
    seen.shows(HERE, ATTR, AT_ONCE).await?;
    stopped.stop().await?;
    let log = seen.since(0);
    ensure!(matches!(log.last(), Some(What::Ended)), "the last callback is not the end: {seen:?}");
    register.update_attr(ATTR2).await?;
    witness.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    register.stop().await?;
    witness.seen.misses(HERE, AT_ONCE).await?;
    same("the callbacks after stop", seen.since(log.len()).len(), 0)
}

/// However `stop` races with changes, nothing is told after it.
pub async fn no_callback_follows_stop_under_changes(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    for round in 0..5 {
        let watching = scene.watch().await?;
        let seen = watching.seen.clone();
        let attr = format!(r#"{{"round":"{round}"}}"#);
        let (updated, stopped) = tokio::join!(register.update_attr(&attr), async {
            watching.discover.stop().await;
            seen.mark()
        });
        updated?;
        let told = seen.since(stopped).len();
        ensure!(told == 0, "round {round}: {told} callbacks after stop: {seen:?}");
        watching.stop().await?;
        same("the callbacks after stop", seen.since(stopped).len(), 0)?;
    }
    Ok(register.stop().await?)
}

/// `stop` waits for a callback that is running.
pub async fn stop_waits_for_a_running_callback(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let (gate, hook, left) = gate_at(HERE);
    let watching = Watching::into(scene.discover()?, Recorder::with_hook(hook)).synced().await?;
    let register = scene.registered(HERE, ATTR).await?;
    watching.seen.shows(HERE, ATTR, AT_ONCE).await?;
    let stopping = tokio::spawn({
        let discover = watching.discover.clone();
        async move { discover.stop().await }
    });
    let early = timeout(Duration::from_millis(500), async {
        while !stopping.is_finished() {
            tokio::task::yield_now().await
        }
    });
    ensure!(early.await.is_err(), "stop returned while a callback was running");
    ensure!(!left.load(Ordering::SeqCst), "the callback was left before it was let go");
    drop(gate);
    timeout(AT_ONCE, stopping).await.context("stop did not return")??;
    ensure!(left.load(Ordering::SeqCst), "stop returned before the callback had");
    watching.stop().await?;
    Ok(register.stop().await?)
}

/// Called from inside a callback, `stop` only signals, and the discovery ends.
pub async fn stop_inside_a_callback_only_signals(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let handle: Arc<OnceLock<Arc<dyn Discover>>> = Arc::default();
    let inside = handle.clone();
    let at_once = Arc::new(AtomicBool::new(false));
    let returned = at_once.clone();
    let hook = move |what: &What| {
        if let (What::Put(..), Some(discover)) = (what, inside.get()) {
            let polled = pin!(discover.stop()).poll(&mut Context::from_waker(Waker::noop()));
            returned.store(polled.is_ready(), Ordering::SeqCst);
        }
    };
    let discover = scene.discover()?;
    handle.set(discover.clone()).map_err(|_| anyhow::anyhow!("set twice"))?;
    let mut watching = Watching::into(discover, Recorder::with_hook(hook)).synced().await?;
    let register = scene.registered(HERE, ATTR).await?;
    watching.ended(AT_ONCE).await??;
    ensure!(at_once.load(Ordering::SeqCst), "stop waited for its own callback");
    let log = watching.seen.since(0);
    ensure!(matches!(log[..], [What::Synced, What::Put(..), What::Ended]), "{:?}", watching.seen);
    Ok(register.stop().await?)
}

/// `update_attr` and `stop` of a registration may be called by a task that a callback starts.
pub async fn a_callback_may_start_tasks_that_register(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let register = scene.registered(HERE, ATTR).await?;
    let answered = Arc::new(Mutex::new(Some(register.clone())));
    let runtime = tokio::runtime::Handle::current();
    let hook = move |what: &What| {
        let register = answered.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (What::Put(..), Some(register)) = (what, register) {
            runtime.spawn(async move { register.update_attr(ATTR2).await });
        }
    };
    let watching = Watching::into(scene.discover()?, Recorder::with_hook(hook)).synced().await?;
    watching.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    Ok(register.stop().await?)
}

/// A cacher that panics ends its own discovery, with an error, and nobody else's.
pub async fn a_panicking_cacher_harms_nobody_else(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let hook = |what: &What| {
        if matches!(what, What::Put(..)) {
            #[allow(clippy::panic, reason = "a cacher that panics is what is tested")]
            std::panic::panic_any("this panic is part of the test");
        }
    };
    let panicking = registry.discover(scene.discovery())?;
    let mut panicking = Watching::into(panicking, Recorder::with_hook(hook)).synced().await?;
    let healthy = Watching::start(registry.discover(scene.discovery())?).synced().await?;
    let register = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    fails("start", panicking.ended(AT_ONCE).await?, ErrorKind::CacherPanicked)?;
    healthy.seen.shows(HERE, ATTR, AT_ONCE).await?;
    register.update_attr(ATTR2).await?;
    healthy.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    let log = panicking.seen.since(0);
    ensure!(!log.iter().any(|what| matches!(what, What::Ended)), "called after it had panicked: {log:?}");
    healthy.stop().await?;
    Ok(register.stop().await?)
}

/// A cacher that takes its time holds up nobody else.
pub async fn a_slow_cacher_harms_nobody_else(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let registry = scene.connect()?;
    let (gate, hook, left) = gate_at(HERE);
    let slow =
        Watching::into(registry.discover(scene.discovery())?, Recorder::with_hook(hook)).synced().await?;
    let quick = Watching::start(registry.discover(scene.discovery())?).synced().await?;
    let register = started(registry.register(scene.registration(HERE, ATTR))?).await?;
    slow.seen.shows(HERE, ATTR, AT_ONCE).await?;
    register.update_attr(ATTR2).await?;
    quick.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    let other = started(registry.register(scene.registration("10.1.0.2:1", ATTR))?).await?;
    quick.seen.shows("10.1.0.2:1", ATTR, AT_ONCE).await?;
    ensure!(!left.load(Ordering::SeqCst), "the slow callback was not slow");
    drop(gate);
    slow.seen.shows(HERE, ATTR2, AT_ONCE).await?;
    slow.seen.shows("10.1.0.2:1", ATTR, AT_ONCE).await?;
    other.stop().await?;
    Ok(register.stop().await?)
}

/// A hook that blocks in the first callback that puts `endpoint` until the gate is dropped, and tells
/// when it has left.
fn gate_at(endpoint: &'static str) -> (mpsc::Sender<()>, impl Fn(&What) + Send + Sync, Arc<AtomicBool>) {
    let (gate, closed) = mpsc::channel::<()>();
    let closed = Mutex::new(Some(closed));
    let left = Arc::new(AtomicBool::new(false));
    let leaving = left.clone();
    let hook = move |what: &What| {
        if matches!(what, What::Put(..)) && what.is_about(endpoint) {
            let first = closed.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(closed) = first {
                let _ = closed.recv();
                leaving.store(true, Ordering::SeqCst);
            }
        }
    };
    (gate, hook, left)
}
