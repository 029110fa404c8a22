//! Configuration: what users write. It is parsed once, by [`crate::record`] and by each backend.

use std::{fmt, str::FromStr, time::Duration};

use crate::{Error, ErrorKind, Layout, LayoutOptions};

/// Gives a struct of settings a comparison by field. All fields must be listed, in order of importance.
macro_rules! contradictions {
    ($settings:ty, $prefix:literal: $($field:ident)*) => {
        impl $settings {
            /// The first field that was set, to something else than `other` has.
            pub(crate) fn contradiction(&self, other: &Self) -> Option<&'static str> {
                let Self { $($field),* } = self;
                let unset = Self::default();
                $(if *$field != unset.$field && *$field != other.$field {
                    return Some(concat!($prefix, stringify!($field)));
                })*
                None
            }
        }
    };
}
use contradictions;

mod client_crate;
mod connection;
mod consul;
mod secret;
mod tls;
mod zookeeper;

pub use self::{
    client_crate::ClientCrate,
    connection::ConnectionConfig,
    consul::ConsulOptions,
    secret::Secret,
    tls::{Pem, TlsConfig},
    zookeeper::ZookeeperOptions,
};

/// The registries that discox speaks to.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum BackendType {
    /// etcd 3, by its gRPC interface.
    #[default]
    Etcd,
    /// Apache ZooKeeper.
    Zookeeper,
    /// HashiCorp Consul, by its HTTP interface.
    Consul,
    /// The embedded backend: a registry inside this process.
    Memory,
}

impl BackendType {
    pub(crate) const ALL: [Self; 4] = [Self::Etcd, Self::Zookeeper, Self::Consul, Self::Memory];

    /// `etcd`, `zookeeper`, `consul` or `memory`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Zookeeper => "zookeeper",
            Self::Consul => "consul",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for BackendType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for BackendType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|backend| backend.as_str() == name).ok_or_else(|| {
            let message = format!("unknown backend: {name}, use etcd|zookeeper|consul|memory");
            Error::new(ErrorKind::Config, message)
        })
    }
}

/// What to register, where, and how it is kept alive.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct RegisterConfig {
    /// Which registry. Ignored by the backend crates' own functions.
    pub backend_type: BackendType,
    /// Where the registry is: one or several members or agents. `memory` needs none.
    pub backend_endpoints: Vec<String>,
    /// What the service's records lie under, such as `/discox/demo`. May be empty. In another system's layout it is
    /// taken verbatim, and empty it is that system's own.
    pub discover_prefix: String,
    /// The service's name, one path segment.
    pub service_name: String,
    /// Where the service can be reached: `host:port` with an IPv4 address, `[IPv6]` or a DNS name.
    pub service_endpoint: String,
    /// Any UTF-8 text for those who discover the endpoint, such as JSON with a weight.
    pub attr: String,
    /// How often the record is confirmed. Default 5 s.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub heart_beat_period: Duration,
    /// How long the record outlives a process that died. Default: three heart beats.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub ttl: Option<Duration>,
    /// Consul only: a check that Consul runs instead of the TTL check: `host:port/path`,
    /// `http(s)://…`, `tcp://…` or `grpc://…`.
    pub health_check_endpoint: Option<String>,
    /// Whose records are written: discox's own, or those of another system.
    pub layout: Layout,
    /// What the layout needs to know.
    pub layout_options: LayoutOptions,
    /// How the connection to the registry is made and kept.
    pub connection: ConnectionConfig,
}

impl Default for RegisterConfig {
    fn default() -> Self {
        Self {
            backend_type: BackendType::default(),
            backend_endpoints: Vec::new(),
            discover_prefix: String::new(),
            service_name: String::new(),
            service_endpoint: String::new(),
            attr: String::new(),
            heart_beat_period: Duration::from_secs(5),
            ttl: None,
            health_check_endpoint: None,
            layout: Layout::default(),
            layout_options: LayoutOptions::default(),
            connection: ConnectionConfig::default(),
        }
    }
}

/// What to discover, and where.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct DiscoverConfig {
    /// Which registry. Ignored by the backend crates' own functions.
    pub backend_type: BackendType,
    /// Where the registry is: one or several members or agents. `memory` needs none.
    pub backend_endpoints: Vec<String>,
    /// What the service's records lie under, such as `/discox/demo`. May be empty. In another system's layout it is
    /// taken verbatim, and empty it is that system's own.
    pub discover_prefix: String,
    /// The service's name, one path segment.
    pub service_name: String,
    /// A name for the discovering host, shown in log lines. May be empty.
    pub host_name: String,
    /// How long the registry must have been reachable after an outage, in total, before records
    /// missing from it are removed from the cache. Default 15 s; zero turns the grace off.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub grace: Duration,
    /// Consul only: serve instances whose checks are `warning` as well as `passing`.
    pub include_warning: bool,
    /// Whose records are read: discox's own, or those of another system.
    pub layout: Layout,
    /// What the layout needs to know.
    pub layout_options: LayoutOptions,
    /// How the connection to the registry is made and kept.
    pub connection: ConnectionConfig,
}

impl Default for DiscoverConfig {
    fn default() -> Self {
        Self {
            backend_type: BackendType::default(),
            backend_endpoints: Vec::new(),
            discover_prefix: String::new(),
            service_name: String::new(),
            host_name: String::new(),
            grace: Duration::from_secs(15),
            include_warning: false,
            layout: Layout::default(),
            layout_options: LayoutOptions::default(),
            connection: ConnectionConfig::default(),
        }
    }
}

/// One connection that serves many registrations and discoveries.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct RegistryConfig {
    /// Which registry. Ignored by the backend crates' own functions.
    pub backend_type: BackendType,
    /// Where the registry is: one or several members or agents. `memory` needs none.
    pub backend_endpoints: Vec<String>,
    /// The prefix of what is made from this connection and has none of its own, such as `/discox/demo`.
    pub discover_prefix: String,
    /// The layout of what is made from this connection and is in discox's own.
    pub layout: Layout,
    /// The layout's options of what is made from this connection and has none of its own.
    pub layout_options: LayoutOptions,
    /// How the connection to the registry is made and kept.
    pub connection: ConnectionConfig,
}

/// A discovery of the service of this name; over a shared connection that is enough.
impl From<&str> for DiscoverConfig {
    fn from(service_name: &str) -> Self {
        Self::from(service_name.to_owned())
    }
}

/// A discovery of the service of this name; over a shared connection that is enough.
impl From<String> for DiscoverConfig {
    fn from(service_name: String) -> Self {
        Self { service_name, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_types_print_and_parse() {
        for name in ["etcd", "zookeeper", "consul", "memory"] {
            assert_eq!(name.parse::<BackendType>().unwrap().to_string(), name);
        }
        let error = "redis".parse::<BackendType>().unwrap_err();
        assert_eq!(error.to_string(), "unknown backend: redis, use etcd|zookeeper|consul|memory");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn files_write_durations_as_text_and_unknown_fields_are_told() {
        let config: RegisterConfig =
            serde_json::from_str(r#"{"backend_type":"consul","heart_beat_period":"10s","ttl":"1m"}"#)
                .unwrap();
        assert_eq!(config.heart_beat_period, Duration::from_secs(10));
        assert_eq!(config.ttl, Some(Duration::from_secs(60)));
        assert!(serde_json::from_str::<RegisterConfig>(r#"{"heart_beat":"10s"}"#).is_err());
    }
}
