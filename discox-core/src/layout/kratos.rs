//! Kratos: `{namespace}/{service}/{id}` → `{"id","name","version","metadata","endpoints"}`, in etcd and ZooKeeper.

use serde_json::{Map, Value};

use super::{
    Decoded, Directory, Format, LayoutOptions, Reason, Update, address,
    attr::{Own, Read, Rules, Written},
    identity, join, json,
    json::{Members, Style},
    node, prefix,
};
use crate::{
    Error, Result,
    record::{Record, Service},
};

pub(super) const RULES: Rules = Rules { typed: false, reserved: &[], hidden: &[], added: &[] };
const NAMESPACE: &str = "/microservices";
const SCHEME: &str = "http";

/// In etcd.
pub(super) static ETCD: Format = Format {
    directory: |service, _| {
        Ok(Directory { path: join(prefix(service, NAMESPACE), service.name()), is_deep: true })
    },
    name: |record, _, options| identity::of(record, options),
    encode: Some(encode),
    decode: Some(decode),
    update: Update::InPlace,
    default_prefix: Some(NAMESPACE),
    looks_like,
};

/// In ZooKeeper, where Kratos watches the children only.
pub(super) static ZOOKEEPER: Format = Format {
    directory: |service, _| {
        Ok(Directory { path: node(prefix(service, NAMESPACE), service.name()), is_deep: false })
    },
    update: Update::Replace,
    ..ETCD
};

fn encode(record: &Record, attr: &str, options: &LayoutOptions) -> Result<String> {
    let id = identity::of(record, options)?;
    let scheme = scheme(options)?;
    let own = Own { endpoint: record.endpoint.as_str(), id: Some(&id), scheme: Some(&scheme) };
    let written = Written::of(attr, &RULES, &own).in_service("Kratos")?.weight_and_zone_as_others(false);
    let metadata = match written.others.is_empty() {
        true => "null".to_owned(),
        false => Style::Go.texts(written.texts().iter().map(|(name, text)| (name.as_str(), text.as_str()))),
    };
    let endpoints: Vec<_> = endpoints(record, &scheme, options)?.iter().map(|url| quoted(url)).collect();
    let version = written.version.unwrap_or_default();
    let (id, name, version) = (quoted(&id), quoted(record.service.name()), quoted(&version));
    let endpoints = endpoints.join(",");
    Ok(format!(
        "{{\"id\":{id},\"name\":{name},\"version\":{version},\"metadata\":{metadata},\"endpoints\":[{endpoints}]}}"
    ))
}

fn quoted(text: &str) -> String {
    Style::Go.quoted(text)
}

/// What the endpoint speaks.
pub(super) fn scheme(options: &LayoutOptions) -> Result<String> {
    let scheme = options.scheme.as_deref().unwrap_or(SCHEME);
    address::scheme(scheme).ok_or_else(|| Error::config("scheme", scheme, "not a scheme, such as `grpc`"))
}

/// The URLs of the endpoint and of the further ones.
pub(super) fn endpoints(record: &Record, scheme: &str, options: &LayoutOptions) -> Result<Vec<String>> {
    let own = format!("{scheme}://{}", record.endpoint);
    let further = options.extra_endpoints.iter().map(|text| match address::url(text) {
        Some((scheme, endpoint)) => Ok(format!("{scheme}://{endpoint}")),
        None => Err(Error::config("extra_endpoints", text, "not scheme://host:port")),
    });
    std::iter::once(Ok(own)).chain(further).collect()
}

fn decode(name: &str, value: &[u8], service: &Service, options: &LayoutOptions) -> Result<Decoded, Reason> {
    let members = Members::of_go(value)?;
    let text = |name: &str| members.of_any_case(name).and_then(json::text).filter(|text| !text.is_empty());
    match text("name") {
        None => return Err(Reason::new("it has no name")),
        Some(name) if name != service.name() => return Ok(Decoded::default()),
        Some(_) => {}
    }
    let mut decoded = Decoded::default();
    let metadata = match members.of_any_case("metadata") {
        None => Map::new(),
        Some(Value::Object(metadata)) => metadata.clone(),
        Some(_) => {
            decoded.complain(Reason::new("its metadata is no object"));
            Map::new()
        }
    };
    let read = Read {
        id: text("id").or_else(|| Some(name.to_owned())),
        version: text("version"),
        metadata,
        ..Read::default()
    };
    let urls = match members.of_any_case("endpoints") {
        None => &[][..],
        Some(Value::Array(urls)) => urls,
        Some(_) => return Err(Reason::new("its endpoints are no list")),
    };
    add_urls(&mut decoded, urls.iter().map(|url| url.as_str().unwrap_or_default()), &read, options);
    Ok(decoded)
}

/// Adds the endpoints of a list of URLs: those of the wanted scheme only the first.
pub(super) fn add_urls<'a>(
    decoded: &mut Decoded,
    urls: impl Iterator<Item = &'a str>,
    read: &Read,
    options: &LayoutOptions,
) {
    for url in urls {
        if decoded.is_full() {
            return decoded.complain(Reason::new("it has more than 16 endpoints"));
        }
        let Some((scheme, endpoint)) = address::url(url) else {
            decoded.complain(Reason::new("one of its endpoints is no URL with host and port"));
            continue;
        };
        if options.scheme.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(&scheme)) {
            decoded.add(Read { scheme: Some(scheme), ..read.clone() }.found(endpoint, &RULES));
            if options.scheme.is_some() {
                break;
            }
        }
    }
}

fn looks_like(_: &str, value: &[u8]) -> bool {
    let Ok(members) = Members::of_go(value) else { return false };
    let urls = members.of_any_case("endpoints").and_then(Value::as_array).and_then(|urls| urls.first());
    members.of_any_case("name").is_some() && urls.and_then(Value::as_str).and_then(address::url).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{read, record};

    #[test]
    fn writes_what_kratos_writes() {
        let options =
            LayoutOptions { extra_endpoints: vec!["GRPC://10.1.2.3:9090/".into()], ..Default::default() };
        let written = |attr: &str| encode(&record(), attr, &options).unwrap();
        assert_eq!(
            written("{\"version\":\"v1\",\"weight\":10,\"zone\":\"a\",\"env\":\"<&>\u{2028}é\",\"on\":true}"),
            "{\"id\":\"10.1.2.3:8080\",\"name\":\"orders\",\"version\":\"v1\",\"metadata\":{\
             \"discox-attr\":\"{\\\"version\\\":\\\"v1\\\",\\\"weight\\\":10,\\\"zone\\\":\\\"a\\\",\
             \\\"env\\\":\\\"\\u003c\\u0026\\u003e\\u2028é\\\",\\\"on\\\":true}\",\
             \"env\":\"\\u003c\\u0026\\u003e\\u2028é\",\"on\":\"true\",\"weight\":\"10\",\"zone\":\"a\"},\
             \"endpoints\":[\"http://10.1.2.3:8080\",\"grpc://10.1.2.3:9090\"]}"
        );
        assert!(written("").contains(r#""version":"","metadata":null,"#));
        for (field, options) in [
            ("scheme", LayoutOptions { scheme: Some("a b".into()), ..Default::default() }),
            ("extra_endpoints", LayoutOptions { extra_endpoints: vec!["a:1".into()], ..Default::default() }),
        ] {
            assert_eq!(encode(&record(), "", &options).unwrap_err().field(), Some(field));
        }
        let down = encode(&record(), r#"{"enabled":false}"#, &options).unwrap_err();
        assert_eq!(down.field(), Some("attr"));
    }

    #[test]
    fn reads_what_kratos_reads_and_what_is_good_of_the_rest() {
        let read = |value: &str| read(&ETCD, "k", value, &LayoutOptions::default());
        for (value, expected) in [
            (r#"{"id":"x","name":"other","endpoints":["http://1.1.1.1:1"]}"#, ""),
            (r#"{"id":"x","name":"orders","endpoints":null}"#, ""),
            (
                r#"{"ID":"x","Name":"orders","Endpoints":["http://1.1.1.1:1"]}"#,
                r#"1.1.1.1:1 {"id":"x","scheme":"http"}"#,
            ),
            (
                r#"{"id":"x","name":"orders","endpoints":["http://a b:1","grpc://10.1.2.9:1",7]}"#,
                r#"10.1.2.9:1 {"id":"x","scheme":"grpc"} (one of its endpoints is no URL with host and port)"#,
            ),
            (
                r#"{"name":"orders","version":2,"metadata":{"weight":3,"a":1,"b":null},"endpoints":["http://h:1","grpc://h:1"]}"#,
                r#"h:1 {"a":"1","id":"k","scheme":"http","version":"2","weight":3}"#,
            ),
        ] {
            assert_eq!(read(value), expected, "{value}");
        }
        for value in ["", "null", "{\"weight\":1}", "{nope", r#"{"name":"orders","endpoints":"http://a:1"}"#]
        {
            assert!(read(value).starts_with("skipped: "), "{value}");
        }
    }

    #[test]
    fn takes_the_wanted_scheme_and_no_more_than_sixteen() {
        let urls: Vec<_> = (1..=20).map(|port| format!("\"grpc://h:{port}\"")).collect();
        let many = format!(r#"{{"name":"orders","endpoints":["http://h:99",{}]}}"#, urls.join(","));
        let service = Service::parse("", "orders").unwrap();
        let ports =
            |options: &LayoutOptions| decode("k", many.as_bytes(), &service, options).unwrap().found.len();
        assert_eq!(ports(&LayoutOptions::default()), 16);
        let wanted = |scheme: &str| LayoutOptions { scheme: Some(scheme.into()), ..Default::default() };
        assert_eq!((ports(&wanted("GRPC")), ports(&wanted("grpcs"))), (1, 0));
    }
}
