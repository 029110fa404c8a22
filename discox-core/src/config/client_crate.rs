//! Which client crate serves a backend.

use std::{fmt, str::FromStr};

use crate::{BackendType, Error, Result};

/// The crates that speak to a registry, where there is a choice. Each is compiled in by the Cargo
/// feature of its name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ClientCrate {
    /// Consul, the default.
    Reqwest,
    /// Consul.
    Consulrs,
    /// ZooKeeper, the default.
    ZookeeperClient,
    /// ZooKeeper.
    ZookeeperAsync,
}

impl ClientCrate {
    const ALL: [Self; 4] = [Self::Reqwest, Self::Consulrs, Self::ZookeeperClient, Self::ZookeeperAsync];

    /// The crate's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reqwest => "reqwest",
            Self::Consulrs => "consulrs",
            Self::ZookeeperClient => "zookeeper-client",
            Self::ZookeeperAsync => "zookeeper-async",
        }
    }

    /// The registry that it speaks to.
    pub const fn backend(self) -> BackendType {
        match self {
            Self::Reqwest | Self::Consulrs => BackendType::Consul,
            Self::ZookeeperClient | Self::ZookeeperAsync => BackendType::Zookeeper,
        }
    }
}

impl fmt::Display for ClientCrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ClientCrate {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let reason = "use reqwest|consulrs|zookeeper-client|zookeeper-async";
        let known = Self::ALL.into_iter().find(|client| client.as_str() == name);
        known.ok_or_else(|| Error::config("client", name, reason))
    }
}
