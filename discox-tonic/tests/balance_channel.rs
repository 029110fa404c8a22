//! The faults of tonic's `balance_channel`, which `channel.rs` shows absent here. When one of these tests fails, tonic
//! has been mended: then its line in the docs goes.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use anyhow::{Context, Result};
use discox_testkit::grpc::Orders;
use tokio::{sync::mpsc::error::TrySendError, time::timeout};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, channel::Change},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Within this time everything happens that should.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the channel queues.
const CAPACITY: usize = 100;

fn insert(endpoint: &str) -> Result<Change<String, Endpoint>> {
    Ok(Change::Insert(endpoint.to_owned(), Endpoint::from_shared(format!("http://{endpoint}"))?))
}

async fn check(channel: &Channel) -> Result<(), Status> {
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.map(drop)
}

/// tonic#1581: of 5,000 updates a channel without calls reads none.
#[tokio::test]
async fn an_idle_channel_reads_no_updates() -> Result<()> {
    let (channel, changes) = Channel::balance_channel::<String>(CAPACITY);
    let mut taken = 0;
    for i in 0..5_000 {
        match changes.try_send(insert(&format!("127.0.0.1:{}", 10_000 + i))?) {
            Ok(()) => taken += 1,
            Err(TrySendError::Full(_)) => break,
            Err(closed) => return Err(closed.into()),
        }
        tokio::task::yield_now().await;
    }
    println!("{taken} of 5,000 updates were taken: whoever sends the next one waits for a call");
    assert!(taken <= CAPACITY + 1, "{taken}");
    drop(channel);
    Ok(())
}

/// tonic#2839: an endpoint that is dead gets its share of the calls.
#[tokio::test]
async fn a_dead_endpoint_stays_ready() -> Result<()> {
    let (mut dead, live) = (Orders::start()?, Orders::start()?);
    let (channel, changes) = Channel::balance_channel(CAPACITY);
    for server in [&dead, &live] {
        changes.try_send(insert(server.endpoint())?)?;
    }
    for _ in 0..100 {
        timeout(DEADLINE, check(&channel)).await.context("both answer")??;
    }
    dead.kill();
    let mut failed = 0;
    for _ in 0..200 {
        failed += usize::from(timeout(DEADLINE, check(&channel)).await?.is_err());
    }
    println!("{failed} of 200 calls failed, one after the other, with one endpoint of two dead");
    assert!(failed > 20, "{failed}");
    Ok(())
}

/// A call hangs, past every deadline, while the list is empty.
#[tokio::test]
async fn a_call_hangs_while_nobody_is_there() -> Result<()> {
    let (channel, _changes) = Channel::balance_channel::<String>(CAPACITY);
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_millis(50));
    let answer = timeout(Duration::from_secs(1), HealthClient::new(channel).check(request)).await;
    assert!(answer.is_err(), "{answer:?}");
    Ok(())
}

/// tonic#2257: a call that was never sent is told as an error that does not say so.
#[tokio::test]
async fn what_was_never_sent_is_not_told_apart() -> Result<()> {
    let (channel, changes) = Channel::balance_channel(CAPACITY);
    changes.try_send(insert("127.0.0.1:9")?)?;
    let status = timeout(DEADLINE, check(&channel)).await?.unwrap_err();
    println!("{:?}: {}", status.code(), status.message());
    assert!(matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled));
    assert!(!status.message().contains("127.0.0.1:9"), "{status}");
    Ok(())
}
