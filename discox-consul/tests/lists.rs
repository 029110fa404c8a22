//! What a watch tells of a real agent's lists, against a full parse of the same list.

#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use bytes::Bytes;
use common::*;
use discox_consul::RegisterConfig;
use discox_core::{
    backend::{Link, Replace},
    record::Record,
};
use serde_json::{Value, json};
use tokio::time::Instant;

const INSTANCES: usize = 40;
/// The endpoint that discox registers among them.
const OURS: &str = "10.0.9.9:80";

/// One step of a random life.
async fn step(at: &str, random: &mut fastrand::Rng) -> Result<()> {
    let id = format!("demo-{}", random.usize(..INSTANCES));
    let registered = services(at).await?.contains_key(&id);
    match random.u8(..8) {
        _ if !registered => register(at, &id, random).await,
        0 => put(at, &format!("agent/service/deregister/{id}"), &json!("")).await,
        1 => put(at, &format!("agent/service/maintenance/{id}?enable=true"), &json!("")).await,
        2 => put(at, &format!("agent/service/maintenance/{id}?enable=false"), &json!("")).await,
        3 => put(at, &format!("agent/check/fail/service:{id}?note=no"), &json!("")).await,
        4 => put(at, &format!("agent/check/warn/service:{id}"), &json!("")).await,
        5 => put(at, &format!("agent/check/pass/service:{id}?note={}", random.u8(..)), &json!("")).await,
        _ => register(at, &id, random).await,
    }
}

/// Some of them are of one endpoint, and some of two services whose names Consul takes for one.
async fn register(at: &str, id: &str, random: &mut fastrand::Rng) -> Result<()> {
    let body = json!({
        "ID": id, "Name": "demo", "Address": format!("10.0.0.{}", random.u8(1..30)), "Port": 80,
        "Meta": {"weight": random.u8(..3).to_string()}, "Tags": [random.u8(..3).to_string()],
        "Check": {"TTL": "600s", "Status": "passing"},
    });
    put(at, "agent/service/register", &body).await
}

/// Endpoint and attr of what is to be served, by a parse of the whole answer.
async fn parsed_in_full(at: &str) -> Result<BTreeMap<String, (u64, String)>> {
    let mut best = BTreeMap::<String, (u64, String)>::new();
    for instance in get(at, "health/service/demo").await?.as_array().unwrap() {
        let is_passing = |check: &Value| check["Status"] == "passing";
        if !instance["Checks"].as_array().unwrap().iter().all(is_passing) {
            continue;
        }
        let service = &instance["Service"];
        let endpoint = format!("{}:80", service["Address"].as_str().unwrap());
        let found = (service["ModifyIndex"].as_u64().unwrap(), service["Meta"].to_string());
        match best.get(&endpoint) {
            Some(known) if *known > found => {}
            _ => drop(best.insert(endpoint, found)),
        }
    }
    Ok(best)
}

#[tokio::test]
async fn a_watch_tells_what_a_full_parse_of_a_real_agents_list_says() -> Result<()> {
    let servers = consul().await?;
    let at = servers.member(0).address();
    let link = link(at).await?;
    // Nobody passes its check meanwhile.
    let ttl = Some(Duration::from_secs(3600));
    let ours = Record::parse(&RegisterConfig { ttl, ..registration(OURS) })?;
    link.register(&ours, r#"{"weight":"9"}"#, Replace::Anyone).await?;
    let (mut shown, mut watch) = open(&link).await?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut changes = 0;
    for _ in 0..12 {
        for _ in 0..random.usize(1..12) {
            step(at, &mut random).await?;
        }
        let began = Instant::now();
        loop {
            let full = parsed_in_full(at).await?;
            let expected: Vec<_> = full
                .into_iter()
                .filter(|(endpoint, _)| endpoint != OURS)
                .map(|(endpoint, (_, attr))| (endpoint, Bytes::from(attr)))
                .collect();
            let theirs: Vec<_> = shown.iter().filter(|(endpoint, _)| endpoint != OURS).cloned().collect();
            if theirs == expected {
                break;
            }
            ensure!(began.elapsed() < DEADLINE, "{theirs:?} instead of {expected:?}");
            shown = next(&mut watch).await?;
            changes += 1;
        }
        let own = shown.iter().find(|(endpoint, _)| endpoint == OURS);
        assert_eq!(own.map(|(_, attr)| &attr[..]), Some(&br#"{"weight":"9"}"#[..]));
    }
    assert!(changes >= 10, "{changes}");
    Ok(())
}
