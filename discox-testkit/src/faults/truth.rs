//! Whether statuses are true: what handles say, compared with what the registry has, all the time.
//!
//! Twice a second the registry is read without discox. A status that says something else for longer than its bound is
//! a lie, whatever the fault: the bounds are those of the specification, and three seconds for a busy machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use discox_core::{Discover, DiscoverState, FreshnessState, LiteEndpoint, Register, RegisterState};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{cell::Settings, reading::Reader};

/// Between two comparisons.
const EVERY: Duration = Duration::from_millis(500);

/// What a busy machine adds to a bound.
const SLACK: Duration = Duration::from_secs(3);

/// A watcher's name, its discovery and its cache.
type Discovery = (String, Weak<dyn Discover>, Weak<LiteEndpoint>);

/// Compares until it is dropped.
pub(crate) struct Truth {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    registrations: Mutex<Vec<(String, Weak<dyn Register>)>>,
    discoveries: Mutex<Vec<Discovery>>,
    lies: Mutex<BTreeMap<String, String>>,
    readings: Mutex<usize>,
}

impl Truth {
    /// Begins to compare.
    pub(crate) fn watch(reader: Reader, settings: &Settings) -> Self {
        let shared = Arc::<Shared>::default();
        let work = Comparison {
            shared: shared.clone(),
            reader,
            // Where the registry is silent, that is noticed first.
            repaired: settings.heart_beat.max(settings.detection) + SLACK,
            confirmed: settings.detection * 2 + SLACK,
            since: BTreeMap::new(),
        };
        Self { shared, task: tokio::spawn(work.run()) }
    }

    /// From now on this registration's status is compared, until it is dropped.
    pub(crate) fn registration(&self, endpoint: &str, register: &Arc<dyn Register>) {
        with(&self.shared.registrations, |all| all.push((endpoint.to_owned(), Arc::downgrade(register))));
    }

    /// From now on this discovery's status and its cache are compared, until it is dropped.
    pub(crate) fn discovery(&self, name: &str, discover: &Arc<dyn Discover>, cache: &Arc<LiteEndpoint>) {
        let subject = (name.to_owned(), Arc::downgrade(discover), Arc::downgrade(cache));
        with(&self.shared.discoveries, |all| all.push(subject));
    }

    /// What was not true for too long, and how often the registry was read.
    pub(crate) fn lies(&self) -> (Vec<String>, usize) {
        let lies = with(&self.shared.lies, |lies| lies.values().cloned().collect());
        (lies, with(&self.shared.readings, |readings| *readings))
    }
}

impl Drop for Truth {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the registry has at this moment: endpoint, and whether it is served.
type Reading = BTreeMap<String, bool>;

struct Comparison {
    shared: Arc<Shared>,
    reader: Reader,
    repaired: Duration,
    confirmed: Duration,
    /// Since when each contradiction has been seen without a break.
    since: BTreeMap<String, Instant>,
}

impl Comparison {
    async fn run(mut self) {
        loop {
            let before = Instant::now();
            let reading = self.reader.read().await;
            // What took long is no picture of one moment.
            let reading = reading.filter(|_| before.elapsed() < EVERY);
            self.compare(reading.as_ref());
            sleep(EVERY).await;
        }
    }

    fn compare(&mut self, reading: Option<&Reading>) {
        let mut contradictions = BTreeMap::new();
        with(&self.shared.registrations, |all| {
            all.retain(|(endpoint, register)| {
                let Some(register) = register.upgrade() else { return false };
                if let Some(what) = registration(endpoint, &*register, reading) {
                    contradictions.insert(what, self.repaired);
                }
                true
            });
        });
        with(&self.shared.discoveries, |all| {
            all.retain(|(name, discover, cache)| {
                let (Some(discover), Some(cache)) = (discover.upgrade(), cache.upgrade()) else {
                    return false;
                };
                for what in discovery(name, &*discover, &cache, reading) {
                    contradictions.insert(what, self.repaired);
                }
                if let Some(what) = unconfirmed(name, &*discover, self.confirmed) {
                    contradictions.insert(what, Duration::ZERO);
                }
                true
            });
        });
        if reading.is_some() {
            with(&self.shared.readings, |readings| *readings += 1);
        }
        let now = Instant::now();
        self.since.retain(|what, _| contradictions.contains_key(what));
        for (what, bound) in contradictions {
            let lasts = now - *self.since.entry(what.clone()).or_insert(now);
            if lasts >= bound {
                let lie = format!("for {:.1} s {what}", lasts.as_secs_f64());
                with(&self.shared.lies, |lies| lies.insert(what, lie));
            }
        }
    }
}

/// It says that it is registered, and the registry has no such record.
fn registration(endpoint: &str, register: &dyn Register, reading: Option<&Reading>) -> Option<String> {
    let lacks = !reading?.contains_key(endpoint);
    (lacks && register.status().state == RegisterState::Registered)
        .then(|| format!("{endpoint} said that it was registered, and the registry did not have it"))
}

/// It says that it is synced, and shows something else than the registry; or its cache says something else.
fn discovery(
    name: &str,
    discover: &dyn Discover,
    cache: &LiteEndpoint,
    reading: Option<&Reading>,
) -> Vec<String> {
    let status = discover.status();
    let is_synced = status.state == DiscoverState::Synced;
    let mut wrong = Vec::new();
    let is_fresh = cache.freshness().state == FreshnessState::Synced;
    if status.state != DiscoverState::Stopped && is_fresh != is_synced {
        wrong.push(format!(
            "the cache of watcher {name} was fresh: {is_fresh}, its discovery was {}",
            status.state
        ));
    }
    let Some(reading) = reading.filter(|_| is_synced && status.held == 0 && status.grace_left.is_zero())
    else {
        return wrong;
    };
    let snapshot = cache.snapshot();
    let shown: BTreeSet<&str> = snapshot.iter().map(|entry| entry.endpoint()).collect();
    let served = reading.iter().filter(|(_, served)| **served).map(|(endpoint, _)| endpoint.as_str());
    let served: BTreeSet<&str> = served.collect();
    let missing = served.difference(&shown).map(|endpoint| format!("lacked {endpoint}"));
    let surplus = shown.difference(&served).map(|endpoint| format!("showed {endpoint} beyond the registry"));
    let all = missing.chain(surplus).map(|what| format!("watcher {name} said that it was synced and {what}"));
    wrong.extend(all);
    wrong
}

/// It says that it is synced, and has not heard of the registry for too long.
fn unconfirmed(name: &str, discover: &dyn Discover, bound: Duration) -> Option<String> {
    let status = discover.status();
    let age = status.last_confirmed?.elapsed();
    (status.state == DiscoverState::Synced && age > bound).then(|| {
        format!("watcher {name} said that it was synced and had not been confirmed for more than {bound:?}")
    })
}

fn with<T, R>(shared: &Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    work(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}
