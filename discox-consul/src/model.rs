//! What Consul answers and is sent: JSON, as far as we read and write it.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Deserializer, Serialize};

use crate::meta::Meta;

/// One instance of a service, with its node and its checks.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Instance {
    pub(crate) node: Node,
    pub(crate) service: Service,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) checks: Vec<Check>,
}

/// The node that an instance is registered on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Node {
    #[serde(rename = "Node")]
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) address: String,
}

/// A service record, as the catalogue and the agent know it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Service {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(rename = "Service")]
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) address: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) port: i64,
    #[serde(deserialize_with = "or_default")]
    pub(crate) meta: Meta,
    #[serde(deserialize_with = "or_default")]
    pub(crate) modify_index: u64,
}

/// A check of a service or of its node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Check {
    #[serde(rename = "CheckID")]
    pub(crate) id: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) status: String,
}

/// What is registered with the agent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Registration {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) check: CheckDefinition,
}

/// The check that is registered with a service. Times are what Go parses, such as `15s`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CheckDefinition {
    #[serde(rename = "CheckID")]
    pub(crate) id: String,
    pub(crate) name: &'static str,
    pub(crate) status: &'static str,
    pub(crate) deregister_critical_service_after: String,
    #[serde(flatten)]
    pub(crate) probe: Probe,
}

/// How a check is decided.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Probe {
    /// By our heart beats.
    #[serde(rename_all = "UPPERCASE")]
    Ttl { ttl: String },
    /// By Consul, with a GET.
    Http {
        #[serde(rename = "HTTP")]
        url: String,
        #[serde(flatten)]
        pace: Pace,
    },
    /// By Consul, with a connection.
    Tcp {
        #[serde(rename = "TCP")]
        address: String,
        #[serde(flatten)]
        pace: Pace,
    },
    /// By Consul, with gRPC's health service.
    Grpc {
        #[serde(rename = "GRPC")]
        address: String,
        #[serde(flatten)]
        pace: Pace,
    },
}

/// How often Consul runs a check, and how long it waits for it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Pace {
    pub(crate) interval: String,
    pub(crate) timeout: String,
}

/// Services by ID.
pub(crate) type Services = HashMap<String, Service>;

/// What the catalogue has of one node; nothing when it does not know the node.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct OfNode {
    #[serde(deserialize_with = "or_default")]
    pub(crate) services: Vec<Service>,
}

/// The names in the catalogue, with the tags of each.
pub(crate) type Names = BTreeMap<String, serde::de::IgnoredAny>;

/// What the catalogue has of a record, as far as it says whose it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Owned {
    #[serde(deserialize_with = "or_default")]
    pub(crate) service_meta: Meta,
}

/// On which node the catalogue has a service.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct OnNode {
    pub(crate) node: String,
    #[serde(rename = "ServiceID")]
    pub(crate) service_id: String,
}

/// A node's service, which is to go from the catalogue.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NodeService<'a> {
    pub(crate) node: &'a str,
    #[serde(rename = "ServiceID")]
    pub(crate) service_id: &'a str,
}

/// Checks by ID.
pub(crate) type Checks = HashMap<String, Check>;

/// A question to Consul's own access control.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Question<'a> {
    pub(crate) resource: &'static str,
    pub(crate) segment: &'a str,
    pub(crate) access: &'static str,
}

/// The answer to a [`Question`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Ruling {
    pub(crate) allow: bool,
}

/// Consul writes null for what is empty.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
