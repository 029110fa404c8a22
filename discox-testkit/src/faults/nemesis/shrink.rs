//! Looks for steps that a failure does not need.

use std::sync::Arc;

use anyhow::Error;

use super::{super::Suite, runner::once, schedule::Schedule};

/// Drops halves, then quarters, down to single steps, for as long as the rest still fails; plays at most `runs` times.
/// Returns the numbers of the steps that are not needed, and the last failure.
pub(super) async fn shrunk(
    suite: &Arc<Suite>,
    schedule: &Schedule,
    mut runs: usize,
    mut error: Error,
) -> (Vec<usize>, Error) {
    let mut kept: Vec<usize> = (0..schedule.steps.len()).collect();
    let mut size = kept.len() / 2;
    while size > 0 && runs > 0 {
        let mut at = 0;
        while at < kept.len() && runs > 0 {
            let rest: Vec<usize> = [&kept[..at], &kept[(at + size).min(kept.len())..]].concat();
            runs -= 1;
            match once(suite.clone(), &schedule.without(&others(schedule, &rest))).await {
                Err(still) => (kept, error) = (rest, still),
                Ok(()) => at += size,
            }
        }
        size /= 2;
    }
    (others(schedule, &kept), error)
}

/// The steps that are not among these.
fn others(schedule: &Schedule, kept: &[usize]) -> Vec<usize> {
    (0..schedule.steps.len()).filter(|step| !kept.contains(step)).collect()
}
