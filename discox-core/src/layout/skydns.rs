//! CoreDNS's etcd plugin: `/skydns/local/prod/orders/{label}` → `{"host","port","priority","weight","ttl"}`. Written only.

use super::{
    Directory, Format, LayoutOptions, Update,
    attr::{Own, Rules, Written},
    identity, join,
    json::{Members, Style},
    prefix,
};
use crate::{
    Error, Result,
    record::{Record, Service},
};

const RULES: Rules = Rules { typed: false, reserved: &[], hidden: &[], added: &[] };
const PREFIX: &str = "/skydns";
/// CoreDNS's own for a record that has none.
const PRIORITY: u32 = 10;
/// How long resolvers may keep it, in seconds. CoreDNS lowers it to what is left of the lease.
const TTL: u32 = 30;

/// In etcd.
pub(super) static ETCD: Format = Format {
    directory,
    name: |record, _, options| identity::of(record, options).map(|id| label(&id)),
    encode: Some(encode),
    decode: None,
    update: Update::InPlace,
    default_prefix: Some(PREFIX),
    looks_like: |_, value| {
        let has = |members: &Members, name: &str| members.of_any_case(name).is_some();
        Members::of_go(value).is_ok_and(|members| has(&members, "host") && has(&members, "port"))
    },
};

/// The service's name is a domain: `orders.prod.local` lies in `local/prod/orders`.
fn directory(service: &Service, _: &LayoutOptions) -> Result<Directory> {
    let mut labels: Vec<_> = service.name().split('.').collect();
    if labels.iter().any(|label| label.is_empty()) {
        return Err(Error::config(
            "service_name",
            service.name(),
            "not a domain, such as `orders.prod.local`",
        ));
    }
    labels.reverse();
    Ok(Directory { path: join(prefix(service, PREFIX), &labels.join("/")), is_deep: true })
}

/// An ID as a label of a domain.
fn label(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    id.chars().map(plain).collect::<String>().trim_matches('-').to_owned()
}

fn encode(record: &Record, attr: &str, options: &LayoutOptions) -> Result<String> {
    let own = Own { endpoint: record.endpoint.as_str(), id: None, scheme: None };
    let mut written = Written::of(attr, &RULES, &own).in_service("SkyDNS")?;
    let weight = written.weight.take().filter(|weight| *weight > 0);
    if !options.lossy {
        written.nothing(attr, "SkyDNS, but for a weight,")?;
    }
    let weight = weight.map(|weight| format!("\"weight\":{weight},")).unwrap_or_default();
    let (host, port) = (Style::Go.quoted(record.endpoint.host()), record.endpoint.port());
    Ok(format!("{{\"host\":{host},\"port\":{port},\"priority\":{PRIORITY},{weight}\"ttl\":{TTL}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::record;

    #[test]
    fn writes_what_coredns_reads() {
        let options = LayoutOptions::default();
        let service = Service::parse("", "orders.prod.local").unwrap();
        assert_eq!(directory(&service, &options).unwrap().path, "/skydns/local/prod/orders");
        assert_eq!((ETCD.name)(&record(), "", &options).unwrap(), "10-1-2-3-8080");
        assert_eq!(label("[fd00::3]:80"), "fd00--3--80");
        assert_eq!(
            encode(&record(), r#"{"weight":10}"#, &options).unwrap(),
            r#"{"host":"10.1.2.3","port":8080,"priority":10,"weight":10,"ttl":30}"#
        );
        assert_eq!(
            encode(&record(), "", &options).unwrap(),
            r#"{"host":"10.1.2.3","port":8080,"priority":10,"ttl":30}"#
        );
        assert_eq!(encode(&record(), r#"{"zone":"a"}"#, &options).unwrap_err().field(), Some("attr"));
        assert!(directory(&Service::parse("", "a..b").unwrap(), &options).is_err());
    }
}
