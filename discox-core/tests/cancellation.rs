//! Every public future, dropped at every await that it has, on the simulated registry in virtual time. Afterwards:
//! nothing is left that outlives the TTL, nothing is removed that lives, a second call has the right outcome, and what is
//! said is true. The same for runtimes that end, client crates that panic, and callbacks that block.

#![allow(clippy::panic, clippy::unwrap_used)]

mod fixtures;
mod recorder;
mod sim;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use discox_core::{Connection, DiscoverState, ErrorKind, LiteEndpoint, Register, RegisterState, Registry};
use fixtures::{
    KEY, SECOND, attr_of, connection, discover_config, numbered, records, register_config, run, until,
};
use recorder::Recorder;
use sim::{Net, SESSION, SimLink, World};
use tokio::time::{Instant, sleep, timeout};

/// From when on a connection that serves one registration may have no time left to withdraw it: it ends 4.5 s after
/// `stop`, and pauses for up to 1 s between two attempts to connect.
const GIVEN_UP: Duration = Duration::from_secs(3);

/// Where a future is dropped.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// After it was polled so many times.
    Polls(u32),
    /// After so much time.
    After(Duration),
}

impl Cut {
    /// All that matter: each poll in turn, and moments spread over what requests and their answers take.
    fn all() -> impl Iterator<Item = Self> {
        let polls = (1..=12).map(Self::Polls);
        polls.chain((0..25).map(|step| Self::After(Duration::from_micros(600 * step))))
    }

    /// Runs a future up to here. None if it was dropped.
    async fn of<T>(self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        match self {
            Self::After(limit) => timeout(limit, future).await.ok(),
            Self::Polls(mut left) => {
                let polling = poll_fn(|context| match future.as_mut().poll(context) {
                    Poll::Ready(output) => Poll::Ready(Some(output)),
                    Poll::Pending => {
                        left = left.saturating_sub(1);
                        if left == 0 { Poll::Ready(None) } else { Poll::Pending }
                    }
                });
                // Nothing that is bounded takes longer; what is not may have no further poll.
                timeout(6 * SECOND, polling).await.ok().flatten()
            }
        }
    }
}

/// What the network does while a call is cut.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Fine,
    /// Requests are carried out, and half of the answers are lost.
    Lossy,
    /// Nothing is answered for a second.
    Hung,
    /// The connection is lost for a second.
    Dead,
}

const WEATHERS: [Weather; 4] = [Weather::Fine, Weather::Lossy, Weather::Hung, Weather::Dead];

impl Weather {
    fn begin(self, world: &World) {
        match self {
            Self::Fine => {}
            Self::Lossy => world.lose_answers(0.5),
            Self::Hung => world.net(Net::Hung),
            Self::Dead => world.net(Net::Dead),
        }
    }

    async fn end(self, world: &World) {
        if !matches!(self, Self::Fine) {
            sleep(SECOND).await;
            world.lose_answers(0.0);
            world.net(Net::Fine);
        }
    }
}

/// A world, a connection that lives on with a neighbour on it, and a registration over that or over its own one.
struct Scene {
    world: Arc<World>,
    shared: Connection<SimLink>,
    neighbour: Arc<dyn Register>,
    register: Arc<dyn Register>,
    what: String,
}

impl Scene {
    async fn new(is_shared: bool, cut: Cut, weather: Weather) -> Self {
        let world = World::start();
        let shared = connection(&world);
        let neighbour = shared.register(numbered(1).0).unwrap();
        neighbour.start().await.unwrap();
        let register = if is_shared {
            shared.register(register_config("a")).unwrap()
        } else {
            connection(&world).single_register(&register_config("a")).unwrap()
        };
        let what = format!("{cut:?}, {weather:?}, shared {is_shared}");
        Self { world, shared, neighbour, register, what }
    }

    fn is_there(&self) -> bool {
        self.world.attr_at(KEY).is_some()
    }

    fn state(&self) -> RegisterState {
        self.register.status().state
    }

    async fn becomes_gone(&self) {
        until(&format!("{}: the end of the record", self.what), || !self.is_there()).await;
    }

    /// Whatever was done, the neighbour is as it was, and nothing comes back or goes.
    async fn stays(&self, expected: Option<&str>) {
        let what = &self.what;
        until(&format!("{what}: recovery"), || self.neighbour.status().state == RegisterState::Registered)
            .await;
        if expected.is_some() {
            until(&format!("{what}: its state"), || self.state() == RegisterState::Registered).await;
            until(&format!("{what}: its attr"), || self.world.attr_at(KEY).as_deref() == expected).await;
        }
        for _ in 0..10 {
            sleep(SESSION / 4).await;
            assert_eq!(self.world.attr_at(KEY).as_deref(), expected, "{what}");
            assert!(self.world.attr_at(&numbered(1).1).is_some(), "{what}: the neighbour lives");
            let is_registered = self.state() == RegisterState::Registered;
            assert_eq!(is_registered, expected.is_some(), "{what}: {:?}", self.register.status());
        }
    }

    /// Nothing is left after the end of all.
    async fn end(self) {
        self.neighbour.stop().await.unwrap();
        self.shared.close().await;
        drop(self.register);
        sleep(SESSION * 2).await;
        assert_eq!((records(&self.world), self.world.sessions()), (0, 0), "{}", self.what);
    }
}

fn all() -> impl Iterator<Item = (bool, Cut, Weather)> {
    [true, false].into_iter().flat_map(|is_shared| {
        Cut::all().flat_map(move |cut| WEATHERS.map(|weather| (is_shared, cut, weather)))
    })
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_dropped_leaves_nothing_and_can_be_repeated() {
    for (is_shared, cut, weather) in all() {
        let scene = Scene::new(is_shared, cut, weather).await;
        weather.begin(&scene.world);
        let outcome = cut.of(scene.register.start()).await;
        let is_started = outcome.is_some_and(|outcome| outcome.is_ok());
        assert_eq!(scene.state() == RegisterState::New, !is_started, "{}", scene.what);
        weather.end(&scene.world).await;
        if !is_started {
            scene.becomes_gone().await;
            scene.stays(None).await;
            scene.register.start().await.unwrap();
        }
        assert_eq!(scene.register.start().await.unwrap_err().kind(), ErrorKind::AlreadyStarted);
        scene.stays(Some("a")).await;
        scene.register.stop().await.unwrap();
        assert!(!scene.is_there(), "{}", scene.what);
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_dropped_can_be_repeated_or_stopped_at_once() {
    for (is_shared, cut, weather) in all() {
        let scene = Scene::new(is_shared, cut, weather).await;
        weather.begin(&scene.world);
        let first = cut.of(scene.register.start()).await;
        if first.is_none() && is_shared {
            // On the way out of the first one.
            let second = cut.of(scene.register.start()).await;
            assert!(second.is_none_or(|second| second.is_ok() || !matches!(weather, Weather::Fine)));
        }
        let stopped = scene.register.stop().await;
        if stopped.is_ok() {
            assert!(!scene.is_there(), "{}: stop said that it is gone", scene.what);
        }
        weather.end(&scene.world).await;
        scene.becomes_gone().await;
        scene.stays(None).await;
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_that_is_dropped_is_made_or_not_and_can_be_repeated() {
    for (is_shared, cut, weather) in all() {
        let scene = Scene::new(is_shared, cut, weather).await;
        scene.register.start().await.unwrap();
        weather.begin(&scene.world);
        cut.of(scene.register.update_attr("b")).await;
        assert!(scene.is_there(), "{}", scene.what);
        weather.end(&scene.world).await;
        scene.stays(Some("b")).await;
        scene.register.update_attr("c").await.unwrap();
        scene.stays(Some("c")).await;
        scene.register.stop().await.unwrap();
        assert!(!scene.is_there(), "{}", scene.what);
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_dropped_happens_and_every_call_has_the_one_outcome() {
    for (is_shared, cut, weather) in all() {
        let scene = Scene::new(is_shared, cut, weather).await;
        scene.register.start().await.unwrap();
        weather.begin(&scene.world);
        let began = Instant::now();
        let first = cut.of(scene.register.stop()).await;
        assert_eq!(scene.state(), RegisterState::Stopped);
        if matches!(first, Some(Ok(()))) {
            assert!(!scene.is_there(), "{}: stop said that it is gone", scene.what);
        }
        weather.end(&scene.world).await;
        let may_be_given_up = !is_shared && began.elapsed() >= GIVEN_UP;
        let (second, third) = tokio::join!(scene.register.stop(), scene.register.stop());
        assert_eq!(second.is_ok(), third.is_ok(), "{}: one outcome", scene.what);
        if may_be_given_up && second.is_err() {
            // Its connection has ended with that, and the TTL does the rest.
            scene.becomes_gone().await;
        } else {
            assert!(!scene.is_there(), "{}: {second:?}", scene.what);
            second.unwrap();
            third.unwrap();
        }
        assert_eq!(scene.register.start().await.unwrap_err().kind(), ErrorKind::Stopped);
        scene.stays(None).await;
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_dropped_and_never_called_again_happens() {
    for (is_shared, cut, weather) in all() {
        let scene = Scene::new(is_shared, cut, weather).await;
        scene.register.start().await.unwrap();
        weather.begin(&scene.world);
        let began = Instant::now();
        cut.of(scene.register.stop()).await;
        weather.end(&scene.world).await;
        let is_given_up = !is_shared && began.elapsed() >= GIVEN_UP;
        let within = if is_given_up { SESSION + SECOND } else { 2 * SECOND };
        assert!(until("the end of the record", || !scene.is_there()).await <= within, "{}", scene.what);
        scene.stays(None).await;
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_dropped_is_withdrawn_at_once() {
    for is_shared in [true, false] {
        let mut scene = Scene::new(is_shared, Cut::Polls(0), Weather::Fine).await;
        scene.register.start().await.unwrap();
        let other = scene.shared.register(numbered(2).0).unwrap();
        drop(std::mem::replace(&mut scene.register, other));
        let took = until("the withdrawal", || !scene.is_there()).await;
        assert!(took <= SECOND / 10, "{took:?}, shared {is_shared}");
        scene.stays(None).await;
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_changes_nothing() {
    for (is_shared, cut, weather) in all() {
        let scene = Scene::new(is_shared, cut, weather).await;
        let wait = |state| cut.of(scene.register.wait_for(state));
        assert!(wait(RegisterState::Registered).await.is_none());
        scene.register.start().await.unwrap();
        assert_eq!(scene.register.wait_for(RegisterState::Registered).await.unwrap().attempts, 0);
        weather.begin(&scene.world);
        wait(RegisterState::Superseded).await;
        weather.end(&scene.world).await;
        scene.stays(Some("a")).await;
        let (waited, stopped) =
            tokio::join!(scene.register.wait_for(RegisterState::Stopped), scene.register.stop());
        stopped.unwrap();
        assert_eq!(waited.unwrap().state, RegisterState::Stopped);
        let error = scene.register.wait_for(RegisterState::Registered).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped);
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn run_until_withdraws_at_its_signal_or_when_it_is_dropped_whenever_that_is() {
    for (is_shared, cut, weather) in all() {
        for is_signalled in [true, false] {
            let scene = Scene::new(is_shared, cut, weather).await;
            weather.begin(&scene.world);
            let mut within = 2 * SECOND;
            if is_signalled {
                let Cut::After(after) = cut else { continue };
                let ended = scene.register.run_until(sleep(after)).await;
                if ended.is_err() && !is_shared {
                    within = SESSION + SECOND;
                }
                assert!(ended.is_err() || !scene.is_there(), "{}: {ended:?}", scene.what);
            } else {
                assert!(cut.of(scene.register.run_until(std::future::pending())).await.is_none());
            }
            weather.end(&scene.world).await;
            assert!(until("the end of the record", || !scene.is_there()).await <= within, "{}", scene.what);
            assert_eq!(scene.register.start().await.unwrap_err().kind(), ErrorKind::Stopped);
            scene.stays(None).await;
            scene.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn run_until_waits_for_a_registry_and_ends_where_it_is_refused_for_good() {
    let world = World::start();
    world.net(Net::Dead);
    let register = connection(&world).single_register(&register_config("a")).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn({
        let register = register.clone();
        async move { register.run_until(async { drop(stopped.await) }).await }
    });
    sleep(60 * SECOND).await;
    world.net(Net::Fine);
    until("the record", || attr_of(&world).is_some()).await;
    // A denial that comes later is retried.
    world.deny(KEY, true);
    sleep(60 * SECOND).await;
    world.deny(KEY, false);
    until("the record", || register.status().state == RegisterState::Registered).await;
    drop(stop);
    running.await.unwrap().unwrap();
    assert_eq!(attr_of(&world), None);
    world.net(Net::Closed);
    let refused = connection(&world).single_register(&register_config("a")).unwrap();
    let error = refused.run_until(std::future::pending()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_dropped_happens() {
    for (_, cut, weather) in all().filter(|(is_shared, ..)| *is_shared) {
        let world = World::start();
        let shared = connection(&world);
        let register = shared.register(register_config("a")).unwrap();
        register.start().await.unwrap();
        let (discover, recorder) =
            (shared.discover(discover_config()).unwrap(), Arc::new(Recorder::default()));
        let watching = run(&discover, recorder.clone());
        until("the first list", || discover.status().state == DiscoverState::Synced).await;
        weather.begin(&world);
        cut.of(shared.close()).await;
        weather.end(&world).await;
        let what = format!("{cut:?}, {weather:?}");
        assert_eq!(shared.trouble().unwrap().kind(), ErrorKind::Stopped);
        assert_eq!(timeout(SECOND, watching).await.unwrap().unwrap().unwrap_err().kind(), ErrorKind::Stopped);
        let began = Instant::now();
        shared.close().await;
        assert!(began.elapsed() <= 5 * SECOND, "{what}");
        assert_eq!(register.status().state, RegisterState::Stopped, "{what}");
        match register.stop().await {
            Ok(()) => assert_eq!(attr_of(&world), None, "{what}: stop said that it is gone"),
            Err(error) => assert!(!matches!(weather, Weather::Fine), "{what}: {error}"),
        }
        assert_eq!(register.start().await.unwrap_err().kind(), ErrorKind::Stopped);
        let late = shared.register(numbered(7).0).unwrap();
        let began = Instant::now();
        assert_eq!(late.start().await.unwrap_err().kind(), ErrorKind::Stopped);
        assert_eq!(began.elapsed(), Duration::ZERO, "known at once");
        sleep(2 * SESSION).await;
        assert_eq!((records(&world), world.sessions()), (0, 0), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_discovery_that_is_dropped_has_ended_and_its_cache_says_so() {
    for (is_shared, cut, weather) in all() {
        let scene = Scene::new(is_shared, cut, weather).await;
        let discover = if is_shared {
            scene.shared.discover(discover_config()).unwrap()
        } else {
            connection(&scene.world).single_discover(&discover_config()).unwrap()
        };
        weather.begin(&scene.world);
        let recorder = Arc::new(Recorder::default());
        assert!(cut.of(discover.start(recorder.clone())).await.is_none());
        recorder.close();
        timeout(SECOND, discover.stop()).await.unwrap();
        assert_eq!(discover.status().state, DiscoverState::Stopped);
        discover.start(Arc::new(Recorder::default())).await.unwrap();
        weather.end(&scene.world).await;
        scene.stays(None).await;
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_discoverys_stop_that_is_dropped_happens() {
    for (is_shared, cut, weather) in all() {
        let scene = Scene::new(is_shared, cut, weather).await;
        let discover = if is_shared {
            scene.shared.discover(discover_config()).unwrap()
        } else {
            connection(&scene.world).single_discover(&discover_config()).unwrap()
        };
        let recorder = Arc::new(Recorder::default());
        let watching = run(&discover, recorder.clone());
        until("the first list", || discover.status().state == DiscoverState::Synced).await;
        weather.begin(&scene.world);
        cut.of(discover.stop()).await;
        timeout(2 * SECOND, watching).await.unwrap().unwrap().unwrap();
        recorder.close();
        timeout(SECOND, discover.stop()).await.unwrap();
        weather.end(&scene.world).await;
        scene.stays(None).await;
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_cache_that_is_dropped_loses_nothing() {
    for cut in Cut::all() {
        let world = World::start();
        let cache = Arc::new(LiteEndpoint::new());
        let discover = connection(&world).single_discover(&discover_config()).unwrap();
        let watching = run(&discover, cache.clone());
        cut.of(cache.ready()).await;
        cache.ready().await;
        assert!(cache.is_ready());
        let mut changes = cache.changes();
        world.put_by_hand(KEY, "a");
        cut.of(changes.next()).await;
        until("the change", || cache.list() == ["10.0.0.1:8000"]).await;
        world.delete_by_hand(KEY);
        while !cache.is_empty() {
            timeout(SECOND, changes.next()).await.unwrap();
        }
        discover.stop().await;
        watching.await.unwrap().unwrap();
    }
}
