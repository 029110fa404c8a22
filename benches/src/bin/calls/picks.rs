//! Picks alone, without a call. Times are CPU times of the thread that picks.

use anyhow::Result;
use discox::balance::{Options, Picker, Policy};
use discox_benches::{clock::thread_cpu, memory::allocations, stats::Stat};

use crate::sides::cache;

const ROUNDS: usize = 7;
const PICKS: u32 = 1_000_000;

pub(crate) fn picks() -> Result<()> {
    println!("| policy | ready | a pick, ns | with two threads, ns | allocations |\n|---|--:|--:|--:|--:|");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _entered = runtime.enter();
    for policy in [Policy::LeastRequest, Policy::RoundRobin, Policy::Random] {
        for ready in [10, 1_000, 10_000] {
            let names: Vec<_> = (0..ready).map(|i| format!("10.0.{}.{}:80", i / 250, i % 250 + 1)).collect();
            let endpoints = cache(names.iter().map(String::as_str));
            let picker = Picker::new(&endpoints, Options::default().policy(policy));
            runtime.block_on(picker.ready(ready));
            let before = allocations();
            time(&picker);
            let allocated = allocations() - before;
            let alone = median(|| time(&picker));
            let both = median(|| {
                std::thread::scope(|scope| {
                    let other = scope.spawn(|| time(&picker));
                    time(&picker).max(other.join().unwrap_or(f64::NAN))
                })
            });
            println!("| `{policy:?}` | {ready} | {alone:.1} | {both:.1} | {allocated} |");
        }
    }
    Ok(())
}

fn median(time: impl Fn() -> f64) -> f64 {
    let mut times = Vec::with_capacity(ROUNDS);
    times.extend((0..ROUNDS).map(|_| time()));
    Stat::of(times).median
}

fn time(picker: &Picker) -> f64 {
    let began = thread_cpu();
    for _ in 0..PICKS {
        std::hint::black_box(picker.pick());
    }
    (thread_cpu() - began).as_secs_f64() * 1e9 / f64::from(PICKS)
}
