//! Registries that are not there when their clients start.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use discox_core::{DiscoverState, Register};
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::stage::{Live, Stage, Via};
use crate::{conformance::What, server::Data};

/// `start` gives an error within its request timeout; what starts again and again, and whoever watches, is there
/// when the registry is.
pub(crate) async fn registry_down_at_start(stage: &mut Stage) -> Result<()> {
    stage.servers.kill().await?;
    let down = Instant::now();
    for i in 0..3 {
        let watcher = stage.watch(&format!("early {i}"), stage.settings.grace, Via::Direct)?;
        stage.watchers.push(watcher);
    }
    for i in 0..3 {
        let endpoint = format!("10.0.5.{i}:8000");
        let register = stage.registration(&endpoint, "early", Via::Direct)?;
        stage.fleet.push(Live { endpoint, register });
    }
    let starting = stage.fleet.iter().map(|live| tokio::spawn(start_until_it_works(live.register.clone())));
    let starting: Vec<_> = starting.collect();
    for watcher in &stage.watchers {
        let told = |what: &What| matches!(what, What::Lost(_));
        watcher.seen.wait_for(0, "why it waits", Duration::from_secs(10), told).await?;
        let state = watcher.discover.status().state;
        ensure!(state == DiscoverState::Connecting, "watcher {} is {state:?}", watcher.name);
    }
    // Longer than a start waits.
    sleep(Duration::from_secs(7).saturating_sub(down.elapsed())).await;
    stage.servers.start(Data::Kept).await?;
    let back = Instant::now();
    let failed = try_join_all(starting).await?.into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(failed.iter().all(|failed| *failed > 0), "a start succeeded without a registry");
    stage.recovers(down, back).await
}

/// Returns how often it failed before.
async fn start_until_it_works(register: Arc<dyn Register>) -> Result<u32> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut failed = 0;
    while Instant::now() < deadline {
        let began = Instant::now();
        if register.start().await.is_ok() {
            return Ok(failed);
        }
        failed += 1;
        ensure!(began.elapsed() < Duration::from_secs(6), "a start that failed took {:?}", began.elapsed());
    }
    None.context("start never succeeded")
}
