//! What Consul's answers and records are parsed by, fuzzed: see `discox_testkit::fuzz`.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Mutex,
};

use discox_core::{
    BackendType, RegisterConfig,
    backend::WarnOnce,
    record::{Endpoint, Record, Service},
};
use discox_testkit::fuzz::{fuzz, fuzz_text};
use serde::de::DeserializeOwned;
use serde_json::{from_slice, json};

use crate::{
    dedup_endpoints::dedup_endpoints,
    layout::{self, ATTR_LIMIT, Reading, Stamp},
    model::{Checks, Instance, Services},
};

fn record() -> Record {
    Record::parse(&RegisterConfig {
        discover_prefix: "/p".into(),
        service_name: "demo".into(),
        service_endpoint: "10.0.0.1:80".into(),
        ..Default::default()
    })
    .unwrap()
}

fn meta(attr: &str) -> BTreeMap<String, String> {
    let record = record();
    layout::meta(&record, attr, &Stamp::after(None, record.incarnation))
}

/// An answer to `health/service`, as Consul writes it.
fn answer() -> Vec<u8> {
    let instance = |address: &str, port: i64, meta: BTreeMap<String, String>, status: &str| {
        json!({
            "Node": {"ID": "1", "Node": "n1", "Address": "10.9.9.9", "Meta": null},
            "Service": {"ID": format!("demo-{address}"), "Service": "demo", "Tags": [], "Address": address,
                "Port": port, "Meta": meta, "Weights": {"Passing": 1, "Warning": 1}, "ModifyIndex": 17},
            "Checks": [{"Node": "n1", "CheckID": "serfHealth", "Status": "passing", "ServiceID": ""},
                {"CheckID": "service:demo", "Status": status, "Definition": {}}],
        })
    };
    let instances = [
        instance("10.0.0.1", 80, meta(r#"{"weight":1}"#), "passing"),
        instance("10.0.0.1", 80, meta("later"), "passing"),
        instance("::1", 65535, BTreeMap::new(), "warning"),
        instance("", 0, BTreeMap::from([("a".into(), "b".into())]), "passing"),
    ];
    serde_json::to_vec(&instances).unwrap()
}

fn parses<T: DeserializeOwned>(examples: &[&[u8]]) {
    fuzz(examples, |input| drop(from_slice::<T>(input)));
}

/// Whatever is answered: what is served is an endpoint, and once.
#[test]
fn lists() {
    let service = Service::parse("/p", "demo").unwrap();
    let skips = Mutex::new(WarnOnce::new(BackendType::Consul, service.clone()));
    let answer = answer();
    let raw = br#"[{"Node":{"Address":null},"Service":{"Meta":{"discox":"1","discox-prefix":"/p","discox-attr-bytes":"-1"}},"Checks":null}]"#;
    fuzz(&[&answer, raw, b"[]", b"null"], |input| {
        let Ok(instances) = from_slice::<Vec<Instance>>(input) else { return };
        let (most, list) = (instances.len(), dedup_endpoints(instances, &service, true, &skips));
        let names: HashSet<_> = list.iter().map(|(endpoint, _)| endpoint).collect();
        assert!(names.len() == list.len() && list.len() <= most);
        assert!(list.iter().all(|(endpoint, _)| Endpoint::is_readable(endpoint)));
    });
}

#[test]
fn services() {
    parses::<Services>(&[
        br#"{"demo-1":{"ID":"demo-1","Service":"demo","Address":"10.0.0.1","Port":80,"Meta":{"a":"b"}}}"#,
    ]);
}

#[test]
fn checks() {
    parses::<Checks>(&[br#"{"service:demo":{"CheckID":"service:demo","Status":"critical","Output":null}}"#]);
}

/// Any attr comes back as it was written, within what Consul takes.
#[test]
fn attrs_are_written_and_read() {
    let examples =
        [r#"{"weight":1,"zone":"a","on":true,"n":null}"#, "€\u{10348}\0", &"x".repeat(2_000), "[]", ""];
    fuzz_text(&examples, |attr| {
        if attr.len() <= ATTR_LIMIT {
            let meta = meta(attr);
            assert_eq!(layout::read(&meta, "/p"), Reading::Attr(attr.to_owned().into()));
            assert_eq!(layout::read(&meta, "/q"), Reading::OtherPrefix);
            assert!(meta.len() <= 64);
            assert!(meta.iter().all(|(key, value)| key.len() <= 128 && value.len() <= 512));
        }
    });
}

/// Whatever others write into a record's Meta is an attr, another prefix's, or damaged.
#[test]
fn records() {
    let ours = serde_json::to_vec(&meta(&"é".repeat(600))).unwrap();
    fuzz(&[&ours, br#"{"a":"b"}"#, br#"{"discox":"1","discox-prefix":"/p"}"#], |input| {
        let Ok(meta) = from_slice::<BTreeMap<String, String>>(input) else { return };
        let marked = meta.contains_key("discox") && meta.contains_key("discox-prefix");
        match layout::read(&meta, "/p") {
            Reading::Attr(attr) if marked => {
                assert_eq!(
                    Some(attr.len().to_string()),
                    meta.get("discox-attr-bytes").map(|text| plain(text))
                );
            }
            Reading::Attr(attr) => assert_eq!(from_slice::<BTreeMap<String, String>>(&attr).unwrap(), meta),
            Reading::OtherPrefix | Reading::Damaged(_) => assert!(marked),
        }
    });
}

/// A number as it is written without a sign and leading zeros, which may stand there.
fn plain(text: &str) -> String {
    text.parse::<usize>().map_or_else(|_| text.to_owned(), |number| number.to_string())
}

#[test]
fn stamps() {
    let stamp = Stamp::after(None, record().incarnation).to_string();
    fuzz_text(&[&stamp, "18446744073709551615-x", "0-"], |text| {
        let service = crate::model::Service {
            meta: BTreeMap::from([("discox-started".into(), text.into())]),
            ..Default::default()
        };
        if let Some(stamp) = Stamp::of(&service) {
            let again = stamp.to_string();
            assert!(again.split_once('-').is_some_and(|(at, _)| at.len() == 20));
            assert!(Stamp::after(Some(&stamp), record().incarnation) != stamp);
        }
    });
}
