//! The link against an agent that a real one cannot be told to be.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use common::{
    agent::{Agent, Answer, Request},
    *,
};
use discox_consul::{ConnectionConfig, Connector, Consul, Error, ErrorKind};
use discox_core::backend::{Link, Replace, Source, Watch};
use discox_testkit::wait::eventually;
use futures_util::future::{join_all, try_join_all};
use serde_json::json;
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

/// One instance, and Consul's index.
fn instance(port: u16, index: u64) -> Answer {
    let instance = json!([{"Node": {"Address": "10.0.0.9"}, "Service": {
        "ID": "x", "Service": "demo", "Address": "10.0.0.1", "Port": port, "Meta": {}}, "Checks": []}]);
    Answer::new(200, instance.to_string()).with("X-Consul-Index", index)
}

fn is_blocking(request: &Request) -> bool {
    request.query.contains_key("index")
}

async fn refused(answer: Answer) -> Result<Error> {
    let agent = Agent::start(move |_| answer.clone()).await?;
    let link = link(&agent.address).await?;
    source(&link, "demo")?.open().await.err().context("it was taken for a list")
}

#[tokio::test]
async fn a_cancelled_next_goes_on_with_the_same_query() -> Result<()> {
    let agent = Agent::start(|request| {
        if is_blocking(request) { instance(2, 6).after(Duration::from_millis(500)) } else { instance(1, 5) }
    })
    .await?;
    let link = link(&agent.address).await?;
    let (_, mut watch) = open(&link).await?;
    let mut cancelled = 0;
    let changes = loop {
        match timeout(Duration::from_millis(20), watch.next()).await {
            Ok(changes) => break changes?,
            Err(_) => cancelled += 1,
        }
    };
    assert!(cancelled > 5 && changes.len() == 2, "{cancelled} {changes:?}");
    let asked = agent.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(asked[1].query.get("index").map(String::as_str), Some("5"));
    assert_eq!(asked[1].query.get("wait").map(String::as_str), Some("10000ms"));
    Ok(())
}

#[tokio::test]
async fn a_heart_beat_that_is_cut_short_is_gone_on_with() -> Result<()> {
    const PASS: &str = "/v1/agent/check/pass/";
    let agent = Agent::start(|request| match &*request.path {
        path if path.starts_with(PASS) => Answer::new(200, "").after(Duration::from_millis(100)),
        path if path.starts_with("/v1/health/") => Answer::new(200, "[]").with("X-Consul-Index", 1),
        _ => Answer::new(200, "{}"),
    })
    .await?;
    let link = link(&agent.address).await?;
    // Three times as many as are passed at once.
    let endpoints: Vec<_> = (1..=48).map(|port| format!("10.0.0.1:{port}")).collect();
    let starts = endpoints.iter().map(|endpoint| async { hold(&link, record(endpoint)?, "1").await });
    let held = try_join_all(starts).await?;
    let before = agent.asked().len();
    eventually(DEADLINE, "all to be passed", async || {
        assert!(
            timeout(Duration::from_millis(180), link.verify(&held)).await.is_err(),
            "it was not cut short"
        );
        let asked = agent.asked();
        let passed = asked[before..].iter().filter(|request| request.path.starts_with(PASS));
        passed.map(|request| &*request.path).collect::<HashSet<_>>().len() == held.len()
    })
    .await
}

/// What is missing then may be alive: core holds removals only while the registry is lost.
#[tokio::test]
async fn an_index_that_went_back_is_a_loss() -> Result<()> {
    let agent = Agent::start(|request| match request.query.get("index").map(String::as_str) {
        None => instance(1, 12),
        Some("12") => instance(3, 13),
        Some("13") => instance(4, 7),
        Some(other) => Answer::new(400, other),
    })
    .await?;
    let link = link(&agent.address).await?;
    let (_, mut watch) = open(&link).await?;
    assert_eq!(next(&mut watch).await?, list(&[("10.0.0.1:3", "{}")]));
    let error = timeout(DEADLINE, watch.next()).await?.err().context("it was taken for a list")?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("the index went back from 13 to 7"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_query_that_ends_without_news_confirms_the_watch() -> Result<()> {
    let agent = Agent::start(|request| {
        let wait = Duration::from_millis(if is_blocking(request) { 600 } else { 0 });
        instance(1, 5).after(wait)
    })
    .await?;
    let settings = ConnectionConfig { detection: Duration::from_secs(2), ..Default::default() };
    let connector = Arc::new(Connector::parse(std::slice::from_ref(&agent.address), &settings)?);
    let link = Arc::new(Consul::connect(&connector).await?);
    let (_, mut watch) = open(&link).await?;
    for _ in 0..2 {
        assert_eq!(timeout(DEADLINE, watch.next()).await??, []);
    }
    Ok(())
}

/// Starts that were cancelled half-way: their requests may begin with the agent after they were withdrawn.
#[tokio::test]
async fn a_hundred_cancelled_starts_delay_the_next_withdrawal_by_a_moment() -> Result<()> {
    let agent = Agent::start(|request| match &*request.path {
        "/v1/agent/service/register" => Answer::new(200, "").after(Duration::from_secs(60)),
        path if path.starts_with("/v1/health/") => Answer::new(200, "[]").with("X-Consul-Index", 1),
        _ => Answer::new(200, "{}"),
    })
    .await?;
    let link = link(&agent.address).await?;
    let records: Vec<_> = (1..=100).map(|port| record(&format!("10.0.0.1:{port}"))).collect::<Result<_>>()?;
    let patience = Duration::from_secs(2);
    let starts = records.iter().map(|record| timeout(patience, link.register(record, "1", Replace::Anyone)));
    let cancelled = join_all(starts).await;
    assert!(cancelled.iter().all(Result::is_err));
    let began = Instant::now();
    for record in &records {
        link.withdraw(record, None).await?;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let last = format!("/v1/agent/service/deregister/demo-10.0.0.1-1-{}", records[0].incarnation);
    let removed = agent.asked().iter().filter(|request| request.path == last).count();
    assert_eq!(removed, 2, "what was on its way is removed again");
    Ok(())
}

#[tokio::test]
async fn constant_changes_are_told_together_but_the_first_at_once() -> Result<()> {
    let answers = AtomicU16::new(1);
    let agent = Agent::start(move |_| {
        let number = answers.fetch_add(1, Ordering::Relaxed);
        instance(number, number.into())
    })
    .await?;
    let link = link(&agent.address).await?;
    let (_, mut watch) = open(&link).await?;
    let began = Instant::now();
    next(&mut watch).await?;
    assert!(began.elapsed() < Duration::from_millis(70), "the first took {:?}", began.elapsed());
    for _ in 0..10 {
        next(&mut watch).await?;
    }
    assert!(began.elapsed() >= 10 * Duration::from_millis(80), "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn an_agent_that_holds_nothing_is_not_polled_without_pause() -> Result<()> {
    // It answers at once, always the same: a proxy that knows nothing of blocking, say.
    let agent = Agent::start(|_| instance(1, 5)).await?;
    let link = link(&agent.address).await?;
    let (_, mut watch) = open(&link).await?;
    let polling = async {
        while watch.next().await?.is_empty() {}
        Err::<(), _>(Error::new(ErrorKind::Protocol, "a change of nothing"))
    };
    assert!(timeout(Duration::from_millis(2500), polling).await.is_err());
    let asked = agent.asked().len();
    assert!((3..=5).contains(&asked), "{asked}");
    Ok(())
}

#[tokio::test]
async fn what_is_no_list_is_told_by_its_kind() -> Result<()> {
    let index = |status, body: &str| Answer::new(status, body).with("X-Consul-Index", 1);
    for (answer, kind) in [
        (index(200, "<html>"), ErrorKind::Protocol),
        (index(200, "{}"), ErrorKind::Protocol),
        (index(302, "").with("Location", "http://127.0.0.1:1/"), ErrorKind::Protocol),
        (index(400, "Bad request"), ErrorKind::Config),
        (index(403, "ACL not found"), ErrorKind::Denied),
        (index(429, "Your IP is issuing too many concurrent connections"), ErrorKind::Unavailable),
        (index(500, "No cluster leader"), ErrorKind::Unavailable),
        (index(500, "rpc error making call: Permission denied"), ErrorKind::Denied),
        (index(200, "[]").with("X-Consul-Results-Filtered-By-ACLs", "true"), ErrorKind::Denied),
    ] {
        let error = refused(answer.clone()).await.with_context(|| format!("{answer:?}"))?;
        assert_eq!(error.kind(), kind, "{answer:?}: {error}");
    }
    let long = refused(Answer::new(500, "very\nlong ".repeat(100_000))).await?.to_string();
    assert!(long.len() < 1000 && !long.contains('\n'), "{} bytes", long.len());
    Ok(())
}

#[tokio::test]
async fn an_empty_list_is_believed_when_we_may_read_it() -> Result<()> {
    for (status, ruling, denied) in [
        (200, json!([{"Allow": true}, {"Allow": true}]), false),
        (200, json!([{"Allow": false}, {"Allow": true}]), true),
        (200, json!([{"Allow": true}, {"Allow": false}]), true),
        (401, json!("ACL support disabled"), false),
        (404, json!("an old server"), false),
        (403, json!("ACL not found"), true),
    ] {
        let agent = Agent::start(move |request| {
            if request.path.ends_with("authorize") {
                Answer::new(status, ruling.to_string())
            } else {
                Answer::new(200, "[]").with("X-Consul-Index", 1)
            }
        })
        .await?;
        let link = link(&agent.address).await?;
        let opened = source(&link, "demo")?.open().await;
        assert_eq!(opened.is_err(), denied, "{status}");
        if let Err(error) = opened {
            assert_eq!(error.kind(), ErrorKind::Denied);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_silent_agent_delays_another_one_by_no_more_than_a_moment() -> Result<()> {
    // It accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let agent = Agent::start(|_| instance(1, 1)).await?;
    let connector = connector(&[silent.local_addr()?.to_string(), agent.address.clone()])?;
    for _ in 0..4 {
        let began = Instant::now();
        Consul::connect(&connector).await?;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    Ok(())
}
