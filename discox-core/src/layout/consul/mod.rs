//! Layouts in Consul: one record can serve several systems at once, since each looks at other parts of it.
//!
//! discox keeps its own pairs in Meta, the attr in full among them: they decide whose record is in force, and other
//! systems show them as metadata. A layout adds what the other system looks at, and reads the records of others.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Decoded, Layout, LayoutOptions, Reason, address,
    attr::{ORIGINAL, Own, Read, Rules, Written},
};
use crate::{Error, Result, record::Record};

mod gomicro;
mod kitex;
mod kratos;
mod spring;

/// A service of Consul, as far as layouts look at it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConsulService {
    /// `Service.ID`.
    pub id: String,
    /// `Service.Service`.
    pub name: String,
    /// `Service.Address`; reading, the node's where that is empty.
    pub address: String,
    /// `Service.Port`.
    pub port: i64,
    /// `Service.Tags`.
    pub tags: Vec<String>,
    /// `Service.Meta`; without discox's own pairs.
    pub meta: BTreeMap<String, String>,
    /// `Service.TaggedAddresses`.
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// `Service.Weights.Passing`, or `.Warning` of an instance whose checks are so. None for Consul's default.
    pub weight: Option<u32>,
    /// It is in maintenance.
    pub in_maintenance: bool,
    /// The attr of a discox service, in full.
    pub attr: Option<String>,
}

/// An address of a service under a name of its own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TaggedAddress {
    /// A host, or with Kratos a URL.
    pub address: String,
    /// The port.
    pub port: i64,
}

/// What a layout adds to a service of Consul.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Additions {
    /// Its tags, the configured ones last.
    pub tags: Vec<String>,
    /// Pairs of its Meta.
    pub meta: BTreeMap<String, String>,
    /// Its tagged addresses.
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Its weight, 1 or more.
    pub weight: Option<u32>,
}

/// What a layout adds to the service of a record, for this attr.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) where it cannot carry the attr, or is told what it does not know.
pub fn encode(layout: Layout, record: &Record, attr: &str, options: &LayoutOptions) -> Result<Additions> {
    if options.instance_id.is_some() {
        let reason = "an ID in Consul is its incarnation's and cannot be chosen";
        return Err(Error::config("instance_id", reason, "leave it out"));
    }
    for tag in &options.tags {
        // go-micro's readers panic at the former two.
        if matches!(tag.as_str(), "e" | "t" | "") || tag.chars().any(char::is_control) {
            return Err(Error::config("tags", tag, "not a tag that every reader survives"));
        }
    }
    let mut additions = match layout {
        Layout::Spring => spring::encode(record, attr, options)?,
        Layout::Kratos => kratos::encode(record, attr, options)?,
        Layout::Kitex | Layout::Hertz => kitex::encode(record, attr, options)?,
        Layout::GoMicro => gomicro::encode(record, attr, options)?,
        _ => Additions::default(),
    };
    additions.tags.extend(options.tags.iter().cloned());
    Ok(additions)
}

/// The endpoints of a service.
///
/// # Errors
/// Why it has none.
pub fn decode(layout: Layout, service: &ConsulService, options: &LayoutOptions) -> Result<Decoded, Reason> {
    match layout {
        Layout::Kratos => kratos::decode(service, options),
        Layout::Kitex => kitex::decode(service, false),
        Layout::Hertz => kitex::decode(service, true),
        Layout::GoMicro => gomicro::decode(service, options),
        _ => spring::decode(service, options),
    }
}

/// The attr as a record of Consul says it. What is lost is in discox's own pairs.
fn written(record: &Record, attr: &str, rules: &Rules) -> Written {
    let own = Own { endpoint: record.endpoint.as_str(), id: None, scheme: None };
    let mut written = Written::of(attr, rules, &own);
    written.others.remove(ORIGINAL);
    written
}

/// The endpoint of address and port.
fn endpoint(service: &ConsulService) -> Result<String, Reason> {
    let port = u16::try_from(service.port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| Reason::new("its port is not one of 1..=65535"))?;
    address::join(&service.address, port).ok_or_else(|| Reason::new("its address is no host"))
}

/// What a service says, with this metadata.
fn read(service: &ConsulService, metadata: Map<String, Value>) -> Read {
    Read {
        id: Some(service.id.clone()),
        disabled: service.in_maintenance,
        original: service.attr.clone(),
        metadata,
        ..Read::default()
    }
}

fn values(meta: &BTreeMap<String, String>) -> Map<String, Value> {
    meta.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::record;

    const LAYOUTS: [Layout; 5] =
        [Layout::Spring, Layout::Kratos, Layout::Kitex, Layout::Hertz, Layout::GoMicro];

    pub(super) fn service(additions: Additions) -> ConsulService {
        let Additions { tags, meta, tagged_addresses, weight } = additions;
        ConsulService {
            id: "orders-1".into(),
            name: "orders".into(),
            address: "10.1.2.3".into(),
            port: 8080,
            tags,
            meta,
            tagged_addresses,
            weight,
            ..Default::default()
        }
    }

    pub(super) fn shown(decoded: Result<Decoded, Reason>) -> String {
        match decoded {
            Err(reason) => format!("skipped: {reason}"),
            Ok(decoded) => decoded
                .found
                .iter()
                .map(|found| format!("{} {}", found.endpoint, std::str::from_utf8(&found.attr).unwrap()))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    #[test]
    fn what_one_writes_it_reads() {
        let attr = r#"{"env":"prod","version":"v1.2.0","weight":10,"zone":"a"}"#;
        for layout in LAYOUTS {
            let options = LayoutOptions { scheme: Some("https".into()), ..Default::default() };
            let additions = encode(layout, &record(), attr, &options).unwrap();
            let decoded = decode(layout, &service(additions), &options).unwrap();
            let attr: Value = serde_json::from_slice(&decoded.found[0].attr).unwrap();
            let expected = ["prod", "v1.2.0", "a"].map(Value::from);
            assert_eq!(
                [&attr["env"], &attr["version"], &attr["zone"]],
                [&expected[0], &expected[1], &expected[2]],
                "{layout}"
            );
            assert_eq!(
                (&attr["weight"], &*decoded.found[0].endpoint),
                (&10.into(), "10.1.2.3:8080"),
                "{layout}"
            );
        }
    }

    #[test]
    fn an_attr_of_discox_comes_back_whole() {
        for layout in LAYOUTS {
            for attr in ["text", r#"{"a":{"b":[1]},"x.y":2}"#] {
                let options = LayoutOptions::default();
                let mut service = service(encode(layout, &record(), attr, &options).unwrap());
                service.attr = Some(attr.to_owned());
                let decoded = decode(layout, &service, &options).unwrap();
                let read = String::from_utf8_lossy(&decoded.found[0].attr);
                match serde_json::from_str::<Value>(attr) {
                    Err(_) => assert_eq!(read, attr, "{layout}"),
                    Ok(attr) => {
                        let read: Value = serde_json::from_str(&read).unwrap();
                        assert_eq!((&read["a"], &read["x.y"]), (&attr["a"], &attr["x.y"]), "{layout}");
                    }
                }
            }
        }
    }

    #[test]
    fn tags_and_ids_are_checked() {
        for tag in ["e", "t", "", "a\n"] {
            let options = LayoutOptions { tags: vec![tag.into()], ..Default::default() };
            let error = encode(Layout::Spring, &record(), "", &options).unwrap_err();
            assert_eq!(error.field(), Some("tags"), "{tag:?}");
        }
        let options = LayoutOptions { instance_id: Some("x".into()), ..Default::default() };
        assert_eq!(encode(Layout::Kratos, &record(), "", &options).unwrap_err().field(), Some("instance_id"));
    }

    #[test]
    fn a_service_without_a_port_or_host_has_no_endpoint() {
        for layout in LAYOUTS {
            for (address, port) in
                [("10.1.2.3", 0), ("10.1.2.3", 65_536), ("10.1.2.3", -1), ("", 1), ("a b", 1)]
            {
                let service = ConsulService { address: address.into(), port, ..Default::default() };
                let decoded = decode(layout, &service, &LayoutOptions::default());
                assert!(decoded.is_err(), "{layout} {address}:{port}");
            }
        }
    }
}
