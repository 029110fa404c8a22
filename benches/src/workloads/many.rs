//! What many over one connection are measured by, and what they cost while nothing happens.

use std::time::Duration;

use anyhow::Result;
use discox::BackendType;
use tokio::time::sleep;

use crate::{
    bench::{Bench, Party},
    report::{Row, Target},
    stats::Stat,
    tap::Tap,
};

/// Requests under way at once.
pub(super) const AT_ONCE: usize = 64;

/// What was measured of one side: what, unit, values.
pub(super) type Measured = Vec<(String, &'static str, Stat)>;

/// Notes what discox was measured at, and the raw client's next to it, where it was measured.
pub(super) fn note(
    bench: &mut Bench,
    workload: &str,
    backend: BackendType,
    n: usize,
    measured: &[Measured],
    aim: fn(BackendType, &str) -> Option<Target>,
) {
    let Some((discox, others)) = measured.split_first() else { return };
    for (i, (what, unit, stat)) in discox.iter().enumerate() {
        let mut row = Row::new(workload, backend, what, n, unit, *stat);
        row.raw = others.first().and_then(|raw| raw.get(i)).map(|(_, _, stat)| *stat);
        row.target = aim(backend, what);
        bench.note(row);
    }
}

/// CPU in percent of a core, requests a second, and sockets, while nothing happens.
pub(super) async fn at_rest(
    bench: &Bench,
    party: &Party,
    tap: &Tap,
    heart_beat: Duration,
) -> Result<[f64; 3]> {
    sleep(Duration::from_secs(if bench.options.quick { 1 } else { 10 })).await;
    let time = if bench.options.quick { Duration::from_secs(2) } else { 2 * heart_beat };
    let (cpu, passed) = (party.cpu().await?, tap.passed());
    sleep(time).await;
    let cpu = party.cpu().await?.saturating_sub(cpu);
    let requests = tap.passed().since(passed).requests as f64;
    Ok([
        100.0 * cpu.as_secs_f64() / time.as_secs_f64(),
        requests / time.as_secs_f64(),
        tap.connections() as f64,
    ])
}
