//! Consul: how it is started, and what it is asked.

use anyhow::{Context, Result};

use super::access::Door;
use super::ask::get;
use super::layout::{Layout, Plan};

/// Quick elections, and no question to the outside world.
const CONFIG: &str = "performance { raft_multiplier = 1 } disable_update_check = true";

pub(crate) fn plan(layout: &Layout<'_>) -> Plan {
    let node = layout.node();
    let (bind, port) = layout.client_bind;
    let [serf, server] = node.peer_ports;
    let mut args = vec![
        "agent".into(),
        "-server".into(),
        format!("-bootstrap-expect={}", layout.nodes.len()),
        format!("-node={}", node.name),
        format!("-node-id={}", node.id),
        format!("-data-dir={}/consul", layout.data),
        format!("-bind={}", layout.peer_bind),
        format!("-client={bind}"),
        format!("-serf-lan-port={serf}"),
        format!("-server-port={server}"),
        "-dns-port=-1".into(),
        "-grpc-port=-1".into(),
        "-serf-wan-port=-1".into(),
        "-retry-interval=1s".into(),
        "-log-level=warn".into(),
        format!("-hcl={CONFIG}"),
    ];
    // Where peers reach it by a name, it tells them the address it listens on.
    if node.host.parse::<std::net::IpAddr>().is_ok() {
        args.push(format!("-advertise={}", node.host));
    }
    args.extend(if layout.extra.access.is_tls() {
        ["-http-port=-1".into(), format!("-https-port={port}")]
    } else {
        [format!("-http-port={port}"), "-https-port=-1".into()]
    });
    for other in layout.nodes.iter().filter(|other| other.name != node.name) {
        args.push(format!("-retry-join={}:{}", other.host, other.peer_ports[0]));
    }
    if !layout.extra.config.is_empty() {
        args.push(format!("-hcl={}", layout.filled(&layout.extra.config)));
    }
    args.extend(layout.extra_args());
    Plan { args, ..Plan::default() }
}

pub(crate) async fn answers(door: Door<'_>) -> bool {
    let leader = get(door, "/v1/status/leader").await;
    let led = leader.is_ok_and(|leader| leader.as_str().is_some_and(|leader| !leader.is_empty()));
    // With ACLs it begins in a legacy mode, in which no token is known.
    led && (door.headers().is_empty() || get(door, "/v1/acl/token/self").await.is_ok())
}

pub(crate) async fn leads(door: Door<'_>) -> Result<bool> {
    Ok(get(door, "/v1/agent/self").await?["Stats"]["consul"]["leader"] == "true")
}

pub(crate) async fn version(door: Door<'_>) -> Result<String> {
    let agent = get(door, "/v1/agent/self").await?;
    agent["Config"]["Version"].as_str().map(str::to_owned).context("no version")
}
