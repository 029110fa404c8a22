//! The cache under criterion: what reading costs on one and on two threads while it is updated, and what
//! an update costs.
#![allow(missing_docs, reason = "a program")]

use std::{sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion};
use discox_benches::{
    clock::thread_cpu,
    fleet::{attr, endpoint, puts},
    workloads::reads::{READS, cache, side_by_side},
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
    differences(&mut criterion);
    criterion.final_summary();
}

fn reads(criterion: &mut Criterion) {
    for n in [1_000, 10_000] {
        let cache = cache(n);
        let mut group = criterion.benchmark_group(format!("{n}, an update every 10 ms"));
        for (name, read) in READS {
            for threads in [1, 2] {
                group.bench_function(BenchmarkId::new(name, format!("{threads} threads")), |bencher| {
                    bencher.iter_custom(|times| side_by_side(&cache, read, threads, times));
                });
            }
        }
    }
}

fn updates(criterion: &mut Criterion) {
    for n in [1_000, 10_000, 50_000] {
        let cache = cache(n);
        let mut group = criterion.benchmark_group(format!("change a cache of {n}"));
        let changed: Vec<_> =
            (0..n).step_by(7).map(|i| [Update::Put(endpoint(i).into(), attr(i, 1).into())]).collect();
        group.bench_function("attr", |bencher| {
            bencher.iter_custom(|times| {
                let began = thread_cpu();
                for i in 0..times as usize {
                    cache.apply(&changed[i % changed.len()]);
                }
                thread_cpu() - began
            });
        });
        let comers: Vec<(Arc<str>, _)> = (n..n + 500).map(|i| (endpoint(i).into(), attr(i, 0))).collect();
        let moves: Vec<_> = comers
            .iter()
            .flat_map(|(name, attr)| {
                [[Update::Put(name.clone(), attr.clone().into())], [Update::Delete(name.clone())]]
            })
            .collect();
        group.bench_function("come or go", |bencher| {
            bencher.iter_custom(|times| {
                let began = thread_cpu();
                for i in 0..times as usize {
                    cache.apply(&moves[i % moves.len()]);
                }
                thread_cpu() - began
            });
        });
        let all = puts(n);
        group.bench_function("first list", |bencher| {
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

fn differences(criterion: &mut Criterion) {
    for n in [1_000, 10_000] {
        let before = cache(n);
        let earlier = before.snapshot();
        let mut group = criterion.benchmark_group(format!("changes_since, {n}"));
        for changed in [0, 1, 100] {
            let update = |i: usize| Update::Put(endpoint(i).into(), attr(i, 1).into());
            before.apply(&(0..changed).map(|i| update(i * 97 % n)).collect::<Vec<_>>());
            let later = before.snapshot();
            group.bench_function(format!("{changed} changed"), |bencher| {
                bencher.iter(|| later.changes_since(&earlier));
            });
        }
        let unrelated = earlier.iter().cloned().collect::<discox_core::Snapshot>();
        group.bench_function("nothing shared", |bencher| bencher.iter(|| unrelated.changes_since(&earlier)));
    }
}
