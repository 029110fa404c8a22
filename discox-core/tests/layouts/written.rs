//! Writing: byte for byte what the other system has written.

use std::time::{Duration, UNIX_EPOCH};

use discox_core::{BackendType, InstanceId, Layout, LayoutOptions, RegisterConfig, record::Record};
use serde_json::Value;

use crate::examples::{files, layout_of};

const ATTR: &str = r#"{"weight":10,"version":"v1.2.0","zone":"a","env":"prod"}"#;

fn record(service: &str, endpoint: &str) -> Record {
    let config = RegisterConfig {
        service_name: service.into(),
        service_endpoint: endpoint.into(),
        ..Default::default()
    };
    let mut record = Record::parse(&config).unwrap();
    record.began = UNIX_EPOCH + Duration::from_millis(1_767_225_600_000);
    record
}

fn written(
    layout: Layout,
    backend: BackendType,
    record: &Record,
    attr: &str,
    options: &LayoutOptions,
) -> String {
    let encode = layout.format(backend).unwrap().encode.unwrap();
    encode(record, attr, options).unwrap()
}

/// What discox writes for an example of the common instance; none where the example is of something else.
fn ours(layout: Layout, backend: BackendType, theirs: &Value) -> Option<String> {
    let orders = record("orders", "10.1.2.3:8080");
    let mut options = LayoutOptions::default();
    let name = ["key", "path"].iter().find_map(|name| theirs[*name].as_str())?.rsplit('/').next()?;
    let write = |record: &Record, attr: &str, options: &LayoutOptions| {
        Some(written(layout, backend, record, attr, options))
    };
    match (layout, name) {
        (
            Layout::Grpc | Layout::Kitex | Layout::Hertz | Layout::GoZero,
            "10.1.2.3:8080" | "3157764554731949115",
        ) => {
            let has_attr = matches!(layout, Layout::Kitex | Layout::Hertz);
            write(&orders, if has_attr { ATTR } else { "" }, &options)
        }
        (Layout::Kratos, id) if id.starts_with("5f6c") => {
            options.instance_id = Some(id.into());
            options.scheme = Some("grpc".into());
            options.extra_endpoints = vec!["http://10.1.2.3:8080".into()];
            write(&record("orders", "10.1.2.3:9090"), ATTR, &options)
        }
        // Nobody but us writes a node for less than the life of its process in ZooKeeper: it is the same value.
        (Layout::GoMicro, "orders-3c2f8a54") => {
            options.instance_id = Some(name.into());
            Some(written(layout, BackendType::Etcd, &orders, ATTR, &options))
        }
        (Layout::Curator, id) if id.starts_with("f3b1") => {
            options.instance_id = Some(InstanceId::from(id));
            write(&orders, "", &options)
        }
        _ => None,
    }
}

#[test]
fn records_are_written_byte_for_byte() {
    let mut compared = 0;
    for (path, file) in files() {
        let Some((layout, backend)) = layout_of(&file).filter(|(_, backend)| *backend != BackendType::Consul)
        else {
            continue;
        };
        for theirs in file["records"].as_array().unwrap() {
            if let Some(ours) = ours(layout, backend, theirs) {
                assert_eq!(ours, theirs["value"].as_str().unwrap(), "{}", path.display());
                compared += 1;
            }
        }
    }
    assert!(compared >= 7, "{compared} records");
}

/// Jackson writes a Java map in the order of its hashes: the members are the same.
#[test]
fn an_instance_of_spring_says_the_same() {
    let files = files();
    let springs = files.iter().filter(|(_, file)| file["system"] == "spring-zookeeper");
    let mut compared = 0;
    for (_, file) in springs {
        let theirs: Value = serde_json::from_str(file["records"][0]["value"].as_str().unwrap()).unwrap();
        let id = theirs["id"].as_str().unwrap();
        let options = LayoutOptions { instance_id: Some(id.into()), ..Default::default() };
        let orders = record("orders", "10.1.2.3:8080");
        let ours = written(Layout::Spring, BackendType::Zookeeper, &orders, ATTR, &options);
        let mut ours: Value = serde_json::from_str(&ours).unwrap();
        // The ID of Spring's own context.
        ours["payload"]["id"] = theirs["payload"]["id"].clone();
        assert_eq!(ours, theirs);
        compared += 1;
    }
    assert!(compared > 0);
}
