//! Apache Dubbo in ZooKeeper: `/dubbo/{interface}/providers/{URL}`, and for applications, which are only read,
//! `/services/{application}/{host:port}` → what Curator stores.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};

use super::{
    Decoded, Directory, Format, LayoutOptions, Reason, Update, address,
    attr::{Own, Read, Rules, Written},
    curator, json, node, prefix,
    stored::{self, Stored},
};
use crate::{
    Error, Result,
    record::{Record, Service},
};

const CLASS: &str = "org.apache.dubbo.registry.zookeeper.ZookeeperInstance";
const SCHEME: &str = "tri";
/// The attr's version. The parameter `version` is the interface's, which consumers compare,
const REVISION: &str = "revision";
/// and is shown as this.
const INTERFACE_VERSION: &str = "interface.version";

/// What a provider's URL says of itself.
const RULES: Rules = Rules {
    typed: false,
    reserved: &[
        "",
        "application",
        "category",
        "dynamic",
        "group",
        "interface",
        INTERFACE_VERSION,
        "methods",
        REVISION,
        "side",
        "timestamp",
    ],
    hidden: &[],
    added: &[
        "application",
        "dynamic",
        "group",
        "interface",
        INTERFACE_VERSION,
        "methods",
        REVISION,
        "side",
        "timestamp",
    ],
};
const OF_APPLICATION: Rules = Rules { typed: false, reserved: &[], hidden: &[], added: &[] };

/// What Java's `URLEncoder` leaves as it is; a space becomes `+`.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'*').remove(b'_').remove(b' ');

/// In ZooKeeper.
pub(super) static ZOOKEEPER: Format = Format {
    directory,
    name: |record, attr, options| url(record, attr, options).map(|url| encoded(&url)),
    encode: Some(encode),
    decode: Some(decode),
    update: Update::Rename,
    // Interfaces and applications have one each.
    default_prefix: Some(""),
    looks_like: |name, value| {
        name.contains("%3A%2F%2F") || curator::class_of(value).as_deref() == Some(CLASS)
    },
};

fn directory(service: &Service, options: &LayoutOptions) -> Result<Directory> {
    let path = match options.application_level {
        true => node(prefix(service, "/services"), service.name()),
        false => node(prefix(service, "/dubbo"), &format!("{}/providers", service.name())),
    };
    Ok(Directory { path, is_deep: false })
}

/// Nobody reads it; Curator writes the registrar's address.
fn encode(record: &Record, attr: &str, options: &LayoutOptions) -> Result<String> {
    if options.application_level {
        let reason =
            "Dubbo asks an application for its metadata, which discox does not serve: register an interface";
        return Err(Error::config("application_level", true, reason));
    }
    url(record, attr, options)?;
    Ok(record.endpoint.host().to_owned())
}

fn url(record: &Record, attr: &str, options: &LayoutOptions) -> Result<String> {
    let scheme = options.scheme.as_deref().unwrap_or(SCHEME);
    let Some(scheme) = address::scheme(scheme) else {
        return Err(Error::config("scheme", scheme, "not a protocol, such as `tri`"));
    };
    let own = Own { endpoint: record.endpoint.as_str(), id: None, scheme: Some(&scheme) };
    let mut written = Written::of(attr, &RULES, &own).weight_and_zone_as_others(false);
    let revision = written.version.take();
    let interface = record.service.name();
    let began = record.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string();
    let mut parameters: BTreeMap<_, _> = written.texts();
    let mut set = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            parameters.insert(name.to_owned(), value.to_owned());
        }
    };
    set("application", Some(options.application.as_deref().unwrap_or(interface)));
    set("dynamic", Some("true"));
    set("enabled", (!written.enabled).then_some("false"));
    set("group", options.group.as_deref());
    set("interface", Some(interface));
    set("methods", Some(&options.methods.join(",")));
    set(REVISION, revision.as_deref());
    set("side", Some("provider"));
    set("timestamp", Some(&began));
    set("version", options.version.as_deref());
    let parameters = parameters.iter().map(|(name, value)| format!("{}={}", inner(name), inner(value)));
    let parameters: Vec<_> = parameters.collect();
    Ok(format!("{scheme}://{}/{interface}?{}", record.endpoint, parameters.join("&")))
}

/// A parameter's name or value, in which nothing ends it or looks as if it were encoded.
fn inner(text: &str) -> String {
    text.replace('%', "%25").replace('&', "%26").replace('=', "%3D").replace('#', "%23")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, FORM).to_string().replace(' ', "+")
}

fn decode(name: &str, value: &[u8], service: &Service, options: &LayoutOptions) -> Result<Decoded, Reason> {
    match options.application_level {
        true => decode_application(name, value, options),
        false => decode_interface(name, service, options),
    }
}

fn decode_interface(name: &str, service: &Service, options: &LayoutOptions) -> Result<Decoded, Reason> {
    let spaced = name.replace('+', " ");
    let url = percent_decode_str(&spaced).decode_utf8_lossy();
    let (place, query) = url.split_once('?').unwrap_or((&url, ""));
    if place.starts_with("empty:") {
        return Ok(Decoded::default());
    }
    let (scheme, endpoint) =
        address::url(place).ok_or_else(|| Reason::new("its name is no URL with host and port"))?;
    let mut parameters: Map<String, Value> = query.split('&').filter_map(parameter).collect();
    let of = |name: &str| parameters.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_as_asked = |asked: Option<&str>, is: &str| asked.is_none_or(|asked| asked == "*" || asked == is);
    let interface = of("interface");
    let is_wanted = (interface.is_empty() || interface == service.name())
        && is_as_asked(options.group.as_deref(), of("group"))
        && is_as_asked(options.version.as_deref(), of("version"))
        && options.scheme.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(&scheme));
    if !is_wanted {
        return Ok(Decoded::default());
    }
    let version = parameters.get(REVISION).and_then(json::text);
    if let Some(version) = parameters.remove("version") {
        parameters.insert(INTERFACE_VERSION.to_owned(), version);
    }
    let disabled = parameters.remove("enabled").as_ref().and_then(Value::as_str) == Some("false");
    let read = Read { scheme: Some(scheme), version, disabled, metadata: parameters, ..Read::default() };
    let mut decoded = Decoded::default();
    decoded.add(read.found(endpoint, &RULES));
    Ok(decoded)
}

fn parameter(text: &str) -> Option<(String, Value)> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (!name.is_empty()).then(|| (once_more(name), Value::from(once_more(value))))
}

/// A parameter may be encoded once more: then each `%` has its digits.
fn once_more(text: &str) -> String {
    let mut parts = text.split('%').skip(1);
    let has_digits = |part: &str| part.len() >= 2 && part.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    let decoded = percent_decode_str(text).decode_utf8();
    match decoded {
        Ok(decoded) if parts.all(has_digits) => decoded.into_owned(),
        _ => text.to_owned(),
    }
}

fn decode_application(name: &str, value: &[u8], options: &LayoutOptions) -> Result<Decoded, Reason> {
    let stored = Stored::parse(value)?;
    let id = stored.id.clone().unwrap_or_else(|| name.to_owned());
    let (metadata, _) = stored::metadata(stored.payload);
    let mut decoded = Decoded::default();
    let endpoints = metadata.get("dubbo.endpoints").and_then(Value::as_str);
    let listed = endpoints.and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok()).unwrap_or_default();
    let listed = listed.iter().filter_map(|endpoint| {
        let port = u16::try_from(json::number(endpoint.get("port")?)?).ok()?;
        Some((port, endpoint.get("protocol").and_then(Value::as_str).and_then(address::scheme)))
    });
    let mut ports: Vec<_> = listed.collect();
    if ports.is_empty() {
        ports.push((stored.port.ok_or_else(|| Reason::new("it has no port"))?, None));
    }
    for (port, scheme) in ports {
        if decoded.is_full() {
            decoded.complain(Reason::new("it has more than 16 endpoints"));
            break;
        }
        let Some(endpoint) = address::join(&stored.address, port) else {
            return Err(Reason::new("its address is no host"));
        };
        let wanted = options.scheme.as_ref().zip(scheme.as_ref());
        if wanted.is_none_or(|(wanted, scheme)| wanted.eq_ignore_ascii_case(scheme)) {
            let read = Read { id: Some(id.clone()), scheme, metadata: metadata.clone(), ..Read::default() };
            decoded.add(read.found(endpoint, &OF_APPLICATION));
        }
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        RegisterConfig,
        layout::tests::{read, record},
    };

    #[test]
    fn writes_a_providers_url() {
        let mut record = record();
        record.began = UNIX_EPOCH + std::time::Duration::from_millis(1_767_225_600_000);
        let options = LayoutOptions {
            group: Some("g1".into()),
            version: Some("1.2.0".into()),
            methods: vec!["get".into(), "list".into()],
            ..Default::default()
        };
        let attr = r#"{"version":"v1","weight":10,"zone":"a","note":"a b*~é","enabled":false}"#;
        assert_eq!(
            (ZOOKEEPER.name)(&record, attr, &options).unwrap(),
            "tri%3A%2F%2F10.1.2.3%3A8080%2Forders%3Fapplication%3Dorders%26dynamic%3Dtrue%26enabled%3Dfalse%26group%3Dg1\
             %26interface%3Dorders%26methods%3Dget%2Clist%26note%3Da+b*%7E%C3%A9%26revision%3Dv1%26side%3Dprovider\
             %26timestamp%3D1767225600000%26version%3D1.2.0%26weight%3D10%26zone%3Da"
        );
        assert_eq!(encode(&record, attr, &options).unwrap(), "10.1.2.3");
        let application = LayoutOptions { application_level: true, ..options };
        assert_eq!(encode(&record, "", &application).unwrap_err().field(), Some("application_level"));
    }

    #[test]
    fn any_text_comes_back_as_a_parameter() {
        let options = LayoutOptions::default();
        for text in ["a&b=c%41", "100%", "+ +", "a=b", "?#/;", "\"{}\\", "é\u{2028}\n", "%", ""] {
            let attr = serde_json::json!({"t": text, "a=b&c": text}).to_string();
            let name = (ZOOKEEPER.name)(&record(), &attr, &options).unwrap();
            let service = Service::parse("", "orders").unwrap();
            let decoded = decode(&name, b"", &service, &options).unwrap();
            let attr: Value = serde_json::from_slice(&decoded.found[0].attr).unwrap();
            assert_eq!((attr["t"].as_str(), attr["a=b&c"].as_str()), (Some(text), Some(text)));
        }
    }

    #[test]
    fn takes_providers_that_fit() {
        let provider =
            "dubbo%3A%2F%2F10.1.2.3%3A20880%2Forders%3Finterface%3Dorders%26group%3Dg1%26version%3D1";
        let at = |name: &str, options: &LayoutOptions| read(&ZOOKEEPER, name, "", options);
        let any = LayoutOptions::default();
        assert!(at(provider, &any).starts_with("10.1.2.3:20880 {"));
        for (group, version, is_found) in
            [("g1", "1", true), ("*", "*", true), ("g2", "1", false), ("g1", "2", false), ("", "1", false)]
        {
            let options =
                LayoutOptions { group: Some(group.into()), version: Some(version.into()), ..any.clone() };
            assert_eq!(!at(provider, &options).is_empty(), is_found, "{group} {version}");
        }
        let scheme = LayoutOptions { scheme: Some("tri".into()), ..any.clone() };
        assert_eq!(at(provider, &scheme), "");
        assert_eq!(at("dubbo%3A%2F%2F10.1.2.3%3A1%2Fother%3Finterface%3Dother", &any), "");
        assert_eq!(at("empty%3A%2F%2F0.0.0.0%2Forders%3Fcategory%3Dproviders", &any), "");
        assert_eq!(at("dubbo%3A%2F%2F10.1.2.3%3A1%2Forders", &any), r#"10.1.2.3:1 {"scheme":"dubbo"}"#);
        assert!(
            at("dubbo%3A%2F%2Fh%3A1%2Forders%3Fenabled%3Dfalse", &any)
                .ends_with("\"enabled\":false,\"scheme\":\"dubbo\"} off")
        );
        for name in ["", "x", "10.1.2.3:1", "dubbo%3A%2F%2F10.1.2.3%2Forders", "%zz%3A%2F%2F"] {
            assert!(at(name, &any).starts_with("skipped: "), "{name}");
        }
    }

    #[test]
    fn lies_where_dubbo_looks() {
        let config = RegisterConfig { service_name: "com.example.Orders".into(), ..Default::default() };
        let service = Service::parse("", &config.service_name).unwrap();
        let mut options = LayoutOptions::default();
        assert_eq!(directory(&service, &options).unwrap().path, "/dubbo/com.example.Orders/providers");
        options.application_level = true;
        assert_eq!(directory(&service, &options).unwrap().path, "/services/com.example.Orders");
    }
}
