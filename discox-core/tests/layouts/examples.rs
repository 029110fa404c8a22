//! Reading examples: a file per system and registry.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use discox_core::{
    BackendType, Instance, Layout, LayoutOptions, Payload,
    layout::{Decoded, Found, consul},
    record::Service,
};
use serde_json::Value;

/// The folders with examples: our own, and the real ones where they are.
pub(crate) fn folders() -> Vec<PathBuf> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = env::var_os("DISCOX_GOLDEN").map(PathBuf::from);
    let golden = golden.unwrap_or_else(|| crate_folder.join("../../shared/golden"));
    let mut folders = vec![crate_folder.join("tests/layouts")];
    folders.extend(golden.is_dir().then_some(golden));
    folders
}

/// All files of examples, with what they hold.
pub(crate) fn files() -> Vec<(PathBuf, Value)> {
    fn collect(folder: &Path, files: &mut Vec<(PathBuf, Value)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, serde_json::from_str(&text).unwrap()));
            }
        }
    }
    let mut files = Vec::new();
    folders().iter().for_each(|folder| collect(folder, &mut files));
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    files
}

/// The layout and the registry of a file; none where discox has no such layout.
pub(crate) fn layout_of(file: &Value) -> Option<(Layout, BackendType)> {
    let system = match file["system"].as_str()? {
        "grpc-naming" => "grpc",
        "spring-zookeeper" | "spring-consul" => "spring",
        other => other,
    };
    let backend = file["backend"].as_str()?.parse().ok()?;
    Some((system.parse().ok()?, backend))
}

/// Whose record is at a path, and what it is called there.
fn service_of(
    path: &str,
    layout: Layout,
    backend: BackendType,
    options: &LayoutOptions,
) -> (Service, String) {
    let format = layout.format(backend).unwrap();
    let segments: Vec<_> = path.split('/').collect();
    for at in 0..segments.len() {
        for prefix in ["", &segments[..at].join("/")] {
            let Ok(service) = Service::parse(prefix, segments[at]) else { continue };
            let Ok(directory) = (format.directory)(&service, options) else { continue };
            if let Some(name) = path.strip_prefix(&directory.path).and_then(|rest| rest.strip_prefix('/')) {
                return (service, name.to_owned());
            }
        }
    }
    panic!("{path} is in no directory of {layout}")
}

/// What discox makes of a record.
fn read(layout: Layout, backend: BackendType, path: &str, value: &str) -> Result<Decoded, String> {
    let application_level = layout == Layout::Dubbo && path.starts_with("/services");
    let options = LayoutOptions { application_level, payload: Payload::Json, ..Default::default() };
    let (service, name) = service_of(path, layout, backend, &options);
    let decode = layout.format(backend).unwrap().decode.unwrap();
    decode(&name, value.as_bytes(), &service, &options).map_err(|reason| reason.to_string())
}

/// Everything that an example says of its endpoints is so.
fn assert_reads_as(what: &str, found: &[Found], expected: &[Value]) {
    assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
    for (found, expected) in found.iter().zip(expected) {
        let instance = Instance::parse(&found.endpoint, &found.attr);
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        for (name, expected) in expected.as_object().unwrap() {
            let is = match name.as_str() {
                "endpoint" => instance.endpoint.as_str().into(),
                "id" => instance.id.as_str().into(),
                "scheme" => text(&instance.scheme),
                "weight" => instance.weight.into(),
                "version" => text(&instance.version),
                "zone" => text(&instance.zone),
                "enabled" => {
                    assert_eq!(found.enabled, instance.enabled, "{what}");
                    instance.enabled.into()
                }
                "metadata" => {
                    for (key, expected) in expected.as_object().unwrap() {
                        let is = instance.metadata.get(key);
                        // Of a payload that is no object, the examples only say that there is one.
                        let is_it =
                            if key.is_empty() { is.is_some() } else { is.is_some_and(|is| is == expected) };
                        assert!(is_it, "{what}: {key} is {is:?}");
                    }
                    continue;
                }
                other => panic!("{other}?"),
            };
            assert_eq!(is, *expected, "{what}: {name}");
        }
    }
}

/// Checks one record, and tells whether anything was to be checked.
fn check(layout: Layout, backend: BackendType, record: &Value, fallback: &str) -> bool {
    let Some(value) = record["value"].as_str().or((layout == Layout::Dubbo).then_some("")) else {
        return false;
    };
    let path = ["key", "path"].iter().find_map(|name| record[*name].as_str()).unwrap_or(fallback);
    let what = format!("{layout} on {backend}, {}, {path}", record["label"]);
    let should = record["discox_should"].as_str().unwrap_or_default();
    // What another service's records do, or what was there before, is not the layout's.
    if path.is_empty() || should.starts_with("not see") || should.starts_with("never write") {
        return false;
    }
    let read = read(layout, backend, path, value);
    if let Some(expected) = record["reads_as"].as_array() {
        assert_reads_as(&what, &read.unwrap().found, expected);
    } else if should.starts_with("skip") || should.starts_with("leave out") {
        assert!(read.as_ref().is_ok_and(|read| read.found.is_empty()) || read.is_err(), "{what}: {read:?}");
    } else if should.starts_with("take")
        || should.starts_with("add brackets")
        || should.starts_with("read the last")
    {
        assert!(should.starts_with("take or") || !read.unwrap().found.is_empty(), "{what}");
    } else if should.starts_with("not enabled") {
        assert!(!read.unwrap().found[0].enabled, "{what}");
    } else {
        return false;
    }
    true
}

#[test]
fn records_are_read_as_the_examples_say() {
    let mut checked = 0;
    for (path, file) in files() {
        let Some((layout, backend)) = layout_of(&file).filter(|(_, backend)| *backend != BackendType::Consul)
        else {
            continue;
        };
        if layout.format(backend).is_none_or(|format| format.decode.is_none()) {
            continue;
        }
        let records = file["records"].as_array().unwrap();
        let first = ["key", "path"].iter().find_map(|name| records[0][*name].as_str()).unwrap_or_default();
        let fallback = format!("{}/k", first.rsplit_once('/').unwrap().0);
        let here = records.iter().chain(file["tricky"].as_array().into_iter().flatten());
        let here = here.filter(|record| check(layout, backend, record, &fallback)).count();
        assert!(here > 0, "nothing is checked in {}", path.display());
        checked += here;
    }
    assert!(checked >= 30, "{checked} records");
}

#[test]
fn services_of_consul_are_read_as_the_examples_say() {
    let mut checked = 0;
    for (_, file) in files() {
        let Some((layout, BackendType::Consul)) = layout_of(&file) else { continue };
        for record in file["records"].as_array().unwrap() {
            let entries =
                record["entries"].as_array().cloned().unwrap_or_else(|| vec![record["entry"].clone()]);
            let Some(expected) = record["reads_as"].as_array() else { continue };
            // Of several, the last is the one that is well.
            let service = service(entries.last().unwrap());
            let decoded = consul::decode(layout, &service, &LayoutOptions::default()).unwrap();
            assert_reads_as(&format!("{layout}"), &decoded.found, expected);
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked} services");
}

fn service(entry: &Value) -> consul::ConsulService {
    let service = &entry["Service"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let tagged = service["TaggedAddresses"].as_object().into_iter().flatten();
    let tagged = tagged.map(|(name, tagged)| {
        let (address, port) = (text(&tagged["Address"]), tagged["Port"].as_i64().unwrap_or_default());
        (name.clone(), consul::TaggedAddress { address, port })
    });
    let meta = service["Meta"].as_object().into_iter().flatten();
    consul::ConsulService {
        id: text(&service["ID"]),
        name: text(&service["Service"]),
        address: text(&service["Address"]),
        port: service["Port"].as_i64().unwrap_or_default(),
        tags: service["Tags"].as_array().into_iter().flatten().map(text).collect(),
        meta: meta.map(|(name, value)| (name.clone(), text(value))).collect(),
        tagged_addresses: tagged.collect(),
        weight: service["Weights"]["Passing"].as_u64().and_then(|weight| u32::try_from(weight).ok()),
        ..Default::default()
    }
}
