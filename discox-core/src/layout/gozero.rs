//! go-zero: `{key}/{number}` → `10.1.2.3:8080`, in etcd.

use super::{
    Decoded, Directory, Format, InstanceId, LayoutOptions, Reason, Update, address,
    attr::{Own, Read, Rules, Written},
    join,
};
use crate::{
    Error, Result,
    record::{Record, Service},
};

const RULES: Rules = Rules { typed: false, reserved: &[], hidden: &[], added: &[] };

/// In etcd.
pub(super) static ETCD: Format = Format {
    directory: |service, _| Ok(Directory { path: join(service.prefix(), service.name()), is_deep: true }),
    name: |record, _, options| number(record, options).map(|number| number.to_string()),
    encode: Some(encode),
    decode: Some(decode),
    update: Update::InPlace,
    default_prefix: Some(""),
    looks_like: |_, value| std::str::from_utf8(value).ok().and_then(address::parse).is_some(),
};

/// The number of a record: as configured, else made of the endpoint, so that a restarted instance takes its own record
/// over.
fn number(record: &Record, options: &LayoutOptions) -> Result<i64> {
    match &options.instance_id {
        None => Ok(hash(record.endpoint.as_str())),
        Some(InstanceId::Uuid) => Ok(hash(&record.incarnation.to_string())),
        Some(InstanceId::Text(text)) => {
            let number = text.parse().ok().filter(|number| *number > 0 && !text.starts_with('+'));
            number.ok_or_else(|| Error::config("instance_id", text, "go-zero's are numbers of 1 to 2^63 - 1"))
        }
    }
}

/// FNV-1a, which is the same in all versions, as a positive number.
fn hash(text: &str) -> i64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    i64::try_from(hash >> 1).unwrap_or(1).max(1)
}

fn encode(record: &Record, attr: &str, options: &LayoutOptions) -> Result<String> {
    let endpoint = record.endpoint.as_str();
    let written =
        Written::of(attr, &RULES, &Own { endpoint, id: None, scheme: None }).in_service("go-zero")?;
    if !options.lossy {
        written.nothing(attr, "go-zero")?;
    }
    Ok(endpoint.to_owned())
}

fn decode(name: &str, value: &[u8], _: &Service, _: &LayoutOptions) -> Result<Decoded, Reason> {
    let endpoint = std::str::from_utf8(value).ok().and_then(address::parse);
    let endpoint = endpoint.ok_or_else(|| Reason::new("it is not host:port"))?;
    let (found, _) = Read { id: Some(name.to_owned()), ..Read::default() }.found(endpoint, &RULES);
    Ok(Decoded { found: vec![found], complaint: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{read, record};

    #[test]
    fn writes_the_endpoint_and_nothing_else() {
        let mut options = LayoutOptions::default();
        for attr in ["", "{}"] {
            assert_eq!(encode(&record(), attr, &options).unwrap(), "10.1.2.3:8080");
        }
        for attr in ["text", r#"{"weight":1}"#, r#"{"enabled":false}"#, "5", r#"{"a":null}"#] {
            assert_eq!(encode(&record(), attr, &options).unwrap_err().field(), Some("attr"), "{attr}");
        }
        options.lossy = true;
        assert_eq!(encode(&record(), "text", &options).unwrap(), "10.1.2.3:8080");
    }

    #[test]
    fn numbers_are_stable_and_positive() {
        let mut options = LayoutOptions::default();
        assert_eq!(number(&record(), &options).unwrap(), 6_377_762_068_962_675_400);
        options.instance_id = Some("7".into());
        assert_eq!(number(&record(), &options).unwrap(), 7);
        for text in ["0", "-1", "+1", "x", "9223372036854775808"] {
            options.instance_id = Some(text.into());
            assert_eq!(number(&record(), &options).unwrap_err().field(), Some("instance_id"));
        }
    }

    #[test]
    fn reads_addresses_alone() {
        let read = |value: &str| read(&ETCD, "x/y", value, &LayoutOptions::default());
        assert_eq!(read("fd00::1:80"), r#"[fd00::1]:80 {"id":"x/y"}"#);
        for value in ["", "{\"weight\":1}", "a", "a:0", "a:1\0", "http://a:1", " a:1"] {
            assert!(read(value).starts_with("skipped: "), "{value}");
        }
    }
}
