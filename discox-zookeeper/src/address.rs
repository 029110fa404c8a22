//! `backend_endpoints`, parsed once.

use std::net::Ipv6Addr;

use discox_core::{BackendType, Error, Result, record::Service};

const FIELD: &str = "backend_endpoints";
const USE: &str = "use host:2181, the last one with an optional chroot: host:2181/apps";
const DEFAULT_PORT: u16 = 2181;

/// Where an ensemble is, and which part of its tree is ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    /// `host:port` of each member.
    pub(crate) members: Vec<String>,
    /// What all paths begin with: empty, or `/` and segments.
    pub(crate) chroot: String,
}

impl Address {
    /// Parses `host:port` of one or several members, in one text or several; the last with an
    /// optional chroot.
    pub(crate) fn parse(backend_endpoints: &[String]) -> Result<Self> {
        let joined = backend_endpoints.join(",");
        let reject = |value: &str, reason: &str| {
            let value = value.rsplit('@').next().unwrap_or_default();
            Err(Error::config(FIELD, value, format_args!("{reason}, {USE}"))
                .with_backend(BackendType::Zookeeper))
        };
        if backend_endpoints.is_empty() {
            return reject("", "must not be empty");
        }
        if joined.contains('@') {
            return reject(&joined, "user and password do not belong in an address");
        }
        if joined.contains("://") {
            return reject(&joined, "an address has no scheme");
        }
        let (hosts, chroot) = joined.find('/').map_or((joined.as_str(), ""), |at| joined.split_at(at));
        if chroot.contains(',') {
            return reject(&joined, "only the last address has a chroot");
        }
        let members = match hosts.split(',').map(|text| member(text).ok_or(text)).collect() {
            Ok(members) => members,
            Err(text) => return reject(text, "not an address"),
        };
        let Ok(chroot) = Service::parse(chroot, "demo").map(|service| service.prefix().to_owned()) else {
            return reject(chroot, "the chroot is not a path that ZooKeeper can store");
        };
        if let Some(reason) = unstorable(&chroot) {
            return reject(&chroot, reason);
        }
        Ok(Self { members, chroot })
    }
}

impl Address {
    /// The host of each member, an IPv6 address without brackets.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| Self::host(member))
    }

    /// The host of one.
    pub(crate) fn host(member: &str) -> &str {
        Self::parts(member).0
    }

    /// The host and the port of one.
    pub(crate) fn parts(member: &str) -> (&str, u16) {
        let (host, port) = member.rsplit_once(':').unwrap_or((member, ""));
        (host.trim_matches(['[', ']']), port.parse().unwrap_or(DEFAULT_PORT))
    }
}

/// Why ZooKeeper cannot store this path, though other registries can.
pub(crate) fn unstorable(path: &str) -> Option<&'static str> {
    if path.split('/').nth(1) == Some("zookeeper") {
        return Some("`/zookeeper` is reserved by ZooKeeper");
    }
    // Its servers look at UTF-16, and take half of such a character for a private one.
    path.chars().any(|c| c > '\u{ffff}').then_some("ZooKeeper cannot store characters above U+FFFF")
}

/// `host:port` in the form that the client takes, if it is one.
fn member(text: &str) -> Option<String> {
    let text = text.trim();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port != 0)?),
        _ => (text, DEFAULT_PORT),
    };
    let fine = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    };
    fine.then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Address> {
        Address::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn members_and_chroot_are_read() {
        for texts in [&["a:2181", "b:2182/x/y"][..], &["a:2181,b:2182/x/y"], &["a", "b:2182//x/y/"]] {
            let address = parse(texts).unwrap();
            assert_eq!(address.members, ["a:2181", "b:2182"]);
            assert_eq!(address.chroot, "/x/y");
        }
        assert_eq!(
            parse(&["[::1]:7/"]).unwrap(),
            Address { members: vec!["[::1]:7".into()], chroot: String::new() }
        );
        assert_eq!(parse(&["[::1]"]).unwrap().members, ["[::1]:2181"]);
    }

    #[test]
    fn bad_addresses_are_rejected_by_field() {
        for texts in [
            &[][..],
            &[""],
            &["a:0"],
            &["a:65536"],
            &["a:x"],
            &[":2181"],
            &["a b:1"],
            &["::1:2181"],
            &["a:1", ""],
            &["a:1/x", "b:1"],
            &["a:1/x,b:1"],
            &["http://a:1"],
            &["a:1/.."],
            &["a:1/zookeeper/x"],
            &["a:1/\u{1f600}"],
        ] {
            assert_eq!(parse(texts).unwrap_err().field(), Some(FIELD), "{texts:?}");
        }
    }

    #[test]
    fn credentials_are_not_repeated() {
        let error = parse(&["user:secret@a:2181"]).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn what_only_zookeeper_cannot_store_is_known() {
        assert!(unstorable("/zookeeper").is_some());
        assert!(unstorable("/zookeeper/a").is_some());
        assert!(unstorable("/a/\u{1f600}").is_some());
        assert!(unstorable("/zookeepers/zookeeper").is_none());
        assert!(unstorable("").is_none());
    }
}
