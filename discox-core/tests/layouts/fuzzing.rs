//! Records of other systems: whatever they are, nothing panics, and what is taken of them can be served.

use discox_core::{
    BackendType, Instance, Layout, LayoutOptions, Payload,
    layout::{Decoded, MAX_ENDPOINTS_PER_RECORD, consul},
    record::{Endpoint, Service},
};
use serde_json::Value;

use crate::fuzz::fuzz;

/// What is accepted can be served: distinct readable endpoints, each with a flat JSON object.
fn can_be_served(decoded: &Decoded, is_any_text: bool) {
    assert!(decoded.found.len() <= MAX_ENDPOINTS_PER_RECORD);
    for (i, found) in decoded.found.iter().enumerate() {
        assert!(Endpoint::is_readable(&found.endpoint), "{}", found.endpoint);
        assert!(decoded.found[..i].iter().all(|other| other.endpoint != found.endpoint));
        assert!(std::str::from_utf8(&found.attr).is_ok());
        let instance = Instance::parse(&found.endpoint, &found.attr);
        if is_any_text {
            continue;
        }
        let Ok(Value::Object(attr)) = serde_json::from_slice(&found.attr) else { panic!("{found:?}") };
        assert!(
            attr.values().all(|value| !value.is_object() && !value.is_array() && !value.is_null()),
            "{attr:?}"
        );
        assert_eq!(instance.enabled, found.enabled);
        assert!(
            attr.get("weight").is_none_or(|weight| instance.weight.map(Value::from).as_ref() == Some(weight))
        );
    }
    if let Some(complaint) = &decoded.complaint {
        assert!(complaint.to_string().len() < 1_000);
    }
}

fn options(random: usize) -> LayoutOptions {
    let scheme = ["", "http", "grpc", "tri"][random % 4];
    LayoutOptions {
        scheme: Some(scheme).filter(|scheme| !scheme.is_empty()).map(str::to_owned),
        application_level: random & 4 > 0,
        payload: if random & 8 > 0 { Payload::Text } else { Payload::None },
        ..Default::default()
    }
}

/// A name, `\n`, and a value, for all decoders of these layouts.
fn records(layouts: &[Layout], examples: &[&str]) {
    let service = Service::parse("", "orders").expect("it is a service");
    let examples: Vec<_> = examples.iter().map(|example| example.as_bytes()).collect();
    fuzz(&examples, |input| {
        let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        let (name, value) = (String::from_utf8_lossy(&input[..at]), input.get(at + 1..).unwrap_or_default());
        // The attr of a discox service may be any text.
        let has_original =
            [&b"discox-attr"[..], b"\\u", b"%"].map(|mark| input.windows(mark.len()).any(|w| w == mark));
        let is_any_text = has_original.contains(&true);
        for layout in layouts {
            for backend in [BackendType::Etcd, BackendType::Zookeeper] {
                let Some(decode) = layout.format(backend).and_then(|format| format.decode) else { continue };
                let options = options(input.len());
                if let Ok(decoded) = decode(&name, value, &service, &options) {
                    can_be_served(&decoded, is_any_text || options.payload == Payload::Text);
                }
            }
        }
        let _ = Layout::guess(BackendType::Etcd, &name, value);
        let _ = Layout::guess(BackendType::Zookeeper, &name, value);
    });
}

#[test]
fn records_of_go() {
    records(
        &[Layout::Grpc, Layout::GoZero, Layout::Kratos, Layout::Kitex, Layout::Hertz, Layout::GoMicro],
        &[
            "x\n{\"Op\":0,\"Addr\":\"10.1.2.3:8080\",\"Metadata\":{\"weight\":10,\"o\":{\"a\":[1]},\"t\":\"\\u003c\\ud800\"}}",
            "7\n10.1.2.3:8080",
            "7\nfd00::3:8080",
            "u\n{\"id\":\"u\",\"name\":\"orders\",\"version\":\"v1\",\"metadata\":{\"weight\":\"10\"},\"endpoints\":[\"grpc://10.1.2.3:9090\",\"http://[::1]:80/x?isSecure=false\",\"http://h:1\",\"http://h:2\"]}",
            "10.1.2.3:8080\n{\"network\":\"tcp\",\"address\":\"10.1.2.3:8080\",\"weight\":10,\"tags\":{\"zone\":\"a\",\"enabled\":\"false\"}}",
            "fd00::3:8080\n{\"Weight\":10,\"Tags\":{\"discox-attr\":\"{\\\"a\\\":1}\"}}",
            "n\n{\"name\":\"orders\",\"version\":\"v1\",\"nodes\":[{\"metadata\":{\"protocol\":\"grpc\"},\"id\":\"n\",\"address\":\"10.1.2.3:8080\"},{\"address\":\"h:1\"}]}",
        ],
    );
}

#[test]
fn records_of_jackson() {
    records(
        &[Layout::Curator, Layout::Spring, Layout::Dubbo],
        &[
            "i\n\u{feff}{\"name\":\"orders\",\"id\":\"i\",\"address\":\"10.1.2.3\",\"port\":\"8080\",\"sslPort\":8443,\"payload\":null,\"serviceType\":\"DYNAMIC\",\"uriSpec\":{\"parts\":[{\"value\":\"grpc\",\"variable\":false},{\"value\":\"://\",\"variable\":false}]},\"enabled\":false}",
            "i\n{\"address\":\"fd00::3\",\"port\":1,\"payload\":{\"@class\":\"java.util.LinkedHashMap\",\"weight\":10,\"o\":{}}}",
            "i\n{\"address\":\"h\",\"port\":1,\"payload\":{\"@class\":\"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance\",\"metadata\":{\"instance_status\":\"DOWN\",\"weight\":\"10\"}}}",
            "i\n{\"address\":\"h\",\"port\":1,\"payload\":{\"@class\":\"org.apache.dubbo.registry.zookeeper.ZookeeperInstance\",\"metadata\":{\"dubbo.endpoints\":\"[{\\\"port\\\":20880,\\\"protocol\\\":\\\"dubbo\\\"}]\"}}}",
            "i\n{\"address\":\"h\",\"port\":1,\"payload\":\"{\\\"weight\\\":10}\"}",
        ],
    );
}

#[test]
fn names_of_dubbo() {
    records(
        &[Layout::Dubbo],
        &[
            "tri%3A%2F%2F10.1.2.3%3A8080%2Forders%3Fapplication%3Dorders%26interface%3Dorders%26note%3Da+b*%7E%C3%A9%26weight%3D10\n",
            "dubbo%3A%2F%2F%5Bfd00%3A%3A3%5D%3A1%2Forders%3Fmethods%3Dget%252Clist%26enabled%3Dfalse%26revision%3Dv1%26version%3D1\n",
            "tri%3A%2F%2Fh%3A1%2Forders%3Fdiscox-attr%3D%7B%7D\n",
        ],
    );
}

/// Lines: ID, address, port, weight, attr; then tags, pairs `name=text`, and tagged addresses `name@address`.
#[test]
fn services_of_consul() {
    let examples: [&[u8]; 4] = [
        b"orders-1\n10.1.2.3\n8080\n1\n\nversion=v1\nenv=prod\ngrpc@grpc://10.1.2.3:9090\nlan_ipv4@10.1.2.3",
        b"orders:h:1\n::1\n1\n10\n{\"weight\":3}\nenv:prod\nzone:a\nsecure=true",
        b"o\nh\n65535\n0\ntext\nt-789caa564acd2b53b2522a28ca4f51aa05040000ffff230704b9\nv-789c2a33d433d23300040000ffff05990166",
        b"o\nh\n-1\n1\n\nt={\"weight\":\"10\"}\nt\ne\nv=v1\nweight=10",
    ];
    fuzz(&examples, |input| {
        let text = String::from_utf8_lossy(input);
        let mut lines = text.split('\n').map(str::to_owned);
        let mut seen = consul::ConsulService {
            id: lines.next().unwrap_or_default(),
            address: lines.next().unwrap_or_default(),
            port: lines.next().and_then(|line| line.parse().ok()).unwrap_or_default(),
            weight: lines.next().and_then(|line| line.parse().ok()),
            attr: lines.next().filter(|line| !line.is_empty()),
            in_maintenance: input.len() % 3 == 0,
            ..Default::default()
        };
        for line in lines {
            if let Some((name, address)) = line.split_once('@') {
                let tagged = consul::TaggedAddress { address: address.to_owned(), port: seen.port };
                seen.tagged_addresses.insert(name.to_owned(), tagged);
            } else if let Some((name, text)) = line.split_once('=') {
                seen.meta.insert(name.to_owned(), text.to_owned());
            }
            seen.tags.push(line);
        }
        for layout in [Layout::Spring, Layout::Kratos, Layout::Kitex, Layout::Hertz, Layout::GoMicro] {
            if let Ok(decoded) = consul::decode(layout, &seen, &options(input.len())) {
                let is_any_text = seen.attr.is_some() || text.contains("discox-attr") || text.contains("\\u");
                can_be_served(&decoded, is_any_text || text.contains("t-"));
            }
        }
    });
}
