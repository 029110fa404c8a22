//! The channel under a client that tonic has generated, to real tonic servers on the loopback. What tonic's own
//! `balance_channel` does otherwise is named by the number of its issue.

#![allow(clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use discox_core::{EndpointCacher, Event, LiteEndpoint, RegisterConfig, RegistryConfig};
use discox_testkit::grpc::{Orders, ServingStatus, call, client};
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
    Options::default().named("orders").backoff(Duration::from_millis(20), Duration::from_millis(200))
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
    let begun = Instant::now();
    check(&channel).await?;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
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
    let noticed = async {
        while channel.status().ready > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, noticed).await?;
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
    let gone = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let cache = cache(&[]);
    cache.add_or_update(&gone.to_string(), b"");
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
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());

    let begun = Instant::now();
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_millis(100));
    request.extensions_mut().insert(Wish(How { wait_for_ready: true, ..How::default() }));
    let status = HealthClient::new(channel).check(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
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
    let released = async {
        while channel.status().in_flight > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, released).await?;
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
    tokio::time::sleep(Duration::from_millis(50)).await;
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
        Channel::builder(&cache).options(options()).keep_alive(Some(Duration::from_millis(200))).build();
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
