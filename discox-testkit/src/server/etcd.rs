//! etcd: how it is started, and what it is asked.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::ask::{get, post};
use super::layout::{Layout, Node, Plan};

pub(crate) fn plan(layout: &Layout<'_>) -> Plan {
    let node = layout.node();
    let (bind, port) = layout.client_bind;
    let cluster: Vec<String> =
        layout.nodes.iter().map(|node| format!("{}={}", node.name, peer_url(node))).collect();
    let args = [
        format!("--name={}", node.name),
        format!("--data-dir={}/etcd", layout.data),
        format!("--listen-client-urls=http://{bind}:{port}"),
        // As the tests reach it: clients that ask for the members are sent there.
        format!("--advertise-client-urls=http://{}", node.address),
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

pub(crate) async fn answers(address: &str) -> bool {
    get(address, "/health").await.is_ok_and(|health| health["health"] == "true")
}

pub(crate) async fn leads(address: &str) -> Result<bool> {
    let status = post(address, "/v3/maintenance/status", &json!({})).await?;
    let leader = status["leader"].as_str().unwrap_or("0");
    Ok(leader != "0" && status["header"]["member_id"] == leader)
}

pub(crate) async fn version(address: &str) -> Result<String> {
    let version = get(address, "/version").await?;
    version["etcdserver"].as_str().map(str::to_owned).context("no version")
}

/// Tells the cluster, through a member that answers, that `node` starts again from nothing: etcd refuses a
/// known member that has lost its data. True when there was one to tell; else the cluster begins anew.
pub(crate) async fn replace(nodes: &[Node], node: &Node) -> Result<bool> {
    for other in nodes.iter().filter(|other| other.name != node.name) {
        if answers(&other.address).await {
            let list = post(&other.address, "/v3/cluster/member/list", &json!({})).await?;
            let known = list["members"].as_array().into_iter().flatten();
            // One that never started again since it was added has no name.
            if let Some(member) =
                known.into_iter().find(|member| member["peerURLs"] == json!([peer_url(node)]))
            {
                change(other, "remove", json!({ "ID": member["ID"] })).await?;
            }
            change(other, "add", json!({ "peerURLs": [peer_url(node)] })).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

async fn change(member: &Node, how: &str, what: Value) -> Result<()> {
    let path = format!("/v3/cluster/member/{how}");
    post(&member.address, &path, &what).await.with_context(|| format!("etcd member {how}"))?;
    Ok(())
}
