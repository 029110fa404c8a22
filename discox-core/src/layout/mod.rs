//! Layouts: how discox and other systems store their records. Pure functions, a table of them per layout and
//! registry, one file per layout; no I/O.
//!
//! A backend delivers records as `(name, value)` and writes `(key, value)`. A [`Format`] says where the records of a
//! service lie, what they are called, what is in them, and what endpoints a record holds:
//!
//! ```text
//! register:  Record, attr ── name, encode ──→ directory + "/" + name, value
//! discover:  name, value ── decode ──→ 0..=16 of (endpoint, attr, enabled)
//! ```
//!
//! attr stays the interface. What comes out of another system's record is a flat JSON object; its members `id`,
//! `scheme`, `weight`, `version`, `zone` and `enabled` are well known, all others are metadata: see
//! [`Instance`]. The record of a service that says nothing is `{}`.
//!
//! Consul has no paths and no values: there a layout is tags, Meta and the like, in `consul`. The backend does not use
//! that yet.

use std::{fmt, str::FromStr};

use crate::{BackendType, Error, Result, record::Service};

mod address;
mod attr;
#[cfg(feature = "consul-layouts")]
#[doc(hidden)]
pub mod consul;
mod curator;
mod dubbo;
mod format;
mod gomicro;
mod gozero;
mod grpc;
mod identity;
mod instance;
mod json;
mod kitex;
mod kratos;
mod options;
mod skydns;
mod stored;

#[doc(hidden)]
pub use self::format::{Decode, Decoded, Directory, Encode, Format, Found, Reason, Update};
pub use self::{
    instance::Instance,
    options::{InstanceId, LayoutOptions, Payload},
};

/// The most endpoints that are taken of one record.
pub const MAX_ENDPOINTS_PER_RECORD: usize = 16;

/// How the records of a service are stored: as discox does, or as another system does whose services are to find it,
/// or to be found.
///
/// Not every layout exists on every registry: see [`Layout::check`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Layout {
    /// discox's own.
    #[default]
    Discox,
    /// gRPC's naming with etcd: what `client/v3/naming` of etcd reads and writes.
    Grpc,
    /// go-zero.
    GoZero,
    /// Apache Curator's service discovery.
    Curator,
    /// Spring Cloud ZooKeeper, Spring Cloud Consul.
    Spring,
    /// Kratos.
    Kratos,
    /// Kitex.
    Kitex,
    /// Hertz.
    Hertz,
    /// Apache Dubbo.
    Dubbo,
    /// go-micro.
    GoMicro,
    /// CoreDNS's etcd plugin. Written only.
    Skydns,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Discox,
        Self::Grpc,
        Self::GoZero,
        Self::Curator,
        Self::Spring,
        Self::Kratos,
        Self::Kitex,
        Self::Hertz,
        Self::Dubbo,
        Self::GoMicro,
        Self::Skydns,
    ];

    /// The name in configurations, such as `go-zero`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discox => "discox",
            Self::Grpc => "grpc",
            Self::GoZero => "go-zero",
            Self::Curator => "curator",
            Self::Spring => "spring",
            Self::Kratos => "kratos",
            Self::Kitex => "kitex",
            Self::Hertz => "hertz",
            Self::Dubbo => "dubbo",
            Self::GoMicro => "go-micro",
            Self::Skydns => "skydns",
        }
    }

    /// How records are stored on a backend that has paths. None for a pair that does not exist, for discox's own
    /// layout, where the name is the endpoint and the value the attr, and for Consul.
    #[doc(hidden)]
    pub fn format(self, backend: BackendType) -> Option<&'static Format> {
        match (self, backend) {
            (Self::Grpc, BackendType::Etcd) => Some(&grpc::ETCD),
            (Self::Curator, BackendType::Zookeeper) => Some(&curator::CURATOR),
            (Self::Spring, BackendType::Zookeeper) => Some(&curator::SPRING),
            (Self::Kratos, BackendType::Etcd) => Some(&kratos::ETCD),
            (Self::Kratos, BackendType::Zookeeper) => Some(&kratos::ZOOKEEPER),
            (Self::GoZero, BackendType::Etcd) => Some(&gozero::ETCD),
            (Self::Kitex, BackendType::Etcd) => Some(&kitex::KITEX_ETCD),
            (Self::Hertz, BackendType::Etcd) => Some(&kitex::HERTZ_ETCD),
            (Self::Kitex | Self::Hertz, BackendType::Zookeeper) => Some(&kitex::ZOOKEEPER),
            (Self::Dubbo, BackendType::Zookeeper) => Some(&dubbo::ZOOKEEPER),
            (Self::GoMicro, BackendType::Etcd) => Some(&gomicro::ETCD),
            (Self::GoMicro, BackendType::Zookeeper) => Some(&gomicro::ZOOKEEPER),
            (Self::Skydns, BackendType::Etcd) => Some(&skydns::ETCD),
            _ => None,
        }
    }

    /// Whether the layout exists on this backend.
    pub fn exists_on(self, backend: BackendType) -> bool {
        self == Self::Discox || self.format(backend).is_some()
    }

    /// Rejects a pair of layout and backend that does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for the field `layout`, naming what does exist.
    pub fn check(self, backend: BackendType) -> Result<()> {
        if self.exists_on(backend) {
            return Ok(());
        }
        let others = Self::ALL.into_iter().filter(|layout| layout.exists_on(backend)).map(Self::as_str);
        let others: Vec<_> = others.collect();
        let mut reason = format!("does not exist on {backend}, which has {}", others.join("|"));
        let elsewhere = BackendType::ALL.into_iter().filter(|backend| self.exists_on(*backend));
        let elsewhere: Vec<_> = elsewhere.map(BackendType::as_str).collect();
        if !elsewhere.is_empty() {
            reason.push_str(&format!("; `{self}` exists on {}", elsewhere.join("|")));
        }
        Err(Error::config("layout", self, reason))
    }

    /// Another layout to which a record seems to belong, for a warning; none if there is no such or several.
    #[doc(hidden)]
    pub fn guess(backend: BackendType, name: &str, value: &[u8]) -> Option<Self> {
        let mut alike = Self::ALL
            .into_iter()
            .filter(|layout| layout.format(backend).is_some_and(|format| (format.looks_like)(name, value)));
        let first = alike.next()?;
        alike.next().is_none().then_some(first)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|layout| layout.as_str() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.into_iter().map(Self::as_str).collect();
            Error::config("layout", name, format_args!("unknown, use {}", names.join("|")))
        })
    }
}

/// The prefix of a service, or what stands for the empty one.
fn prefix<'a>(service: &'a Service, default: &'a str) -> &'a str {
    if service.prefix().is_empty() { default } else { service.prefix() }
}

/// A key of etcd: the parts that are not empty.
fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") }
}

/// A node of ZooKeeper: with a leading `/`.
fn node(prefix: &str, name: &str) -> String {
    format!("/{}", join(prefix.trim_start_matches('/'), name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RegisterConfig, record::Record};

    pub(super) fn record() -> Record {
        let config = RegisterConfig {
            service_name: "orders".into(),
            service_endpoint: "10.1.2.3:8080".into(),
            ..Default::default()
        };
        Record::parse(&config).unwrap()
    }

    /// What is made of a record of the service `orders`: `endpoint attr, …` and the complaint.
    pub(super) fn read(format: &Format, name: &str, value: &str, options: &LayoutOptions) -> String {
        let service = Service::parse("", "orders").unwrap();
        let decode = format.decode.expect("the layout is read");
        let decoded = match decode(name, value.as_bytes(), &service, options) {
            Ok(decoded) => decoded,
            Err(reason) => return format!("skipped: {reason}"),
        };
        let found = decoded.found.iter().map(|Found { endpoint, attr, enabled }| {
            let off = if *enabled { "" } else { " off" };
            format!("{endpoint} {}{off}", std::str::from_utf8(attr).unwrap())
        });
        let found = found.collect::<Vec<_>>().join(", ");
        match decoded.complaint {
            None => found,
            Some(complaint) => format!("{found} ({complaint})"),
        }
    }

    #[test]
    fn layouts_print_and_parse() {
        for layout in Layout::ALL {
            assert_eq!(layout.to_string().parse::<Layout>().unwrap(), layout);
        }
        let error = "nacos".parse::<Layout>().unwrap_err();
        assert!(error.to_string().contains("use discox|grpc|go-zero|"), "{error}");
    }

    #[test]
    fn pairs_that_do_not_exist_are_rejected_with_those_that_do() {
        assert!(Layout::Grpc.check(BackendType::Etcd).is_ok());
        assert!(Layout::Discox.check(BackendType::Memory).is_ok());
        let error = Layout::Grpc.check(BackendType::Zookeeper).unwrap_err();
        assert_eq!(error.field(), Some("layout"));
        let error = error.to_string();
        assert!(
            error.contains("discox|curator|spring|kratos|") && error.contains("`grpc` exists on etcd"),
            "{error}"
        );
    }
}
