//! A network without sockets: servers that accept, refuse or hang, and connections that can be cut.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use discox_balance::{Balanced, Connect, Connected, Connection, Options, Target};
use discox_core::{EndpointCacher, Event, LiteEndpoint, Update};
use futures_util::{Stream, stream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Server {
    #[default]
    Accepts,
    Refuses,
    Hangs,
}

/// What an endpoint says of itself; nothing yet.
pub type Word = Option<Result<(), String>>;

/// Each word, as it comes.
fn words(health: watch::Receiver<Word>) -> impl Stream<Item = Result<(), String>> {
    stream::unfold((health, true), |(mut health, is_first)| async move {
        if !is_first {
            health.changed().await.ok()?;
        }
        let said = health.wait_for(Option::is_some).await.ok()?.clone()?;
        Some((said, (health, false)))
    })
}

#[derive(Clone, Default)]
pub struct World(Arc<Inner>);

#[derive(Default)]
struct Inner {
    servers: Mutex<HashMap<String, Server>>,
    lines: Mutex<Vec<(String, Arc<Line>)>>,
    dials: Mutex<HashMap<String, usize>>,
    health: Mutex<HashMap<String, watch::Sender<Word>>>,
    dialing: AtomicUsize,
    most_dialing: AtomicUsize,
    live: AtomicUsize,
}

pub struct Line {
    is_open: watch::Sender<bool>,
    pub was_cut: AtomicBool,
}

/// One connection. Counted until it is dropped.
pub struct Wire {
    line: Arc<Line>,
    world: World,
}

impl World {
    pub fn set(&self, endpoint: &str, server: Server) {
        self.0.servers.lock().unwrap().insert(endpoint.into(), server);
    }

    /// From now on the endpoint is watched, and says this.
    pub fn says(&self, endpoint: &str, word: Word) {
        self.0.health.lock().unwrap().entry(endpoint.into()).or_default().send_replace(word);
    }

    /// Ends the connections to an endpoint, as its server's end does.
    pub fn cut(&self, endpoint: &str) {
        let lines = self.0.lines.lock().unwrap();
        for (_, line) in lines.iter().filter(|(of, _)| of == endpoint) {
            line.is_open.send_replace(false);
        }
    }

    pub fn dials(&self, endpoint: &str) -> usize {
        self.0.dials.lock().unwrap().get(endpoint).copied().unwrap_or(0)
    }

    pub fn all_dials(&self) -> usize {
        self.0.dials.lock().unwrap().values().sum()
    }

    pub fn most_dialing(&self) -> usize {
        self.0.most_dialing.load(SeqCst)
    }

    pub fn live(&self) -> usize {
        self.0.live.load(SeqCst)
    }

    pub fn was_cut_by_us(&self, endpoint: &str) -> bool {
        let lines = self.0.lines.lock().unwrap();
        lines.iter().any(|(of, line)| of == endpoint && line.was_cut.load(SeqCst))
    }
}

struct Dialing(World);

impl Dialing {
    fn new(world: &World) -> Self {
        let now = world.0.dialing.fetch_add(1, SeqCst) + 1;
        world.0.most_dialing.fetch_max(now, SeqCst);
        Self(world.clone())
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        self.0.0.dialing.fetch_sub(1, SeqCst);
    }
}

impl Connect for World {
    type Connection = Wire;

    fn connect(
        &self,
        target: &Arc<Target>,
    ) -> impl Future<Output = Result<Connected<Wire>, String>> + Send + 'static {
        let (world, target) = (self.clone(), target.clone());
        async move {
            let _dialing = Dialing::new(&world);
            let endpoint = target.endpoint().to_owned();
            *world.0.dials.lock().unwrap().entry(endpoint.clone()).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
            let server = world.0.servers.lock().unwrap().get(&endpoint).copied().unwrap_or_default();
            match server {
                Server::Accepts => {}
                Server::Refuses => return Err("connection refused".into()),
                Server::Hangs => std::future::pending().await,
            }
            let line = Arc::new(Line { is_open: watch::Sender::new(true), was_cut: AtomicBool::new(false) });
            let mut open = line.is_open.subscribe();
            world.0.lines.lock().unwrap().push((endpoint.clone(), line.clone()));
            world.0.live.fetch_add(1, SeqCst);
            let closed = async move {
                let _ = open.wait_for(|is_open| !is_open).await;
            };
            let connected = Connected::new(Wire { line, world: world.clone() }, closed);
            let health = world.0.health.lock().unwrap().get(&endpoint).map(watch::Sender::subscribe);
            Ok(match health {
                Some(health) => connected.watched(Box::pin(words(health))),
                None => connected,
            })
        }
    }
}

impl Connection for Wire {
    fn is_open(&self) -> bool {
        *self.line.is_open.borrow()
    }

    fn close(&self) {
        self.line.was_cut.store(true, SeqCst);
        self.line.is_open.send_replace(false);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.world.0.live.fetch_sub(1, SeqCst);
    }
}

pub fn cache(endpoints: &[&str]) -> Arc<LiteEndpoint> {
    let cache = Arc::new(LiteEndpoint::new());
    let puts: Vec<_> =
        endpoints.iter().map(|endpoint| Update::Put((*endpoint).into(), Bytes::new())).collect();
    cache.apply(&puts);
    cache.on_event(&Event::Synced);
    cache
}

pub fn options() -> Options {
    Options::default().named("orders")
}

/// A balancer over a new world, as soon as so many endpoints are ready.
pub async fn balanced(endpoints: &[&str], ready: usize) -> (World, Arc<LiteEndpoint>, Balanced<World>) {
    let (world, cache) = (World::default(), cache(endpoints));
    let balanced = Balanced::new(&cache, world.clone(), options());
    balanced.ready(ready).await;
    (world, cache, balanced)
}

/// Lets the manager do what is due now, in virtual time.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}
