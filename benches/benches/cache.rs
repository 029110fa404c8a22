//! The cache: what reading costs on one and on two threads while it is updated, and what an update costs.
//!
//! Times are CPU time of the reading thread, so that a busy machine does not show in them.
#![allow(missing_docs, reason = "a program")]

use std::{
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use discox_benches::{
    clock::thread_cpu,
    fleet::{attr, endpoint, puts},
};
use discox_core::{EndpointCacher, LiteEndpoint, Update};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args();
    reads(&mut criterion);
    updates(&mut criterion);
    criterion.final_summary();
}

fn cache(n: usize) -> Arc<LiteEndpoint> {
    let cache = LiteEndpoint::new();
    cache.apply(&puts(n));
    Arc::new(cache)
}

/// One way to read: does it `times` times.
type Read = fn(&LiteEndpoint, times: u64);

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
        black_box(snapshot.get(next).map(|entry| entry.endpoint()));
    }
}

/// At random: the price of cold memory is in it.
fn load_and_pick_at_random(cache: &LiteEndpoint, times: u64) {
    let mut reader = cache.reader();
    let mut state = 1_u64;
    for _ in 0..times {
        let snapshot = black_box(&mut reader).load();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = ((state >> 32) * snapshot.len() as u64) >> 32;
        black_box(snapshot.get(at as usize).map(|entry| entry.endpoint()));
    }
}

fn snapshot(cache: &LiteEndpoint, times: u64) {
    for _ in 0..times {
        black_box(cache.snapshot());
    }
}

fn list(cache: &LiteEndpoint, times: u64) {
    for _ in 0..times {
        black_box(cache.list());
    }
}

fn attr_of_one(cache: &LiteEndpoint, times: u64) {
    let wanted = endpoint(cache.len() / 2);
    for _ in 0..times {
        black_box(cache.attr(black_box(&wanted)));
    }
}

const READS: [(&str, Read); 6] = [
    ("load", load),
    ("load and pick", load_and_pick),
    ("load and pick at random", load_and_pick_at_random),
    ("snapshot", snapshot),
    ("attr", attr_of_one),
    ("list", list),
];

fn reads(criterion: &mut Criterion) {
    for n in [1_000, 10_000] {
        let cache = cache(n);
        let mut group = criterion.benchmark_group(format!("read one of {n}, an update every 10 ms"));
        for (name, read) in READS {
            for threads in [1, 2] {
                group.bench_function(BenchmarkId::new(name, format!("{threads} threads")), |bencher| {
                    bencher.iter_custom(|times| while_updated(&cache, || side_by_side(&cache, read, threads, times)));
                });
            }
        }
    }
}

/// The mean CPU time of a thread, when so many read at once.
fn side_by_side(cache: &LiteEndpoint, read: Read, threads: u32, times: u64) -> Duration {
    let barrier = Barrier::new(threads as usize);
    let one = || {
        barrier.wait();
        let began = thread_cpu();
        read(cache, times);
        thread_cpu() - began
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        readers.into_iter().filter_map(|reader| reader.join().ok()).sum::<Duration>() / threads
    })
}

/// Changes one endpoint every 10 ms meanwhile.
fn while_updated<T>(cache: &LiteEndpoint, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut version = 0;
            while !done.load(Ordering::Relaxed) {
                version += 1;
                let i = version % cache.len();
                cache.apply(&[Update::Put(endpoint(i).into(), attr(i, version).into())]);
                thread::park_timeout(Duration::from_millis(10));
            }
        });
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        writer.thread().unpark();
        outcome
    })
}

fn updates(criterion: &mut Criterion) {
    for n in [1_000, 10_000, 50_000] {
        let cache = cache(n);
        let mut group = criterion.benchmark_group(format!("change a cache of {n}"));
        let changed: Vec<_> =
            (0..n).step_by(7).map(|i| [Update::Put(endpoint(i).into(), Bytes::from(attr(i, 1)))]).collect();
        group.bench_function("attr", |bencher| {
            bencher.iter_custom(|times| {
                let began = thread_cpu();
                for i in 0..times as usize {
                    cache.apply(&changed[i % changed.len()]);
                }
                thread_cpu() - began
            });
        });
        let new: Vec<_> = (n..n + 500).map(|i| (Arc::<str>::from(endpoint(i)), Bytes::from(attr(i, 0)))).collect();
        group.bench_function("come and go, per change", |bencher| {
            bencher.iter_custom(|times| {
                let began = thread_cpu();
                for (endpoint, attr) in new.iter().cycle().take(times.div_ceil(2) as usize) {
                    cache.apply(&[Update::Put(endpoint.clone(), attr.clone())]);
                    cache.apply(&[Update::Delete(endpoint.clone())]);
                }
                thread_cpu() - began
            });
        });
        let all = puts(n);
        group.bench_function("first list, all", |bencher| {
            bencher.iter_custom(|times| {
                let began = thread_cpu();
                for _ in 0..times {
                    LiteEndpoint::new().apply(&all);
                }
                thread_cpu() - began
            });
        });
    }
}
