//! What the registries' own tools say of a service's records, and what is done to those by hand.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{book::Expected, session_closer, stage::Stage};
use crate::server::{
    Kind, Member,
    ask::{four_letters, get, put},
};

/// A record as the registry has it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) endpoint: String,
    /// None where the tool does not show it.
    pub(crate) attr: Option<String>,
    /// Whether it is served: on Consul, a record stays for a while when its check has failed.
    pub(crate) served: bool,
    /// Consul's ID of it.
    id: String,
}

/// All records of the service.
pub(crate) async fn records(stage: &Stage) -> Result<Vec<Stored>> {
    let member = answering(stage).await?;
    let Stage { prefix, service, .. } = stage;
    match stage.kind() {
        Kind::Etcd => {
            let listed = member.tool(&["get", "--prefix", &format!("{prefix}/{service}/")]).await?;
            let lines: Vec<_> = listed.lines().collect();
            Ok(lines
                .chunks(2)
                .filter_map(|pair| Stored::plain(pair.first()?, pair.get(1).copied()))
                .collect())
        }
        Kind::Zookeeper => {
            let member = match stage.servers.leader().await {
                Some((_, leader)) => leader,
                None => member,
            };
            let dump = four_letters(member.address(), "dump").await?;
            let of_service = format!("{prefix}/{service}/");
            let paths = dump.lines().map(str::trim).filter(|line| line.starts_with(&of_service));
            Ok(paths.filter_map(|path| Stored::plain(path, None)).collect())
        }
        Kind::Consul => {
            let instances = get(member.address(), &format!("/v1/health/service/{service}")).await?;
            Ok(instances.as_array().context("no list")?.iter().filter_map(Stored::of_consul).collect())
        }
    }
}

impl Stored {
    fn plain(path: &str, attr: Option<&str>) -> Option<Self> {
        let endpoint = path.rsplit('/').next()?.to_owned();
        Some(Self { endpoint, attr: attr.map(str::to_owned), served: true, id: String::new() })
    }

    fn of_consul(instance: &Value) -> Option<Self> {
        let service = &instance["Service"];
        let endpoint = format!("{}:{}", service["Address"].as_str()?, service["Port"]);
        let attr = service["Meta"]["discox-attr-00"].as_str().map(str::to_owned);
        let served = instance["Checks"].as_array()?.iter().all(|check| check["Status"] == "passing");
        Some(Self { endpoint, attr, served, id: service["ID"].as_str()?.to_owned() })
    }
}

/// How the records differ from what they should be; empty if they do not.
pub(crate) fn disagreement(records: &[Stored], expected: &Expected) -> String {
    let mut served = BTreeMap::new();
    for record in records {
        let wanted = expected.live.get(&record.endpoint);
        if record.served {
            let attr = record.attr.clone().or_else(|| wanted.cloned()).unwrap_or_default();
            served.insert(record.endpoint.clone(), attr);
        }
        if wanted.is_some() && records.iter().filter(|other| other.endpoint == record.endpoint).count() > 1 {
            return format!("{} has several records: {records:?}", record.endpoint);
        }
    }
    expected.differences(&served)
}

/// Deletes an endpoint's record.
pub(crate) async fn delete(stage: &Stage, endpoint: &str) -> Result<()> {
    let member = answering(stage).await?;
    let path = path(stage, endpoint);
    match stage.kind() {
        Kind::Etcd => drop(member.tool(&["del", &path]).await?),
        Kind::Zookeeper => drop(member.tool(&["delete", &path]).await?),
        Kind::Consul => {
            let id = id(stage, endpoint).await?;
            put(agent_of(stage, &id).await?, &format!("/v1/agent/service/deregister/{id}"), &Value::Null)
                .await?;
        }
    }
    Ok(())
}

/// Writes something else into an endpoint's record, and returns what a watcher makes of it.
pub(crate) async fn overwrite(stage: &Stage, endpoint: &str) -> Result<String> {
    let member = answering(stage).await?;
    let path = path(stage, endpoint);
    let attr = r#"{"by":"hand"}"#;
    // Before it is done: watchers are quick.
    stage.book.also(endpoint, attr);
    match stage.kind() {
        Kind::Etcd => drop(member.tool(&["put", &path, attr]).await?),
        Kind::Zookeeper => drop(member.tool(&["set", &path, attr]).await?),
        Kind::Consul => {
            let (host, port) = endpoint.rsplit_once(':').context("no port")?;
            let id = id(stage, endpoint).await?;
            let service = json!({
                "ID": id, "Name": stage.service, "Address": host, "Port": port.parse::<u16>()?, "Meta": { "by": "hand" },
            });
            put(agent_of(stage, &id).await?, "/v1/agent/service/register", &service).await?;
        }
    }
    Ok(attr.to_owned())
}

/// Consul: deregisters the check of an endpoint's record.
pub(crate) async fn deregister_check(stage: &Stage, endpoint: &str) -> Result<()> {
    let member = answering(stage).await?;
    let id = id(stage, endpoint).await?;
    let checks = get(member.address(), "/v1/agent/checks").await?;
    let of_record = |check: &&Value| check["ServiceID"] == *id;
    let check = checks.as_object().into_iter().flat_map(|all| all.values()).find(of_record);
    let check = check.and_then(|check| check["CheckID"].as_str()).context("the record has no check")?;
    put(agent_of(stage, &id).await?, &format!("/v1/agent/check/deregister/{check}"), &Value::Null).await
}

/// etcd: revokes all leases, and returns how many there were.
pub(crate) async fn revoke_leases(stage: &Stage) -> Result<usize> {
    let member = answering(stage).await?;
    let listed = member.tool(&["lease", "list"]).await?;
    let leases: Vec<_> = listed.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()).collect();
    for lease in &leases {
        member.tool(&["lease", "revoke", lease]).await?;
    }
    Ok(leases.len())
}

/// ZooKeeper: has the server close every session that has records of this service, and returns how many that
/// were.
pub(crate) async fn close_sessions(stage: &Stage) -> Result<usize> {
    let member = answering(stage).await?;
    let dump = four_letters(member.address(), "dump").await?;
    let of_service = format!("{}/{}/", stage.prefix, stage.service);
    let mut session = None;
    let mut sessions = std::collections::BTreeSet::new();
    for line in dump.lines().map(str::trim) {
        if let Some(id) = line.strip_prefix("0x").and_then(|line| line.strip_suffix(':')) {
            session = u64::from_str_radix(id, 16).ok();
        } else if line.starts_with(&of_service) {
            sessions.extend(session);
        }
    }
    for session in &sessions {
        session_closer::close(member.address(), *session).await?;
    }
    Ok(sessions.len())
}

/// etcd: compacts everything up to now.
pub(crate) async fn compact(stage: &Stage) -> Result<()> {
    let member = answering(stage).await?;
    let status: Value = serde_json::from_str(&member.tool(&["endpoint", "status", "-w", "json"]).await?)?;
    let revision = status[0]["Status"]["header"]["revision"].as_i64().context("no revision")?;
    member.tool(&["compaction", &revision.to_string()]).await?;
    Ok(())
}

/// Consul: the address of the agent that holds this record: another one would take a change for a record of its own.
async fn agent_of<'a>(stage: &'a Stage, id: &str) -> Result<&'a str> {
    for member in stage.servers.members() {
        if get(member.address(), &format!("/v1/agent/service/{id}")).await.is_ok() {
            return Ok(member.address());
        }
    }
    bail!("no agent holds {id}")
}

/// A member that answers.
pub(crate) async fn answering(stage: &Stage) -> Result<&Member> {
    for member in stage.servers.members() {
        if member.answers().await {
            return Ok(member);
        }
    }
    bail!("no member answers")
}

fn path(stage: &Stage, endpoint: &str) -> String {
    format!("{}/{}/{endpoint}", stage.prefix, stage.service)
}

async fn id(stage: &Stage, endpoint: &str) -> Result<String> {
    let records = records(stage).await?;
    let record = records.into_iter().find(|record| record.endpoint == endpoint);
    Ok(record.with_context(|| format!("no record of {endpoint}"))?.id)
}
