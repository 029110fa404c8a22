//! The channel under a client that tonic has generated, to real tonic servers on the loopback. What tonic's own
//! `balance_channel` does otherwise is named by the number of its issue.

#![allow(clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use discox_core::{EndpointCacher, Event, LiteEndpoint, RegisterConfig, RegistryConfig};
use discox_testkit::grpc::{Direction, Orders, ServingStatus, call, client, stream};
use discox_tonic::{Channel, How, Options, Wish};
use tokio::time::timeout;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Within this time everything happens that should.
const DEADLINE: Duration = Duration::from_secs(20);

fn cache(servers: &[&Orders]) -> Arc<LiteEndpoint> {
    let cache = Arc::new(LiteEndpoint::new());
    for server in servers {
        cache.add_or_update(server.endpoint(), b"");
    }
    cache.on_event(&Event::Synced);
    cache
}

fn options() -> Options {
    let backoff = (Duration::from_millis(20), Duration::from_millis(200));
    // Patient, so that "at once" can be told from it on a machine that is slow
    Options::default().named("orders").wait(DEADLINE).backoff(backoff.0, backoff.1)
}

/// Waits for what should come about.
async fn until(holds: impl Fn() -> bool) -> Result<()> {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    Ok(timeout(DEADLINE, waiting).await?)
}

fn channel(cache: &Arc<LiteEndpoint>) -> Channel {
    Channel::builder(cache).options(options()).build()
}

async fn check(channel: &Channel) -> Result<(), tonic::Status> {
    call(&client(channel)).await
}

#[tokio::test]
async fn from_a_registry_to_an_answer_in_three_lines() -> Result<()> {
    let server = Orders::start()?;
    let registry = discox_memory::connect(RegistryConfig {
        backend_endpoints: vec!["memory://three-lines".into()],
        ..Default::default()
    })?;
    let register = registry.register(RegisterConfig {
        service_name: "orders".into(),
        service_endpoint: server.endpoint().to_owned(),
        ..Default::default()
    })?;

    let orders = registry.watch("orders")?;
    let mut client = HealthClient::new(Channel::new(&orders));
    // Nobody is there yet: it waits, as it says.
    let mut request = Request::new(HealthCheckRequest::default());
    request.extensions_mut().insert(Wish(How { wait_for_ready: true, ..How::default() }));
    let (answer, registered) = tokio::join!(client.check(request), register.start());
    registered?;
    assert_eq!(
        answer?.into_inner().status(),
        tonic_health::pb::health_check_response::ServingStatus::Serving
    );
    Ok(register.stop().await?)
}

/// tonic#1581: updates are not read while no call comes.
#[tokio::test]
async fn after_updates_without_a_call_the_newest_endpoint_answers() -> Result<()> {
    let (old, new) = (Orders::start()?, Orders::start()?);
    let cache = cache(&[&old]);
    let channel = channel(&cache);
    timeout(DEADLINE, channel.ready(1)).await?;
    for i in 0..5_000 {
        cache.add_or_update(old.endpoint(), format!("{{\"weight\":{i}}}").as_bytes());
    }
    cache.delete(old.endpoint());
    cache.add_or_update(new.endpoint(), b"");
    check(&channel).await?;
    assert_eq!((channel.status().discovered, channel.status().ready), (1, 1));
    Ok(())
}

/// tonic#2839 and #643: dead endpoints stay ready, and are dialled without a pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_is_not_called_and_dialled_with_pauses() -> Result<()> {
    let (mut dead, live) = (Orders::start()?, Orders::start()?);
    let cache = cache(&[&dead, &live]);
    let channel = channel(&cache);
    timeout(DEADLINE, channel.ready(2)).await?;
    dead.kill();
    until(|| channel.status().ready == 1).await?;
    let (begun, before) = (Instant::now(), channel.status().failed_connects);
    let mut calls = 0;
    while begun.elapsed() < Duration::from_millis(500) {
        check(&channel).await?;
        calls += 1;
    }
    let dials = channel.status().failed_connects - before;
    // Of pauses of up to 20, 40, 80, 160 and 200 ms, each as long as chance has it.
    assert!(dials <= 60, "{dials} dials during {calls} calls");
    Ok(())
}

/// tonic#2257: what was never sent is told as `Cancelled`.
#[tokio::test]
async fn who_is_not_reached_is_unavailable_with_the_reason() -> Result<()> {
    let cache = cache(&[]);
    // A port that no other test is given
    cache.add_or_update("127.0.0.1:9", b"");
    let status = check(&channel(&cache)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().contains("no endpoint of orders can be reached")
            && status.message().contains("refused"),
        "{status}"
    );
    Ok(())
}

/// `balance_channel` hangs for ever while its list is empty.
#[tokio::test]
async fn an_empty_list_is_told_at_once_and_a_deadline_holds() -> Result<()> {
    let cache = cache(&[]);
    let channel = channel(&cache);
    let begun = Instant::now();
    let status = check(&channel).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "no endpoint of orders is registered"));
    assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());

    let begun = Instant::now();
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_millis(100));
    request.extensions_mut().insert(Wish(How { wait_for_ready: true, ..How::default() }));
    let status = HealthClient::new(channel).check(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
    Ok(())
}

/// `balance_list` panics above 1,024 endpoints.
#[tokio::test]
async fn more_than_a_thousand_endpoints_are_no_panic() -> Result<()> {
    let server = Orders::start()?;
    let cache = cache(&[]);
    for i in 0..2_000 {
        // Nobody listens there.
        cache.add_or_update(&format!("127.1.{}.{}:9", i / 250, 1 + i % 250), b"");
    }
    cache.add_or_update(server.endpoint(), b"");
    let channel = channel(&cache);
    timeout(2 * DEADLINE, channel.ready(1)).await?;
    check(&channel).await?;
    assert_eq!(channel.status().discovered, 2_001);
    Ok(())
}

/// `balance_channel` connects anew when an attr changes.
#[tokio::test]
async fn an_attr_is_no_new_connection_and_breaks_no_stream() -> Result<()> {
    let server = Orders::start()?;
    let cache = cache(&[&server]);
    let channel = channel(&cache);
    let mut client = HealthClient::new(channel.clone());
    let mut stream = client.watch(HealthCheckRequest::default()).await?.into_inner();
    timeout(DEADLINE, stream.message()).await??.context("no first message")?;
    for weight in 1..=1_000 {
        cache.add_or_update(server.endpoint(), format!("{{\"weight\":{weight}}}").as_bytes());
    }
    check(&channel).await?;
    server.reporter().set_service_status("", ServingStatus::NotServing).await;
    timeout(DEADLINE, stream.message()).await??.context("the stream has ended")?;
    assert_eq!((channel.status().connects, channel.status().in_flight), (1, 1));
    drop(stream);
    until(|| channel.status().in_flight == 0).await
}

/// gRFC A17.
#[tokio::test]
async fn a_server_that_says_that_it_is_not_serving_gets_no_call() -> Result<()> {
    let (first, second) = (Orders::start()?, Orders::start()?);
    first.reporter().set_service_status("shop", ServingStatus::NotServing).await;
    second.reporter().set_service_status("shop", ServingStatus::Serving).await;
    let channel = Channel::builder(cache(&[&first, &second])).options(options()).health("shop").build();
    let calls = async |answering: &Orders, silent: &Orders| -> Result<()> {
        let before = (answering.traffic().requests(), silent.traffic().requests());
        for _ in 0..50 {
            check(&channel).await?;
        }
        let now = (answering.traffic().requests(), silent.traffic().requests());
        anyhow::ensure!(now == (before.0 + 50, before.1), "{before:?} {now:?}");
        Ok(())
    };
    timeout(DEADLINE, channel.ready(1)).await?;
    calls(&second, &first).await?;
    first.reporter().set_service_status("shop", ServingStatus::Serving).await;
    timeout(DEADLINE, channel.ready(2)).await?;
    second.reporter().set_service_status("shop", ServingStatus::NotServing).await;
    until(|| channel.status().ready == 1).await?;
    calls(&first, &second).await?;
    first.reporter().set_service_status("shop", ServingStatus::NotServing).await;
    until(|| channel.status().ready == 0).await?;
    let status = check(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("its health is NOT_SERVING"), "{status}");
    assert_eq!(channel.status().connects, 2);
    Ok(())
}

/// A service that the health service does not know is not well; a server without the health service is.
#[tokio::test]
async fn what_a_server_does_not_know_of_is_told_apart() -> Result<()> {
    let server = Orders::start()?;
    let channel = Channel::builder(cache(&[&server])).options(options()).health("nothing").build();
    until(|| channel.status().connects == 1).await?;
    let status = check(&channel).await.unwrap_err();
    assert!(status.message().contains("its health is not told: service not registered"), "{status}");

    let without = Orders::without_health()?;
    let channel = Channel::builder(cache(&[&without])).options(options()).health("").build();
    timeout(DEADLINE, channel.ready(1)).await?;
    stream(&channel, Direction::Server).await?;
    Ok(())
}

/// By GOAWAY, under load: no call fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shuts_down_in_order_fails_no_call() -> Result<()> {
    let (mut first, second) = (Orders::start()?, Orders::start()?);
    let cache = cache(&[&first, &second]);
    let channel = channel(&cache);
    timeout(DEADLINE, channel.ready(2)).await?;
    let calling: Vec<_> = (0..8)
        .map(|_| {
            let channel = channel.clone();
            tokio::spawn(async move {
                for _ in 0..300 {
                    check(&channel).await?;
                }
                Ok::<_, tonic::Status>(())
            })
        })
        .collect();
    until(|| channel.status().picks > 200).await?;
    first.shut_down();
    for calls in calling {
        calls.await??;
    }
    Ok(())
}

/// A peer that says nothing any more, with its connection open: what `kill -STOP` does.
#[tokio::test]
async fn a_server_that_hangs_is_left_by_the_keep_alive() -> Result<()> {
    let server = Orders::start()?;
    let proxy = discox_testkit::proxy::Proxy::to(server.endpoint().to_owned()).await?;
    let cache = cache(&[]);
    cache.add_or_update(proxy.address(), b"");
    let channel =
        Channel::builder(&cache).options(options()).keep_alive(Some(Duration::from_secs(1))).build();
    check(&channel).await?;
    proxy.hold();
    let status = timeout(DEADLINE, check(&channel)).await?.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    proxy.release();
    let back = async {
        while check(&channel).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, back).await?;
    Ok(())
}

/// Its calls may end, but not go on for ever.
#[tokio::test]
async fn what_still_runs_on_a_removed_endpoint_is_ended_after_the_drain() -> Result<()> {
    let server = Orders::start()?;
    let cache = cache(&[&server]);
    let channel = Channel::builder(&cache).options(options().drain(Duration::ZERO)).build();
    let mut stream = client(&channel).watch(HealthCheckRequest::default()).await?.into_inner();
    timeout(DEADLINE, stream.message()).await??.context("no first message")?;
    cache.delete(server.endpoint());
    let ended = timeout(DEADLINE, stream.message()).await?;
    assert!(ended.is_err(), "{ended:?}");
    Ok(())
}
