//! The record: how it is stored in Consul, and how it is read back.

use std::{collections::BTreeMap, fmt, net::Ipv6Addr, num::NonZeroU64, time::SystemTime};

use bytes::Bytes;
use discox_core::{
    Error, Result,
    record::{Endpoint, Incarnation, Record},
};
use serde_json::Value;

use crate::{
    meta::Meta,
    model::{Instance, Service},
};

/// What Consul allows in a record's Meta: pairs, bytes of a key, bytes of a value.
const PAIRS: usize = 64;
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 512;
/// A value is cut where a character ends, which costs at most this much.
const CUT: usize = 3;

/// All our keys begin with this; the key itself marks the record as ours and says how it is laid out.
const MARK: &str = "discox";
const VERSION: &str = "1";
const PREFIX: &str = "discox-prefix";
const STAMP: &str = "discox-started";
const LENGTH: &str = "discox-attr-bytes";
/// [`MARK`], [`PREFIX`], [`STAMP`] and [`LENGTH`].
const OURS: usize = 4;
const CHUNKS: usize = PAIRS - OURS;

/// The longest attr, in bytes: 30,540, whatever its characters.
pub(crate) const ATTR_LIMIT: usize = CHUNKS * (LONGEST_VALUE - CUT);

/// When an incarnation took its endpoint over; of two, the later one is in force.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Stamp {
    /// Nanoseconds since 1970, or just more than the stamp that it follows.
    at: NonZeroU64,
    /// Decides between two at the same time: the number as bytes, since watches keep a stamp for each instance and
    /// those need no alignment.
    incarnation: [u8; 16],
}

impl Stamp {
    /// Later than now and than the newest one known: clocks differ, and may be set back.
    pub(crate) fn after(newest: Option<&Self>, incarnation: Incarnation) -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX);
        let now = NonZeroU64::new(now).unwrap_or(NonZeroU64::MIN);
        let at = newest.map_or(now, |newest| now.max(newest.at.saturating_add(1)));
        Self { at, incarnation: u128::from(incarnation).to_be_bytes() }
    }

    fn parse(text: &str) -> Option<Self> {
        let (at, incarnation) = text.split_once('-')?;
        let incarnation = u128::from_str_radix(incarnation, 16).ok()?;
        Some(Self { at: at.parse().ok()?, incarnation: incarnation.to_be_bytes() })
    }

    /// The stamp of a record, none where it is not one of ours.
    pub(crate) fn of(service: &Service) -> Option<Self> {
        service.meta.get(STAMP).and_then(Self::parse)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:032x}", self.at, u128::from_be_bytes(self.incarnation))
    }
}

/// Rejects a service name that no path of Consul's HTTP interface may have: its agents answer 400, without a word, to
/// a path with a character that Go's `unicode.IsPrint` does not take. (IDs are plain ASCII, Meta is in the body.)
pub(crate) fn check_name(name: &str) -> Result<()> {
    match name.chars().find(|c| !is_printable(*c)) {
        None => Ok(()),
        Some(c) => {
            let reason = format!("Consul does not take U+{:04X}, which does not print", u32::from(c));
            Err(Error::config("service_name", name, reason))
        }
    }
}

/// What `Debug` escapes in the middle of a text is what does not print: the same categories of Unicode as in Go.
fn is_printable(c: char) -> bool {
    let text = String::from_iter(['_', c]);
    matches!(c, '"' | '\'' | '\\') || text.escape_debug().eq(text.chars())
}

/// The record's ID: other than any other incarnation's, because the incarnation is in it.
pub(crate) fn id(record: &Record) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let Record { service, endpoint, incarnation, .. } = record;
    let name = format!("{}-{}-{}-{incarnation}", service.name(), endpoint.host(), endpoint.port());
    name.chars().map(plain).collect()
}

/// The record's Meta: our marks, the attr in pieces, and as many of its members as there is room for.
pub(crate) fn meta(record: &Record, attr: &str, stamp: &Stamp) -> BTreeMap<String, String> {
    let mut meta = BTreeMap::from([
        (MARK.to_owned(), VERSION.to_owned()),
        (PREFIX.to_owned(), record.service.prefix().to_owned()),
        (STAMP.to_owned(), stamp.to_string()),
        (LENGTH.to_owned(), attr.len().to_string()),
    ]);
    meta.extend(pieces(attr).enumerate().map(|(i, piece)| (chunk(i), piece.to_owned())));
    let room = PAIRS.saturating_sub(meta.len());
    meta.extend(members(attr).take(room));
    meta
}

/// What a record of Consul is to somebody who asks for a prefix.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Reading {
    /// It belongs to the prefix, with this attr.
    Attr(Bytes),
    /// It is discox's and belongs to another prefix.
    OtherPrefix,
    /// It is discox's, and damaged.
    Damaged(&'static str),
}

/// Reads a record's Meta. Without our mark it belongs to every prefix, and is the attr itself.
pub(crate) fn read(meta: &Meta, prefix: &str) -> Reading {
    match marked(meta) {
        None => Reading::Attr(serde_json::to_vec(meta).unwrap_or_default().into()),
        Some(marked) if marked != prefix => Reading::OtherPrefix,
        Some(_) => match attr(meta) {
            Some(attr) => Reading::Attr(attr.into()),
            None => Reading::Damaged("its attr is not complete"),
        },
    }
}

/// Whether a record belongs to a prefix, as [`read`] has it.
pub(crate) fn belongs(meta: &Meta, prefix: &str) -> bool {
    marked(meta).is_none_or(|marked| marked == prefix)
}

/// Whether a record is of the same endpoint, service and prefix as ours, made by discox, and not ours.
pub(crate) fn is_rival(service: &Service, record: &Record) -> bool {
    is_same_endpoint(service, record)
        && marked(&service.meta) == Some(record.service.prefix())
        && service.id != id(record)
}

/// Whether a record is of the same service and endpoint as ours.
pub(crate) fn is_same_endpoint(service: &Service, record: &Record) -> bool {
    service.name == record.service.name()
        && service.address == record.endpoint.host()
        && service.port == i64::from(record.endpoint.port())
}

/// The `host:port` of an instance.
///
/// # Errors
/// Why it cannot be served.
pub(crate) fn endpoint(instance: &Instance) -> std::result::Result<String, &'static str> {
    let Service { address, port, .. } = &instance.service;
    let host = if address.is_empty() { &instance.node.address } else { address };
    let Some(port) = u16::try_from(*port).ok().filter(|port| *port > 0) else {
        return Err("its port is not one of 1..=65535");
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let endpoint = match bare.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    };
    if Endpoint::is_readable(&endpoint) { Ok(endpoint) } else { Err("its address is not a host") }
}

/// The prefix in a record made by discox.
fn marked(meta: &Meta) -> Option<&str> {
    meta.get(MARK).and(meta.get(PREFIX))
}

fn chunk(i: usize) -> String {
    format!("discox-attr-{i:02}")
}

fn pieces(mut rest: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let mut end = rest.len().min(LONGEST_VALUE);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn attr(meta: &Meta) -> Option<String> {
    let length: usize = meta.get(LENGTH)?.parse().ok()?;
    let attr: String = (0..PAIRS).map_while(|i| meta.get(&chunk(i))).collect();
    (attr.len() == length).then_some(attr)
}

/// The members of a JSON object that Consul can store as pairs, in the order of their keys.
fn members(attr: &str) -> impl Iterator<Item = (String, String)> {
    let members: BTreeMap<String, Value> = serde_json::from_str(attr).unwrap_or_default();
    members.into_iter().filter_map(|(key, value)| {
        let value = match value {
            Value::String(text) => text,
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return None,
        };
        (is_key(&key) && value.len() <= LONGEST_VALUE).then_some((key, value))
    })
}

/// Whether Consul takes this key, and we leave it to others.
fn is_key(key: &str) -> bool {
    let reserved = ["consul-", MARK].iter().any(|prefix| key.starts_with(prefix));
    (1..=LONGEST_KEY).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        && !reserved
}

#[cfg(test)]
mod tests {
    use discox_core::RegisterConfig;

    use super::*;
    use crate::model::Node;

    fn record(service: &str, endpoint: &str) -> Record {
        Record::parse(&RegisterConfig {
            discover_prefix: "/p".into(),
            service_name: service.into(),
            service_endpoint: endpoint.into(),
            ..Default::default()
        })
        .unwrap()
    }

    fn written(attr: &str) -> BTreeMap<String, String> {
        let record = record("demo", "127.0.0.1:1");
        meta(&record, attr, &Stamp::after(None, record.incarnation))
    }

    #[test]
    fn any_attr_comes_back_and_fits() {
        let longest_of = |c: &str| c.repeat(ATTR_LIMIT / c.len());
        let shifted = format!("ab{}", "\u{10348}".repeat((ATTR_LIMIT - 2) / 4));
        for attr in [
            String::new(),
            "{}".into(),
            "\0\n\u{2028}<&>\u{fffe}".into(),
            longest_of("x"),
            longest_of("é"),
            longest_of("€"),
            longest_of("\u{10348}"),
            shifted,
        ] {
            let meta = written(&attr);
            assert_eq!(read(&Meta::from_iter(&meta), "/p"), Reading::Attr(attr.into()));
            assert!(meta.len() <= PAIRS);
            assert!(meta.values().all(|value| value.len() <= LONGEST_VALUE));
        }
        const { assert!(ATTR_LIMIT >= 16 * 1024) };
    }

    #[test]
    fn members_of_an_object_are_plain_pairs_as_far_as_there_is_room() {
        let long = "x".repeat(513);
        let meta = written(&format!(
            r#"{{"w":1,"on":true,"n":null,"o":{{}},"zone":"a","a b":"x","":"x","consul-x":"y","discox-prefix":"/q","long":"{long}"}}"#
        ));
        let plain: Vec<_> = meta.iter().filter(|(key, _)| !key.starts_with(MARK)).collect();
        assert_eq!(plain.len(), 3);
        for (key, value) in [("w", "1"), ("on", "true"), ("zone", "a")] {
            assert_eq!(meta[key], value);
        }
        assert_eq!(meta[PREFIX], "/p");

        let many: BTreeMap<String, u32> = (0..100).map(|i| (format!("k{i:03}"), i)).collect();
        let meta = written(&serde_json::to_string(&many).unwrap());
        assert_eq!(meta.len(), PAIRS);
        assert!(meta.contains_key("k000") && !meta.contains_key("k099"));
    }

    #[test]
    fn what_is_damaged_or_anothers_is_told_from_what_is_ours() {
        let mut meta = written(&"x".repeat(2000));
        assert_eq!(read(&Meta::from_iter(&meta), "/q"), Reading::OtherPrefix);
        meta.remove("discox-attr-03");
        assert!(matches!(read(&Meta::from_iter(&meta), "/p"), Reading::Damaged(_)));
        let foreign = Meta::from_iter([("b", "2"), ("a", "1")]);
        assert_eq!(read(&foreign, "/any"), Reading::Attr(Bytes::from_static(br#"{"a":"1","b":"2"}"#)));
        assert_eq!(read(&Meta::default(), ""), Reading::Attr(Bytes::from_static(b"{}")));
    }

    #[test]
    fn later_stamps_are_greater_whatever_the_clock_says() {
        let first = Stamp::after(None, Incarnation::new());
        let ahead = Stamp { at: first.at.saturating_add(3_600_000_000_000), incarnation: [0; 16] };
        assert!(Stamp::after(Some(&ahead), Incarnation::new()) > ahead);
        assert_eq!(Stamp::parse(&first.to_string()), Some(first));
        assert_eq!(Stamp::parse("yesterday"), None);
    }

    /// Each of these was tried with Consul 1.8.7, which takes the former and answers 400 to the latter.
    #[test]
    fn names_that_do_not_print_are_rejected() {
        for name in ["demo", "de mo", "d\u{e9}mo", "e\u{301}", "\u{4e2d}\u{6587}", "a\"b\\'", "\u{1f980}"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
        for c in ["\u{a0}", "\u{200b}", "\u{ad}", "\u{3000}", "\u{2028}", "\u{feff}", "\u{202e}", "\u{f0000}"]
        {
            let error = check_name(&format!("de{c}mo")).unwrap_err();
            assert_eq!(error.field(), Some("service_name"), "{error}");
        }
    }

    #[test]
    fn ids_are_plain_and_distinct() {
        let (one, other) =
            (record("dé mo", "[::1]:80"), record("dé/mo".replace('/', " ").as_str(), "[::1]:80"));
        assert!(id(&one).bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)));
        assert_ne!(id(&one), id(&other));
    }

    #[test]
    fn endpoints_are_made_of_what_others_registered() {
        let at = |address: &str, port: i64| {
            let service = Service { address: address.into(), port, ..Service::default() };
            endpoint(&Instance {
                node: Node { address: "10.0.0.9".into(), ..Node::default() },
                service,
                checks: Vec::new(),
            })
        };
        assert_eq!(at("10.0.0.1", 80).as_deref(), Ok("10.0.0.1:80"));
        assert_eq!(at("", 80).as_deref(), Ok("10.0.0.9:80"));
        assert_eq!(at("::1", 80).as_deref(), Ok("[::1]:80"));
        assert_eq!(at("[0:0::1]", 80).as_deref(), Ok("[::1]:80"));
        assert_eq!(at("db.example", 80).as_deref(), Ok("db.example:80"));
        for (address, port) in
            [("10.0.0.1", 0), ("10.0.0.1", 65536), ("10.0.0.1", -1), ("a b", 80), ("a/b", 80)]
        {
            assert!(at(address, port).is_err(), "{address}:{port}");
        }
    }
}
