//! Consul: how it is started, and what it is asked.

use anyhow::{Context, Result};

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
        format!("-http-port={port}"),
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
    for other in layout.nodes.iter().filter(|other| other.name != node.name) {
        args.push(format!("-retry-join={}:{}", other.host, other.peer_ports[0]));
    }
    if !layout.extra.config.is_empty() {
        args.push(format!("-hcl={}", layout.filled(&layout.extra.config)));
    }
    args.extend(layout.extra_args());
    Plan { args, ..Plan::default() }
}

pub(crate) async fn answers(address: &str) -> bool {
    get(address, "/v1/status/leader").await.is_ok_and(|leader| leader.as_str().is_some_and(|l| !l.is_empty()))
}

pub(crate) async fn leads(address: &str) -> Result<bool> {
    Ok(get(address, "/v1/agent/self").await?["Stats"]["consul"]["leader"] == "true")
}

pub(crate) async fn version(address: &str) -> Result<String> {
    let agent = get(address, "/v1/agent/self").await?;
    agent["Config"]["Version"].as_str().map(str::to_owned).context("no version")
}
