//! Reading the cache on one thread and on two at once, with an update every 10 ms, and what an update
//! costs. No registry takes part.
//!
//! Times are CPU time of the reading thread, so that a busy machine does not show in them.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{
        Arc, Barrier, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use discox::{EndpointCacher, LiteEndpoint, Update};

use crate::{
    bench::Bench,
    clock::thread_cpu,
    fleet::{attr, endpoint, puts},
    memory::allocations,
    report::{Row, Target},
    stats::Stat,
};

const NAME: &str = "reads";

/// Between two updates.
const PACE: Duration = Duration::from_millis(10);

/// One way to read a cache: does it so many times.
pub type Read<C> = fn(&C, times: u64);

/// The ways to read discox's cache.
pub const READS: [(&str, Read<LiteEndpoint>); 6] = [
    ("reader().load()", load),
    ("reader().load() and pick in turn", load_and_pick),
    ("reader().load() and pick at random", load_and_pick_at_random),
    ("snapshot()", snapshot),
    ("attr()", attr_of_one),
    ("list()", list),
];

fn load(cache: &LiteEndpoint, times: u64) {
    let mut reader = cache.reader();
    for _ in 0..times {
        black_box(black_box(&mut reader).load());
    }
}

/// In turn, as a balancer does.
fn load_and_pick(cache: &LiteEndpoint, times: u64) {
    let mut reader = cache.reader();
    let mut next = 0;
    for _ in 0..times {
        let snapshot = black_box(&mut reader).load();
        next = if next + 1 < snapshot.len() { next + 1 } else { 0 };
        black_box(snapshot.nth(next).map(|entry| entry.endpoint()));
    }
}

/// At random: the price of cold memory is in it.
fn load_and_pick_at_random(cache: &LiteEndpoint, times: u64) {
    let mut reader = cache.reader();
    let mut dice = Dice(1);
    for _ in 0..times {
        let snapshot = black_box(&mut reader).load();
        let at = dice.roll(snapshot.len());
        black_box(snapshot.nth(at).map(|entry| entry.endpoint()));
    }
}

fn snapshot(cache: &LiteEndpoint, times: u64) {
    for _ in 0..times {
        black_box(cache.snapshot());
    }
}

fn attr_of_one(cache: &LiteEndpoint, times: u64) {
    let wanted = endpoint(cache.len() / 2);
    for _ in 0..times {
        black_box(cache.attr(black_box(&wanted)));
    }
}

fn list(cache: &LiteEndpoint, times: u64) {
    for _ in 0..times {
        black_box(cache.list());
    }
}

/// A generator of one multiplication.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (((self.0 >> 32) * sides as u64) >> 32) as usize
    }
}

/// A cache as one writes it: what is picked from and what is looked up in, behind a lock.
struct Plain(RwLock<Held>);

/// The endpoints in order, and their attrs.
type Held = (Vec<Arc<str>>, HashMap<Arc<str>, Vec<u8>>);

impl Plain {
    fn new(n: usize) -> Self {
        let names: Vec<Arc<str>> = (0..n).map(|i| endpoint(i).into()).collect();
        let attrs = names.iter().enumerate().map(|(i, name)| (name.clone(), attr(i, 0).into_bytes()));
        Self(RwLock::new((names.clone(), attrs.collect())))
    }
}

const PLAIN_READS: [(&str, Read<Plain>); 2] = [
    ("reader().load() and pick in turn", |cache, times| {
        let mut next = 0;
        for _ in 0..times {
            let content = cache.0.read().unwrap_or_else(PoisonError::into_inner);
            next = if next + 1 < content.0.len() { next + 1 } else { 0 };
            // It must outlive the lock.
            black_box(content.0.get(next).cloned());
        }
    }),
    ("attr()", |cache, times| {
        for _ in 0..times {
            let content = cache.0.read().unwrap_or_else(PoisonError::into_inner);
            black_box(content.0.get(content.0.len() / 2).and_then(|name| content.1.get(name)).cloned());
        }
    }),
];

/// Something that can be read while it is updated.
pub trait Cache: Sync {
    /// Gives an endpoint another attr.
    fn update(&self, i: usize, version: usize);
}

impl Cache for LiteEndpoint {
    fn update(&self, i: usize, version: usize) {
        self.apply(&[Update::Put(endpoint(i % self.len()).into(), attr(i, version).into())]);
    }
}

impl Cache for Plain {
    fn update(&self, i: usize, version: usize) {
        let mut content = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let name = content.0.get(i % content.0.len()).cloned();
        name.and_then(|name| content.1.insert(name, attr(i, version).into_bytes()));
    }
}

/// The mean CPU time of a thread, when so many read so many times at once, while the cache is updated
/// every 10 ms.
pub fn side_by_side<C: Cache>(cache: &C, read: Read<C>, threads: u32, times: u64) -> Duration {
    let barrier = Barrier::new(threads as usize);
    let one = || {
        barrier.wait();
        let began = thread_cpu();
        read(cache, times);
        thread_cpu().saturating_sub(began)
    };
    while_updated(cache, || {
        thread::scope(|scope| {
            let readers: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            readers.into_iter().filter_map(|reader| reader.join().ok()).sum::<Duration>() / threads
        })
    })
}

fn while_updated<C: Cache, T>(cache: &C, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for version in 1.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                cache.update(version, version);
                thread::park_timeout(PACE);
            }
        });
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        writer.thread().unpark();
        outcome
    })
}

/// A cache of the first `n` endpoints.
pub fn cache(n: usize) -> LiteEndpoint {
    let cache = LiteEndpoint::new();
    cache.apply(&puts(n));
    cache
}

/// Measures, and notes rows.
///
/// # Errors
/// None that is expected.
pub async fn run(bench: &mut Bench) -> Result<()> {
    for n in bench.options.sizes(&[1_000, 10_000], &[1_000]) {
        let samples = bench.options.samples(31, 5);
        let quick = bench.options.quick;
        let (cache, plain) = (cache(n), Plain::new(n));
        for (name, read) in READS {
            let raw = PLAIN_READS.iter().find(|(raw, _)| *raw == name).map(|(_, read)| *read);
            // About 20 ms a sample, two updates.
            let times = match name {
                "list()" => 20_000_000 / (n as u64 * 100),
                _ => {
                    if quick {
                        500_000
                    } else {
                        2_000_000
                    }
                }
            };
            both(bench, n, name, samples, times, (&cache, read), (&plain, raw));
        }
        updates(bench, n, samples);
        let before = allocations();
        load_and_pick(&cache, 1_000_000);
        let made = Stat::one((allocations() - before) as f64);
        bench.note(
            Row::new(NAME, "", "allocations of 1,000,000 picks", n, "", made).target(Target::AtMost(2.0)),
        );
    }
    Ok(())
}

fn both(
    bench: &mut Bench,
    n: usize,
    name: &str,
    samples: usize,
    times: u64,
    (cache, read): (&LiteEndpoint, Read<LiteEndpoint>),
    (plain, raw): (&Plain, Option<Read<Plain>>),
) {
    let mut taken = [const { Vec::new() }; 4];
    let nanos = |time: Duration| time.as_secs_f64() * 1e9 / times as f64;
    for _ in 0..samples {
        for threads in [1, 2] {
            taken[threads as usize - 1].push(nanos(side_by_side(cache, read, threads, times)));
            if let Some(raw) = raw {
                taken[threads as usize + 1].push(nanos(side_by_side(plain, raw, threads, times)));
            }
        }
    }
    let [one, two, raw_one, raw_two] = taken.map(Stat::of);
    let row = |what: String, discox: Stat, plain: Stat| {
        let row = Row::new(NAME, "", &what, n, "ns", discox);
        if raw.is_some() { row.against(plain) } else { row }
    };
    let first = row(format!("{name}, 1 thread"), one, raw_one);
    let second = row(format!("{name}, 2 threads"), two, raw_two);
    let is_aimed_at = name == "reader().load() and pick in turn";
    bench.note(if is_aimed_at { first.target(Target::AtMost(5.0)) } else { first });
    bench.note(if is_aimed_at { second.target(Target::AtMost(1.2 * one.median)) } else { second });
}

fn updates(bench: &mut Bench, n: usize, samples: usize) {
    const TIMES: usize = 1_000;
    let cache = cache(n);
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / TIMES as f64;
    let (mut attrs, mut membership) = (Vec::new(), Vec::new());
    for sample in 1..=samples {
        let changes: Vec<_> = (0..TIMES)
            .map(|i| i * 7 % n)
            .map(|i| [Update::Put(endpoint(i).into(), attr(i, sample).into())])
            .collect();
        attrs.push(micros(apply_all(&cache, &changes)));
        let comers = (n..n + TIMES / 2).map(|i| (endpoint(i), attr(i, sample)));
        let changes: Vec<_> = comers
            .flat_map(|(name, attr)| {
                let name: Arc<str> = name.into();
                [[Update::Put(name.clone(), attr.into())], [Update::Delete(name)]]
            })
            .collect();
        membership.push(micros(apply_all(&cache, &changes)));
    }
    for (what, values) in [("an update: attr", attrs), ("an update: comes or goes", membership)] {
        bench.note(Row::new(NAME, "", what, n, "µs", Stat::of(values)).target(Target::AtMost(5.0)));
    }
}

fn apply_all(cache: &LiteEndpoint, changes: &[[Update; 1]]) -> Duration {
    let began = thread_cpu();
    for change in changes {
        cache.apply(change);
    }
    thread_cpu().saturating_sub(began)
}
