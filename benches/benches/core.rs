//! The way of a change through core: from a backend's watch, through the mirror, into the cache.
#![allow(missing_docs, reason = "a program")]

use std::{sync::Arc, time::Duration};

use criterion::Criterion;
use discox_benches::{
    clock::thread_cpu,
    fleet::{attr, endpoint, list},
    scripted,
};
use discox_core::{LiteEndpoint, Snapshot, backend::Change};
use tokio::runtime::{Builder, Runtime};

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for n in [1_000, 10_000, 50_000] {
        first_list(&mut criterion, &runtime, n);
        one_change(&mut criterion, &runtime, n, "one change", |i, version| vec![put(i, version)]);
        one_change(&mut criterion, &runtime, n, "one change told by a whole new list", |i, version| {
            let mut list = list(n);
            list[i].1 = attr(i, version).into();
            vec![Change::Reset(list)]
        });
    }
    criterion.final_summary();
    Ok(())
}

fn put(i: usize, version: usize) -> Change {
    Change::Put(endpoint(i).into(), attr(i, version).into())
}

fn first_list(criterion: &mut Criterion, runtime: &Runtime, n: usize) {
    criterion.bench_function(&format!("core, {n}: first list"), |bencher| {
        bencher.iter_custom(|times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                let list = list(n);
                taken += runtime.block_on(async {
                    let began = thread_cpu();
                    let watched = Watched::new(list).await;
                    let taken = thread_cpu() - began;
                    watched.end().await;
                    taken
                });
            }
            taken
        });
    });
}

fn one_change(
    criterion: &mut Criterion,
    runtime: &Runtime,
    n: usize,
    name: &str,
    change: impl Fn(usize, usize) -> Vec<Change>,
) {
    let mut watched = runtime.block_on(Watched::new(list(n)));
    let mut version = 0;
    criterion.bench_function(&format!("core, {n}: {name}"), |bencher| {
        bencher.iter_custom(|times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                version += 1;
                let i = version % n;
                let changes = change(i, version);
                let wanted = attr(i, version);
                let name = endpoint(i);
                taken += runtime.block_on(async {
                    let began = thread_cpu();
                    watched.tell(changes, |now| now.attr(&name).is_some_and(|attr| *attr == wanted)).await;
                    thread_cpu() - began
                });
            }
            taken
        });
    });
    runtime.block_on(watched.end());
}

/// A discovery that follows what it is told.
struct Watched {
    cache: Arc<LiteEndpoint>,
    discover: Arc<dyn discox_core::Discover>,
    changes: discox_core::Changes,
    sender: tokio::sync::mpsc::Sender<Vec<Change>>,
}

impl Watched {
    #[allow(clippy::expect_used, reason = "a benchmark")]
    async fn new(list: discox_core::backend::Listing) -> Self {
        let (discover, sender) = scripted::discover(list).expect("a configuration without mistakes");
        let cache = Arc::new(LiteEndpoint::new());
        tokio::spawn({
            let (discover, cache) = (discover.clone(), cache.clone());
            async move { discover.start(cache).await }
        });
        cache.ready().await;
        let changes = cache.changes();
        Self { cache, discover, changes, sender }
    }

    async fn tell(&mut self, changes: Vec<Change>, arrived: impl FnMut(&Snapshot) -> bool) {
        // The discovery lives as long as self.
        let _ = self.sender.send(changes).await;
        self.changes.wait_for(arrived).await;
    }

    async fn end(self) {
        self.discover.stop().await;
        drop(self.cache);
    }
}
