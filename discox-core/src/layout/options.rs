//! What a layout may be told.

use std::{convert::Infallible, fmt, str::FromStr};

use crate::{Error, Result};

/// What a layout may be told. What a layout has no use for is ignored.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct LayoutOptions {
    /// The instance's ID, where records have one. Default: the endpoint, so that a restarted instance takes its own
    /// record over.
    pub instance_id: Option<InstanceId>,
    /// Registering: what the endpoint speaks, such as `http` or `grpc`. Discovering: of a record with several
    /// endpoints, the first of this scheme; records without one are left out. Default: the layout's own, and all.
    pub scheme: Option<String>,
    /// Curator: what a record's payload is.
    pub payload: Payload,
    /// Curator: write the member `enabled`, which clients older than 5.0 refuse.
    pub enabled: bool,
    /// Consul: further tags of the record.
    pub tags: Vec<String>,
    /// Kratos: further endpoints of the record, such as `grpc://10.1.2.3:9090`.
    pub extra_endpoints: Vec<String>,
    /// Dubbo: the service's group. Discovering: only providers of this group, if given.
    pub group: Option<String>,
    /// Dubbo: the interface's version. Discovering: only providers of this version, if given.
    pub version: Option<String>,
    /// Dubbo: the interface's methods.
    pub methods: Vec<String>,
    /// Dubbo: the application's name. Default: the interface's.
    pub application: Option<String>,
    /// Dubbo: discover applications (`/services/NAME`), not interfaces.
    pub application_level: bool,
    /// Discovering: serve instances that are disabled or out of service too, with `"enabled":false` in their attr.
    pub include_disabled: bool,
    /// Registering: leave out of the record what the layout cannot carry of an attr. Default: such an attr is
    /// rejected.
    pub lossy: bool,
}

/// An instance's ID.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "String", into = "String")
)]
#[non_exhaustive]
pub enum InstanceId {
    /// A new UUID for each start. A record that its process has left behind then stays until its TTL ends.
    Uuid,
    /// This one. Each of several registrations of a service needs its own.
    Text(String),
}

impl From<String> for InstanceId {
    fn from(text: String) -> Self {
        if text == "uuid" { Self::Uuid } else { Self::Text(text) }
    }
}

impl From<&str> for InstanceId {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.to_string()
    }
}

impl FromStr for InstanceId {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid => f.pad("uuid"),
            Self::Text(text) => f.pad(text),
        }
    }
}

/// What the payload of a Curator record is. All readers of a directory expect the same: a payload of another kind
/// fails their queries.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Payload {
    /// Null: every reader takes it. The record carries no attr.
    #[default]
    None,
    /// Text: the attr as it is.
    Text,
    /// The attr's members, as a `java.util.LinkedHashMap`.
    Json,
    /// The attr's members, as an object of this Java class.
    Class(String),
    /// An instance of Spring Cloud ZooKeeper, as layout `spring` has it.
    Spring,
}

impl FromStr for Payload {
    type Err = Error;

    /// `none`, `text`, `json`, `spring`, or `class=NAME`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "spring" => Ok(Self::Spring),
            _ => match text.strip_prefix("class=") {
                Some(class) if !class.is_empty() => Ok(Self::Class(class.to_owned())),
                _ => Err(Error::config("payload", text, "unknown, use none|text|json|spring|class=NAME")),
            },
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::Text => f.pad("text"),
            Self::Json => f.pad("json"),
            Self::Spring => f.pad("spring"),
            Self::Class(class) => write!(f, "class={class}"),
        }
    }
}
