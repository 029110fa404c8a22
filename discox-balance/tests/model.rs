//! Random schedules in virtual time, each from a seed, against what was promised.

#![allow(clippy::panic, clippy::unwrap_used)]

mod world;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use discox_balance::{Balanced, How, Pick};
use discox_core::{EndpointCacher, LiteEndpoint};
use tokio::time::{Instant, timeout};
use world::{Server, Wire, World, cache, options, settle};

const SCHEDULES: u64 = 200;
const STEPS: usize = 300;

struct Model {
    random: fastrand::Rng,
    world: World,
    cache: Arc<LiteEndpoint>,
    balanced: Balanced<World>,
    listed: BTreeSet<String>,
    held: Vec<Pick<Wire>>,
    picks: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        fastrand::seed(seed);
        let (world, cache) = (World::default(), cache(&[]));
        let options = options().subset(random.usize(..6)).drain(Duration::from_secs(random.u64(..10)));
        let balanced = Balanced::new(&cache, world.clone(), options);
        Self { random, world, cache, balanced, listed: BTreeSet::new(), held: Vec::new(), picks: 0 }
    }

    fn endpoint(&mut self) -> String {
        format!("10.0.0.{}:80", self.random.u8(1..=8))
    }

    async fn step(&mut self) {
        let endpoint = self.endpoint();
        match self.random.u8(..14) {
            0..=2 => {
                let attr = format!("{{\"weight\":{}}}", self.random.u8(..4));
                self.cache.add_or_update(&endpoint, attr.as_bytes());
                self.listed.insert(endpoint);
            }
            3 => {
                self.cache.delete(&endpoint);
                self.listed.remove(&endpoint);
            }
            4 => self.world.cut(&endpoint),
            5 => {
                let server = [Server::Accepts, Server::Accepts, Server::Refuses, Server::Hangs];
                self.world.set(&endpoint, server[self.random.usize(..4)]);
            }
            6 => tokio::time::sleep(Duration::from_millis(self.random.u64(..3_000))).await,
            7 if !self.held.is_empty() => {
                let pick = self.held.swap_remove(self.random.usize(..self.held.len()));
                if self.random.bool() { pick.success() } else { pick.failure() }
            }
            8 => drop(timeout(Duration::from_millis(1), self.balanced.wait()).await),
            9 => self.request().await,
            _ => {
                if let Some(pick) = self.balanced.pick() {
                    self.check(pick);
                }
            }
        }
    }

    /// Never a pick of what the cache had removed before the pick began.
    fn check(&mut self, pick: Pick<Wire>) {
        self.picks += 1;
        assert!(self.listed.contains(pick.endpoint()), "{} was removed", pick.endpoint());
        if self.random.bool() {
            self.held.push(pick);
        }
    }

    /// Every request ends in time.
    async fn request(&mut self) {
        let begun = Instant::now();
        let limit = Duration::from_millis(self.random.u64(..6_000));
        let how = How {
            wait_for_ready: self.random.bool(),
            deadline: self.random.bool().then(|| begun + limit),
            key: None,
        };
        let picked = self.balanced.acquire(how).await;
        let most = if how.deadline.is_some() { limit } else { Duration::from_secs(5) };
        assert!(begun.elapsed() <= most + Duration::from_millis(2), "{:?} of {most:?}", begun.elapsed());
        if let Ok(pick) = picked {
            self.check(pick);
        }
    }

    /// When the world is well again, all are ready; when nothing is wanted, nothing is left.
    async fn finish(mut self) {
        assert_eq!(self.balanced.status().in_flight, self.held.len() as u64);
        self.held.clear();
        for i in 1..=8 {
            self.world.set(&format!("10.0.0.{i}:80"), Server::Accepts);
        }
        // The longest drain, attempt and backoff; the longest ejection
        tokio::time::sleep(Duration::from_secs(60)).await;
        let status = self.balanced.status();
        assert_eq!(status.discovered, self.listed.len());
        assert_eq!((status.ready, status.ejected, status.draining), (status.in_subset, 0, 0), "{status:?}");
        assert_eq!((self.world.live(), status.in_flight), (status.ready, 0), "{status:?}");
        drop(self.balanced);
        settle().await;
        assert_eq!((self.world.live(), Arc::strong_count(&self.cache)), (0, 1));
    }
}

#[test]
fn random_schedules_keep_every_promise() {
    let mut picks = 0;
    for seed in 0..SCHEDULES {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        picks += runtime.unwrap().block_on(async {
            let mut model = Model::new(seed);
            for _ in 0..STEPS {
                model.step().await;
            }
            let picks = model.picks;
            model.finish().await;
            picks
        });
    }
    assert!(picks > SCHEDULES * 20, "schedules that pick nothing show nothing: {picks}");
}
