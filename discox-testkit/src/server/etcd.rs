//! etcd: how it is started, and what it is asked.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::net::TcpStream;

use super::access::Door;
use super::ask::{get, post};
use super::layout::{Layout, Node, Plan};
use crate::wait::eventually_send;

/// An election on a busy machine, and then some.
const REPLACED_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn plan(layout: &Layout<'_>) -> Plan {
    let node = layout.node();
    let (bind, port) = layout.client_bind;
    let cluster: Vec<String> =
        layout.nodes.iter().map(|node| format!("{}={}", node.name, peer_url(node))).collect();
    let scheme = if layout.extra.access.is_tls() { "https" } else { "http" };
    let args = [
        format!("--name={}", node.name),
        format!("--data-dir={}/etcd", layout.data),
        format!("--listen-client-urls={scheme}://{bind}:{port}"),
        // As the tests reach it: clients that ask for the members are sent there.
        format!("--advertise-client-urls={scheme}://{}", node.address),
        format!("--listen-peer-urls=http://{}:{}", layout.peer_bind, node.peer_ports[0]),
        format!("--initial-advertise-peer-urls={}", peer_url(node)),
        format!("--initial-cluster={}", cluster.join(",")),
        format!("--initial-cluster-token={}", layout.nodes[0].name),
        format!("--initial-cluster-state={}", if layout.joining { "existing" } else { "new" }),
        // Else it lets a wiped member back only after the others have been healthy for some seconds.
        "--strict-reconfig-check=false".into(),
        // The data must outlive the process, not the machine.
        "--unsafe-no-fsync".into(),
        "--logger=zap".into(),
        "--log-level=warn".into(),
    ];
    Plan { args: args.into_iter().chain(layout.extra_args()).collect(), ..Plan::default() }
}

fn peer_url(node: &Node) -> String {
    format!("http://{}:{}", node.host, node.peer_ports[0])
}

pub(crate) async fn answers(door: Door<'_>) -> bool {
    get(door, "/health").await.is_ok_and(|health| health["health"] == "true")
}

pub(crate) async fn leads(door: Door<'_>) -> Result<bool> {
    let status = post(door, "/v3/maintenance/status", &json!({})).await?;
    let leader = status["leader"].as_str().unwrap_or("0");
    Ok(leader != "0" && status["header"]["member_id"] == leader)
}

pub(crate) async fn version(door: Door<'_>) -> Result<String> {
    let version = get(door, "/version").await?;
    version["etcdserver"].as_str().map(str::to_owned).context("no version")
}

/// Tells the cluster, through a member that answers, that `node` starts again from nothing: etcd refuses a
/// known member that has lost its data. True when there was one to tell; false when all others are down, and the
/// cluster begins anew.
pub(crate) async fn replace(nodes: &[Node], node: &Node) -> Result<bool> {
    let others: Vec<&Node> = nodes.iter().filter(|other| other.name != node.name).collect();
    // It may be electing a leader just now, and lose what it is told.
    eventually_send(REPLACED_WITHIN, "the cluster to take the member again", || async {
        match healthy(&others).await? {
            Some(other) => replace_by(other, node).await.is_ok().then_some(true),
            None => Some(false),
        }
    })
    .await
}

async fn replace_by(other: &Node, node: &Node) -> Result<()> {
    let list = post(other.address.as_str(), "/v3/cluster/member/list", &json!({})).await?;
    let mut known = list["members"].as_array().into_iter().flatten();
    // By its address: one that never started again since it was added has no name.
    if let Some(member) = known.find(|member| member["peerURLs"] == json!([peer_url(node)])) {
        post(other.address.as_str(), "/v3/cluster/member/remove", &json!({ "ID": member["ID"] })).await?;
    }
    post(other.address.as_str(), "/v3/cluster/member/add", &json!({ "peerURLs": [peer_url(node)] })).await?;
    Ok(())
}

/// A member that answers; None as long as one may still come to it.
async fn healthy<'a>(members: &[&'a Node]) -> Option<Option<&'a Node>> {
    let mut down = true;
    for member in members {
        if answers(member.address.as_str().into()).await {
            return Some(Some(member));
        }
        down &= TcpStream::connect(&member.address).await.is_err();
    }
    down.then_some(None)
}
