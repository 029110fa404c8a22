//! What endpoints cost while no call is made: memory, and CPU time for keep-alive.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use discox::balance::{Balanced, Connect, Connected, Connection, Options, Target};
use discox_benches::{clock::process_cpu, memory::live_bytes};
use discox_testkit::grpc::Served;

use crate::sides::{balanced, cache};

/// Real connections, to as many addresses of the loopback.
const CONNECTIONS: usize = 1_000;

/// How long CPU time is counted: each connection is asked thrice by then.
const REST: Duration = Duration::from_secs(30);

/// A transport without connections.
struct Nothing;

impl Connect for Nothing {
    type Connection = Self;

    fn connect(
        &self,
        _: &Arc<Target>,
    ) -> impl Future<Output = Result<Connected<Self>, String>> + Send + 'static {
        std::future::ready(Ok(Connected::new(Self, std::future::pending())))
    }
}

impl Connection for Nothing {
    fn is_open(&self) -> bool {
        true
    }
}

pub(crate) fn rest() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("| what | endpoints | memory each, bytes | CPU, % of a core |\n|---|--:|--:|--:|");
    for count in [1_000, 10_000] {
        let each = runtime.block_on(without_connections(count));
        println!("| the balancer alone | {count} | {each} | |");
    }
    let (each, cpu) = runtime.block_on(with_connections())?;
    println!("| with HTTP/2 connections, asked every 10 s | {CONNECTIONS} | {each} | {cpu:.2} |");
    Ok(())
}

/// Bytes for each endpoint, beside those of the cache.
async fn without_connections(count: usize) -> i64 {
    let names: Vec<_> = (0..count).map(|i| format!("10.0.{}.{}:80", i / 250, i % 250 + 1)).collect();
    let cache = cache(names.iter().map(String::as_str));
    let before = live_bytes();
    let balanced = Balanced::new(cache, Nothing, Options::default());
    balanced.ready(count).await;
    (live_bytes() - before) / i64::try_from(count).unwrap_or(1)
}

/// Bytes for each endpoint, and CPU time at rest in hundredths of a core.
async fn with_connections() -> Result<(i64, f64)> {
    let server = Served::start_at("0.0.0.0:0", 1)?;
    let port = server.endpoints()[0].rsplit_once(':').context("no port")?.1;
    let endpoints: Vec<_> =
        (0..CONNECTIONS).map(|i| format!("127.1.{}.{}:{port}", i / 250, i % 250 + 1)).collect();
    let before = live_bytes();
    let channel = balanced(&endpoints, Options::default()).await;
    let each = (live_bytes() - before) / i64::try_from(CONNECTIONS)?;
    let cpu = process_cpu();
    tokio::time::sleep(REST).await;
    let cpu = (process_cpu() - cpu).as_secs_f64() / REST.as_secs_f64() * 100.0;
    drop(channel);
    Ok((each, cpu))
}
