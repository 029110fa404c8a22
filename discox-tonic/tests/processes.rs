//! The channel to servers in processes of their own, which are killed and stopped. `DISCOX_TEST_CALLS` says how many
//! calls are made, 3,000 by default.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use discox_core::{EndpointCacher, Event, LiteEndpoint};
use discox_testkit::grpc::{Code, Served, Status, call, client, serve_if_told};
use discox_tonic::{Channel, Options};
use libtest_mimic::{Arguments, Trial};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(300);
const CALLERS: usize = 16;

/// How long a server may be silent before it is asked, and then until it is given up. The one that is well is slow, too,
/// on a machine that has much to do.
const SILENCE: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    if serve_if_told()? {
        return Ok(());
    }
    let dead_ones = Trial::test("one_killed_and_one_stopped_cost_only_what_they_may_have_begun", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(runtime.block_on(one_killed_and_one_stopped())?)
    });
    libtest_mimic::run(&Arguments::from_args(), vec![dead_ones]).exit()
}

async fn one_killed_and_one_stopped() -> Result<()> {
    let mut servers = [Served::start(1)?, Served::start(1)?, Served::start(1)?];
    let cache = Arc::new(LiteEndpoint::new());
    for server in &servers {
        cache.add_or_update(&server.endpoints()[0], b"");
    }
    cache.on_event(&Event::Synced);
    let options = Options::default().wait(DEADLINE).connect_timeout(SILENCE);
    let channel = Channel::builder(&cache).options(options).keep_alive(Some(SILENCE)).build();
    timeout(DEADLINE, channel.ready(3)).await.context("the servers")?;

    let count = std::env::var("DISCOX_TEST_CALLS").map_or(Ok(3_000), |calls| calls.parse())?;
    let begun = Instant::now();
    let calling: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(calls(channel.clone(), count / CALLERS))).collect();
    while channel.status().picks < count as u64 / 10 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    servers[0].kill()?;
    servers[1].stop()?;
    let mut failed = Vec::new();
    for calls in calling {
        failed.extend(timeout(DEADLINE, calls).await??);
    }
    let noticed = async {
        while channel.status().ready > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, noticed).await.context("the dead ones are out")?;
    let status = channel.status();
    println!("of {count} calls {} failed, in {:?}: {:?}", failed.len(), begun.elapsed(), failed.first());
    println!("{status:?}");
    // What was under way to each of the two. The one that is stopped is not called again: it does not greet.
    ensure!(failed.len() <= 2 * CALLERS, "{} failed: {:?}", failed.len(), failed.last());
    let strange = failed.iter().find(|status| {
        status.code() != Code::Unavailable || !status.message().contains("may have processed")
    });
    ensure!(strange.is_none(), "{strange:?}");
    ensure!(status.connects == 3, "none of the two was taken for ready again: {status:?}");
    // Pauses of up to 100, 200, 400 ms and so on, or a second each for the one that does not greet
    let most = 10 + 2 * begun.elapsed().as_secs();
    ensure!(status.failed_connects <= most, "{} dials", status.failed_connects);
    Ok(())
}

/// What has failed, of the calls of one caller.
async fn calls(channel: Channel, count: usize) -> Vec<Status> {
    let (client, mut failed) = (client(&channel), Vec::new());
    for _ in 0..count {
        failed.extend(call(&client).await.err());
    }
    failed
}
