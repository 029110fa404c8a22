//! What Consul's answers and records are parsed by, fuzzed: see `discox_testkit::fuzz`.

use std::collections::BTreeMap;

use discox_core::{
    RegisterConfig,
    record::{Endpoint, Record},
};
use discox_testkit::fuzz::{fuzz, fuzz_text};
use serde::de::DeserializeOwned;
use serde_json::{from_slice, json};

use crate::{
    known_list::tests::{Watcher, parsed_in_full, served},
    layout::{self, ATTR_LIMIT, Reading, Stamp},
    meta::Meta,
    model::{Checks, Services},
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

/// Whatever is answered, after whatever was before: what is served are endpoints, and those of a full parse.
#[test]
fn lists() {
    let served = served(true);
    let answer = answer();
    let raw = br#"[{"Node":{"Address":null},"Service":{"Meta":{"discox":"1","discox-prefix":"/p","discox-attr-bytes":"-1"}},"Checks":null}]"#;
    fuzz(&[&answer, raw, b"[]", b"null"], |input| {
        let full = parsed_in_full(input, &served);
        for piece in [usize::MAX, 50] {
            let mut watcher = Watcher::new(served.clone());
            assert!(watcher.reads(&answer, piece));
            assert_eq!(watcher.reads(input, piece), full.is_some());
            if let Some(full) = &full {
                assert_eq!(watcher.shown(), full);
            }
        }
        assert!(full.unwrap_or_default().keys().all(|endpoint| Endpoint::is_readable(endpoint)));
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
            let read = Meta::from_iter(&meta);
            assert_eq!(layout::read(&read, "/p"), Reading::Attr(attr.to_owned().into()));
            assert_eq!(layout::read(&read, "/q"), Reading::OtherPrefix);
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
        let Ok(meta) = from_slice::<Meta>(input) else { return };
        let map: BTreeMap<String, String> = from_slice(input).unwrap();
        assert!(meta == map);
        let marked = meta.get("discox").is_some() && meta.get("discox-prefix").is_some();
        match layout::read(&meta, "/p") {
            Reading::Attr(attr) if marked => {
                assert_eq!(Some(attr.len().to_string()), meta.get("discox-attr-bytes").map(plain));
            }
            Reading::Attr(attr) => assert_eq!(from_slice::<BTreeMap<String, String>>(&attr).unwrap(), map),
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
        let service =
            crate::model::Service { meta: Meta::from_iter([("discox-started", text)]), ..Default::default() };
        if let Some(stamp) = Stamp::of(&service) {
            let again = stamp.to_string();
            assert!(again.split_once('-').is_some_and(|(at, _)| at.len() == 20));
            assert!(Stamp::after(Some(&stamp), record().incarnation) != stamp);
        }
    });
}
