//! The channel to real servers on the loopback.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::Router;
use bytes::Bytes;
use discox_core::{EndpointCacher, Event, LiteEndpoint, RegisterConfig};
use discox_http::{Channel, Error, Leaving, Protocol, Repeatable, Traffic, leave, serve};
use h2::Reason;
use http_body_util::Full;
use shop::{DEADLINE, Server, ask, channel, get, more_requests, options, registry, under_load, until};
use std::sync::Arc;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_spread_by_weight_and_follow_an_attr_without_a_new_connection() -> Result<()> {
    for protocol in BOTH {
        let registry = registry()?;
        let (light, heavy) = (
            Server::start(&registry, r#"{"weight":1}"#).await?,
            Server::start(&registry, r#"{"weight":3}"#).await?,
        );
        let channel = channel(&registry.watch("orders")?, protocol);
        timeout(DEADLINE, channel.ready(2)).await?;
        let spread = async || -> Result<f64> {
            let mut counts = BTreeMap::<String, f64>::new();
            for _ in 0..800 {
                let who = ask(&channel, get("/")).await?;
                *counts.entry(who.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1.0;
            }
            Ok(counts[&heavy.endpoint] / 800.0)
        };
        let share = spread().await?;
        assert!((0.6..0.97).contains(&share), "{share}");
        let connects = channel.status().connects;
        light.register.update_attr(r#"{"weight":0}"#).await?;
        // One answer of the heavy one says nothing of whether the channel has heard of the change.
        let only_heavy = async {
            while spread().await? < 1.0 {}
            anyhow::Ok(())
        };
        timeout(DEADLINE, only_heavy).await??;
        assert_eq!(channel.status().connects, connects, "{protocol:?}");
        assert_eq!(channel.status().in_flight, 0, "{protocol:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_show_over_real_connections() -> Result<()> {
    let (registry, mut servers) = (registry()?, Vec::new());
    for weight in 1..=3 {
        servers.push(Server::start(&registry, &format!("{{\"weight\":{weight}}}")).await?);
    }
    let channel = channel(&registry.watch("orders")?, Protocol::Http2);
    timeout(DEADLINE, channel.ready(3)).await?;
    for _ in 0..1_200 {
        ask(&channel, get("/")).await?;
    }
    let deviation =
        |(server, meant): (&Server, f64)| (server.traffic.requests() as f64 - meant).powi(2) / meant;
    let chi_squared: f64 = servers.iter().zip([200.0, 400.0, 600.0]).map(deviation).sum();
    // Two degrees of freedom: 1 in a million is beyond 27.6.
    assert!(chi_squared < 27.6, "{chi_squared}");
    Ok(())
}

#[tokio::test]
async fn a_body_arrives_whole_and_the_host_is_named() -> Result<()> {
    for protocol in BOTH {
        let registry = registry()?;
        let server = Server::start(&registry, "").await?;
        let channel = channel(&registry.watch("orders")?, protocol);
        let request = http::Request::post("/").body(Full::from(vec![7; 300_000]))?;
        assert_eq!(ask(&channel, request).await?, format!("{} 300000", server.endpoint));
    }
    Ok(())
}

/// The record stays, as it does until its TTL has passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_costs_only_what_it_may_have_begun() -> Result<()> {
    for protocol in BOTH {
        let registry = registry()?;
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Server::start(&registry, "").await?);
        }
        let channel = channel(&registry.watch("orders")?, protocol);
        timeout(DEADLINE, channel.ready(3)).await?;
        let killing = async {
            more_requests(&channel, 200).await?;
            servers[0].kill();
            until(|| channel.status().ready == 2).await?;
            more_requests(&channel, 200).await
        };
        let (killed, seen) = under_load(&channel, 8, killing).await?;
        killed?;
        assert_eq!(seen.failed, [""; 0], "{protocol:?}: {seen:?}");
        // What was under way to it, and with HTTP/1.1 what went over a connection of which the end was not seen yet:
        // each of the tasks has at most one of both.
        assert!(seen.broken <= 16 && seen.answered >= 300, "{protocol:?}: {seen:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_with_leave_fails_no_request() -> Result<()> {
    for protocol in BOTH {
        let registry = registry()?;
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Server::start(&registry, "").await?);
        }
        let orders = registry.watch("orders")?;
        let channel = channel(&orders, protocol);
        timeout(DEADLINE, channel.ready(3)).await?;
        let restarting = async {
            more_requests(&channel, 200).await?;
            for server in &mut servers {
                let next = Server::start(&registry, "").await?;
                let mut old = std::mem::replace(server, next);
                let leaving = Leaving::default()
                    .seen_by(orders.endpoints(), &old.endpoint)
                    .settle(Duration::from_millis(50))
                    .quiet(Duration::from_millis(300));
                let left = leave(&*old.register, &old.traffic, leaving).await;
                assert!(left.is_quiet && left.error.is_none(), "{left:?}");
                assert_eq!(left.in_flight, 0);
                old.shut_down().await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let (restarted, seen) = under_load(&channel, 8, restarting).await?;
        restarted?;
        assert_eq!((seen.failed.len(), seen.broken), (0, 0), "{protocol:?}: {seen:?}");
        assert!(seen.answered > 100, "{seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_there_is_told_at_once() -> Result<()> {
    for protocol in BOTH {
        let registry = registry()?;
        let orders = registry.watch("orders")?;
        let channel = channel(&orders, protocol);
        timeout(DEADLINE, orders.ready()).await?;
        let began = Instant::now();
        let error = channel.send(get("/")).await.unwrap_err();
        assert_eq!(error.to_string(), "no endpoint of orders is registered");
        assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
        assert!(error.is_unprocessed());
    }
    Ok(())
}

/// A server of HTTP/2 that takes requests and says that it has not looked at them.
async fn refusing(reason: Option<Reason>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((_request, mut respond))) = connection.accept().await {
                    match reason {
                        Some(reason) => respond.send_reset(reason),
                        // Breaks the connection.
                        None => return,
                    }
                }
            });
        }
    });
    Ok(endpoint)
}

#[tokio::test]
async fn what_a_server_refuses_goes_to_another_with_its_body() -> Result<()> {
    let registry = registry()?;
    let server = Server::start(&registry, "").await?;
    let cache = Arc::new(LiteEndpoint::new());
    cache.add_or_update(&refusing(Some(Reason::REFUSED_STREAM)).await?, b"");
    cache.add_or_update(&server.endpoint, b"");
    cache.on_event(&Event::Synced);
    let channel = Channel::builder(&cache).protocol(Protocol::Http2).options(options()).build();
    timeout(DEADLINE, channel.ready(2)).await?;
    for _ in 0..50 {
        let request = http::Request::post("/").body(Full::from(vec![7; 1000]))?;
        assert_eq!(ask(&channel, request).await?, format!("{} 1000", server.endpoint));
    }
    assert!(channel.status().retries > 0, "{:?}", channel.status());
    Ok(())
}

#[tokio::test]
async fn what_may_have_been_processed_is_sent_again_only_where_that_is_allowed() -> Result<()> {
    for reason in [None, Some(Reason::INTERNAL_ERROR)] {
        let registry = registry()?;
        let server = Server::start(&registry, "").await?;
        let cache = Arc::new(LiteEndpoint::new());
        cache.add_or_update(&refusing(reason).await?, b"");
        cache.on_event(&Event::Synced);
        let channel = Channel::builder(&cache).protocol(Protocol::Http2).options(options()).build();
        timeout(DEADLINE, channel.ready(1)).await?;
        let request = || http::Request::post("/").body(Full::<Bytes>::from(vec![7; 1000]));
        let error = channel.send(request()?).await.unwrap_err();
        assert!(matches!(error, Error::Broken { .. }) && !error.is_unprocessed(), "{error:?}");

        cache.add_or_update(&server.endpoint, b"");
        timeout(DEADLINE, channel.ready(2)).await?;
        for _ in 0..20 {
            let mut request = request()?;
            request.extensions_mut().insert(Repeatable);
            assert_eq!(ask(&channel, request).await?, format!("{} 1000", server.endpoint));
        }
    }
    Ok(())
}

/// A server that takes the head of a request and the first byte of its body, and breaks the connection.
async fn biting() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(bite(stream));
        }
    });
    Ok(endpoint)
}

/// Speaks HTTP/2 if the client begins so, else HTTP/1.1.
async fn bite(mut stream: TcpStream) -> Result<()> {
    let mut start = [0; 4];
    stream.peek(&mut start[..1]).await?;
    if start[0] == b'P' && stream.peek(&mut start).await? == 4 && &start == b"PRI " {
        let mut connection = h2::server::handshake(stream).await?;
        if let Some(request) = connection.accept().await {
            let (mut request, _respond) = request?;
            tokio::select! {
                first = request.body_mut().data() => drop(first.context("no body")??),
                // Nothing is read else.
                _ = connection.accept() => {}
            }
        }
        return Ok(());
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    stream.read_u8().await?;
    Ok(())
}

#[tokio::test]
async fn a_body_of_which_a_byte_was_sent_is_never_sent_again() -> Result<()> {
    for protocol in BOTH {
        let registry = registry()?;
        let other = Server::start(&registry, "").await?;
        let cache = Arc::new(LiteEndpoint::new());
        cache.add_or_update(&biting().await?, b"");
        // It gets what is sent again, and nothing else.
        cache.add_or_update(&other.endpoint, br#"{"weight":0}"#);
        cache.on_event(&Event::Synced);
        let channel = Channel::builder(&cache).protocol(protocol).options(options()).build();
        timeout(DEADLINE, channel.ready(2)).await?;
        let request = http::Request::put("/").body(Full::<Bytes>::from(vec![7; 1000]))?;
        let error = timeout(DEADLINE, channel.send(request)).await?.unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{protocol:?}: {error:?}");
        assert_eq!((channel.status().retries, other.traffic.requests()), (0, 0), "{protocol:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_given_up_holds_nothing() -> Result<()> {
    for protocol in BOTH {
        let registry = registry()?;
        let server = Server::start(&registry, "").await?;
        let channel = channel(&registry.watch("orders")?, protocol);
        timeout(DEADLINE, channel.ready(1)).await?;
        tokio::select! {
            answer = channel.send(get("/never")) => panic!("answered: {answer:?}"),
            is_there = until(|| server.traffic.in_flight() == 1) => is_there?,
        }
        assert_eq!(channel.status().in_flight, 0, "{protocol:?}");
        timeout(DEADLINE, server.traffic.quiet(Duration::ZERO)).await?;
        assert!(ask(&channel, get("/")).await?.starts_with(&server.endpoint));
    }
    Ok(())
}

#[tokio::test]
async fn health_checks_are_no_traffic() -> Result<()> {
    let registry = registry()?;
    let server = Server::start(&registry, "").await?;
    let channel = channel(&registry.watch("orders")?, Protocol::Http1);
    ask(&channel, get("/healthz")).await?;
    assert_eq!(server.traffic.requests(), 0);
    ask(&channel, get("/orders")).await?;
    assert_eq!(server.traffic.requests(), 1);
    until(|| server.traffic.in_flight() == 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_registered_while_it_serves_and_gone_before_it_ends() -> Result<()> {
    let registry = registry()?;
    let (stays, orders) = (Server::start(&registry, "").await?, registry.watch("orders")?);
    let (listener, traffic) = (TcpListener::bind("127.0.0.1:0").await?, Traffic::new());
    let register = registry.register(RegisterConfig {
        service_name: "orders".into(),
        service_endpoint: listener.local_addr()?.to_string(),
        ..Default::default()
    })?;
    let channel = channel(&orders, Protocol::Http1);
    let app = Router::new().fallback(async || "here").layer(traffic.clone());
    let leaving = Leaving::default()
        .seen_by(orders.endpoints(), &listener.local_addr()?.to_string())
        .settle(Duration::from_millis(50))
        .quiet(Duration::from_millis(300));
    let (end, told) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let told = async { drop(told.await) };
        serve(register, traffic, leaving, told, |shutdown| {
            axum::serve(listener, app).with_graceful_shutdown(shutdown)
        })
        .await
    });
    timeout(DEADLINE, channel.ready(2)).await?;
    let (left, seen) = under_load(&channel, 4, async {
        end.send(()).ok().context("it has ended")?;
        anyhow::Ok(timeout(DEADLINE, serving).await???)
    })
    .await?;
    let left = left?;
    assert!(left.is_quiet && left.error.is_none() && left.in_flight == 0, "{left:?}");
    assert_eq!((seen.failed.len(), seen.broken), (0, 0), "{seen:?}");
    assert_eq!(orders.list(), std::slice::from_ref(&stays.endpoint));
    Ok(())
}
