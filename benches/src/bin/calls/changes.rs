//! How long a change of the registry takes to show in the calls, on the embedded backend.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use discox::{Register, RegisterConfig, Registry, RegistryConfig, Watching, tonic::Channel};
use discox_benches::stats::Stat;
use discox_testkit::grpc::{Orders, call, client};
use tokio::{sync::watch, time::sleep};

const ROUNDS: usize = 50;
const CALLERS: usize = 8;

/// No call has come for so long: the last one was the last.
const QUIET: Duration = Duration::from_millis(100);

pub(crate) fn changes() -> Result<()> {
    println!("| from | to | p50, ms | p99, ms |\n|---|---|--:|--:|");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let seen = runtime.block_on(rounds())?;
    for (times, (from, to)) in seen.iter().zip([
        ("`start` is called", "the cache lists it"),
        ("`start` is called", "it has its first call"),
        ("`stop` is called", "the cache does not list it"),
        ("`stop` is called", "its last call begins"),
    ]) {
        let stat = Stat::millis(times);
        println!("| {from} | {to} | {:.2} | {:.2} |", stat.median, stat.p99);
    }
    Ok(())
}

async fn rounds() -> Result<[Vec<Duration>; 4]> {
    let registry = discox::connect(RegistryConfig {
        backend_endpoints: vec!["memory://changes".into()],
        ..Default::default()
    })?;
    let (_stays, registered) = instance(&registry)?;
    registered.start().await?;
    let orders = registry.watch("orders")?;
    let channel = Channel::new(&orders);
    channel.ready(1).await;
    let (end, until) = watch::channel(());
    for _ in 0..CALLERS {
        let (client, until) = (client(&channel), until.clone());
        tokio::spawn(async move { while until.has_changed().is_ok() && call(&client).await.is_ok() {} });
    }
    let mut seen: [Vec<Duration>; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (times, took) in seen.iter_mut().zip(one(&registry, &orders).await?) {
            times.push(took);
        }
    }
    drop(end);
    registered.stop().await?;
    Ok(seen)
}

fn instance(registry: &Arc<dyn Registry>) -> Result<(Orders, Arc<dyn Register>)> {
    let orders = Orders::start()?;
    let register = registry.register(RegisterConfig {
        service_name: "orders".into(),
        service_endpoint: orders.endpoint().into(),
        ..Default::default()
    })?;
    Ok((orders, register))
}

/// One comes and goes.
async fn one(registry: &Arc<dyn Registry>, orders: &Watching) -> Result<[Duration; 4]> {
    let (server, register) = instance(registry)?;
    let lists = |listed: bool| {
        let (orders, endpoint) = (orders.clone(), server.endpoint().to_owned());
        tokio::spawn(async move {
            let mut changes = orders.endpoints().changes();
            changes.wait_for(|list| list.attr(&endpoint).is_some() == listed).await;
            Instant::now()
        })
    };
    let (listed, began) = (lists(true), Instant::now());
    register.start().await?;
    while server.traffic().requests() == 0 {
        tokio::task::yield_now().await;
    }
    let first = began.elapsed();
    let listed = listed.await.context("the cache")? - began;

    let (gone, began) = (lists(false), Instant::now());
    register.stop().await?;
    let (mut requests, mut last) = (server.traffic().requests(), began.elapsed());
    while began.elapsed() - last < QUIET {
        let now = server.traffic().requests();
        if now != std::mem::replace(&mut requests, now) {
            last = began.elapsed();
        }
        sleep(Duration::from_micros(200)).await;
    }
    let gone = gone.await.context("the cache")? - began;
    Ok([listed, first, gone, last])
}
