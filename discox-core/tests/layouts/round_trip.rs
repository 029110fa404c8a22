//! Whatever an attr is: what is written is read back as the same, and nothing is written that harms a fleet.

use discox_core::{BackendType, Layout, LayoutOptions, Payload, RegisterConfig, record::Record};
use fastrand::Rng;
use serde_json::{Map, Value};

const ENDPOINTS: [&str; 3] = ["10.1.2.3:8080", "[fd00::3]:1", "web-1.example.org:65535"];

/// What reading adds to what was written.
const ADDED: [&str; 14] = [
    "id",
    "scheme",
    "weight",
    "protocol",
    "application",
    "dynamic",
    "group",
    "interface",
    "interface.version",
    "methods",
    "revision",
    "side",
    "timestamp",
    "secure",
];

fn text(random: &mut Rng) -> String {
    const TEXTS: [&str; 22] = [
        "",
        "a",
        "prod",
        "<&>",
        "\u{2028}\u{1f}\u{7f}",
        "é",
        "\"\\",
        "10",
        "-1",
        "true",
        "null",
        "{}",
        "a b",
        "a+b",
        "100%",
        "%41",
        "a=b&c",
        "x:y",
        "a.b",
        "discox-attr",
        "\u{1f600}",
        "#?/;",
    ];
    (0..random.usize(1..3)).map(|_| *random.choice(&TEXTS).unwrap()).collect()
}

fn value(random: &mut Rng, depth: u32) -> Value {
    match random.u8(..if depth > 2 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => random.bool().into(),
        2 => random.u32(..20).into(),
        3 => (f64::from(random.i32(..)) / 8.0).into(),
        4 | 5 => text(random).into(),
        6 => (0..random.usize(..3)).map(|_| value(random, depth + 1)).collect::<Vec<_>>().into(),
        _ => (0..random.usize(..3))
            .map(|_| (text(random), value(random, depth + 1)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

fn attr(random: &mut Rng) -> String {
    const NAMES: [&str; 18] = [
        "weight",
        "zone",
        "version",
        "enabled",
        "id",
        "scheme",
        "env",
        "@class",
        "instance_status",
        "discox-attr",
        "protocol",
        "secure",
        "group",
        "interface",
        "revision",
        "side",
        "a.b",
        "",
    ];
    if random.u8(..8) == 0 {
        return random.choice(["", "text", "5", "[1]", "{\"a\":1} ", "{", " "]).unwrap().to_owned();
    }
    let members = (0..random.usize(..5)).map(|_| {
        let name = if random.bool() { (*random.choice(&NAMES).unwrap()).to_owned() } else { text(random) };
        (name, value(random, 0))
    });
    Value::Object(members.collect()).to_string()
}

fn options(random: &mut Rng) -> LayoutOptions {
    let payload = random.choice([
        Payload::Json,
        Payload::Text,
        Payload::Class("com.example.X".into()),
        Payload::Spring,
    ]);
    let text = |random: &mut Rng, text: &str| random.bool().then(|| text.to_owned());
    LayoutOptions {
        scheme: text(random, "grpc"),
        payload: payload.unwrap(),
        enabled: random.bool(),
        group: text(random, "g1"),
        version: text(random, "1.0"),
        instance_id: text(random, "77").map(Into::into),
        ..Default::default()
    }
}

/// Members of an attr that come back, whatever else does.
fn assert_same(what: &str, attr: &str, read: &[u8]) {
    let read = std::str::from_utf8(read).unwrap();
    let attr = if attr.is_empty() { "{}" } else { attr };
    let (Ok(written), Ok(read_object)) =
        (serde_json::from_str::<Map<String, Value>>(attr), serde_json::from_str::<Map<String, Value>>(read))
    else {
        // The text of a payload may be empty, too.
        return assert!(read == attr || read.is_empty() && attr == "{}", "{what}: {read}");
    };
    for (name, value) in &written {
        assert_eq!(read_object.get(name), Some(value), "{what}: {name} in {read}");
    }
    for name in read_object.keys() {
        assert!(written.contains_key(name) || ADDED.contains(&name.as_str()), "{what}: {name} in {read}");
    }
}

#[test]
fn attrs_come_back() {
    let seed = std::env::var("DISCOX_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    let mut random = Rng::with_seed(seed);
    let mut read = 0;
    for _ in 0..400 {
        let config = RegisterConfig {
            service_name: "orders".into(),
            service_endpoint: (*random.choice(&ENDPOINTS).unwrap()).into(),
            ..Default::default()
        };
        let record = Record::parse(&config).unwrap();
        let (attr, options) = (attr(&mut random), options(&mut random));
        for (layout, backend) in pairs() {
            read += usize::from(comes_back(layout, backend, &record, &attr, &options, seed));
        }
    }
    assert!(read > 1_000, "{read} attrs were written and read");
}

fn pairs() -> impl Iterator<Item = (Layout, BackendType)> {
    let backends = [BackendType::Etcd, BackendType::Zookeeper];
    Layout::ALL.into_iter().flat_map(move |layout| backends.map(|backend| (layout, backend)))
}

/// Whether an attr was written, and read again.
fn comes_back(
    layout: Layout,
    backend: BackendType,
    record: &Record,
    attr: &str,
    options: &LayoutOptions,
    seed: u64,
) -> bool {
    let Some(format) = layout.format(backend) else { return false };
    let (Some(encode), Some(decode)) = (format.encode, format.decode) else { return false };
    let what = format!("DISCOX_SEED={seed}: {layout} on {backend}, {attr:?}, {options:?}");
    let Ok(value) = encode(record, attr, options) else { return false };
    assert_eq!(encode(record, attr, options).unwrap(), value, "{what}");
    assert!(!value.is_empty() && value != "null", "{what}");
    let name = (format.name)(record, attr, options).unwrap();
    assert_eq!((format.name)(record, attr, options).unwrap(), name, "{what}");
    assert!(!name.is_empty() && !name.contains(['/', '\0']), "{what}");
    let decoded = decode(&name, value.as_bytes(), &record.service, options);
    let decoded = decoded.unwrap_or_else(|reason| panic!("{what}: {reason}: {value}"));
    let [found] = &*decoded.found else { panic!("{what}: {decoded:?}") };
    assert_eq!(*found.endpoint, *record.endpoint.as_str(), "{what}");
    assert_eq!(decoded.complaint, None, "{what}");
    let is_enabled = serde_json::from_str::<Value>(attr).is_ok_and(|attr| attr["enabled"] == false);
    assert!(found.enabled != is_enabled || layout == Layout::Curator && !is_enabled, "{what}");
    assert_same(&what, attr, &found.attr);
    true
}
