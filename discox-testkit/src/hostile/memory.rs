//! How much memory the process takes at most.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

/// Between two looks. What is gone again in between has not hurt anybody.
const PERIOD: Duration = Duration::from_millis(5);

/// By how much the resident memory grows, as long as this lives. What else the process does at the same time
/// counts as well.
pub(super) struct Growth {
    before: u64,
    watching: JoinHandle<u64>,
    over: tokio::sync::oneshot::Sender<()>,
}

impl Growth {
    pub(super) fn watch() -> Result<Self> {
        let before = resident()?;
        let (over, mut told) = tokio::sync::oneshot::channel();
        let watching = tokio::spawn(async move {
            let mut looks = interval(PERIOD);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut most = before;
            loop {
                tokio::select! {
                    _ = looks.tick() => most = most.max(resident().unwrap_or(u64::MAX)),
                    _ = &mut told => return most,
                }
            }
        });
        Ok(Self { before, watching, over })
    }

    /// The most so far, in bytes.
    pub(super) async fn end(self) -> Result<u64> {
        // It only ends when it is told.
        let _ = self.over.send(());
        Ok(self.watching.await? - self.before)
    }
}

/// What is resident now, in bytes (`man 5 proc_pid_status`).
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("measuring memory needs Linux's /proc")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("no such field")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib * 1024)
}
