//! The records of a service, read without discox and quickly enough to do it all the time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::server::{
    Kind, Servers,
    ask::{four_letters, get, post},
};

/// A server that does not answer within this is not asked for longer.
const PATIENCE: Duration = Duration::from_millis(400);

/// Reads one service's records.
pub(crate) struct Reader {
    pub(crate) servers: Arc<Servers>,
    pub(crate) prefix: String,
    pub(crate) service: String,
}

impl Reader {
    /// The endpoints, and whether each is served; None where no member answers for the whole registry at this moment.
    pub(crate) async fn read(&self) -> Option<BTreeMap<String, bool>> {
        for member in self.servers.members() {
            if let Ok(Ok(records)) = timeout(PATIENCE, self.of(member.address())).await {
                return Some(records);
            }
        }
        None
    }

    async fn of(&self, address: &str) -> Result<BTreeMap<String, bool>> {
        match self.servers.kind() {
            Kind::Etcd => self.of_etcd(address).await,
            Kind::Zookeeper => self.of_zookeeper(address).await,
            Kind::Consul => self.of_consul(address).await,
        }
    }

    /// By a read that needs the quorum.
    async fn of_etcd(&self, address: &str) -> Result<BTreeMap<String, bool>> {
        let first = format!("{}/{}/", self.prefix, self.service);
        let end = format!("{}/{}0", self.prefix, self.service);
        let range =
            json!({ "key": STANDARD.encode(&first), "range_end": STANDARD.encode(end), "keys_only": true });
        let answer = post(address, "/v3/kv/range", &range).await?;
        let keys = answer["kvs"].as_array().into_iter().flatten();
        let keys = keys.filter_map(|kv| String::from_utf8(STANDARD.decode(kv["key"].as_str()?).ok()?).ok());
        Ok(keys.filter_map(|key| Some((key.strip_prefix(&first)?.to_owned(), true))).collect())
    }

    /// By the list of ephemeral nodes, which only a leader has whole.
    async fn of_zookeeper(&self, address: &str) -> Result<BTreeMap<String, bool>> {
        let dump = four_letters(address, "dump").await?;
        anyhow::ensure!(dump.contains("Session Sets"), "not the leader's");
        let directory = format!("{}/{}/", self.prefix, self.service);
        let endpoints = dump.lines().filter_map(|line| line.trim().strip_prefix(&directory));
        Ok(endpoints.map(|endpoint| (endpoint.to_owned(), true)).collect())
    }

    async fn of_consul(&self, address: &str) -> Result<BTreeMap<String, bool>> {
        let instances = get(address, &format!("/v1/health/service/{}", self.service)).await?;
        let instances = instances.as_array().context("no list")?;
        let mut records = BTreeMap::new();
        for (endpoint, served) in instances.iter().filter_map(of_instance) {
            // Of several records of one endpoint a served one is shown.
            *records.entry(endpoint).or_insert(false) |= served;
        }
        Ok(records)
    }
}

fn of_instance(instance: &Value) -> Option<(String, bool)> {
    let service = &instance["Service"];
    let endpoint = format!("{}:{}", service["Address"].as_str()?, service["Port"]);
    let served = instance["Checks"].as_array()?.iter().all(|check| check["Status"] == "passing");
    Some((endpoint, served))
}
