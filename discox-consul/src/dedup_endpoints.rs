//! From Consul's instances to a list of endpoints.

use std::{collections::HashMap, sync::Mutex};

use bytes::Bytes;
use discox_core::{
    backend::{Listing, WarnOnce, lock},
    record::Service,
};

use crate::{
    layout::{self, Reading, Stamp},
    model::Instance,
    status::Status,
};

/// What makes one record of an endpoint the one that is served: passing first, then the newest. A
/// record without a stamp is older than one with; two of one incarnation, on two agents, differ in
/// when they were written.
type Rank = (Status, Option<Stamp>, u64);

/// The endpoints of a service: served, readable, and each once.
pub(crate) fn dedup_endpoints(
    instances: Vec<Instance>,
    service: &Service,
    include_warning: bool,
    skips: &Mutex<WarnOnce>,
) -> Listing {
    let worst = if include_warning { Status::Warning } else { Status::Passing };
    let mut best = HashMap::<String, (Rank, Bytes)>::with_capacity(instances.len());
    for instance in instances {
        let status = Status::of(&instance.checks);
        // Consul's catalogue does not tell `Demo` from `demo`.
        if status < worst || instance.service.name != service.name() {
            continue;
        }
        match served(&instance, service) {
            Ok(Some((endpoint, attr))) => {
                let rank = (status, Stamp::of(&instance.service), instance.service.modify_index);
                match best.get_mut(&endpoint) {
                    Some((known, _)) if *known >= rank => {}
                    Some(known) => *known = (rank, attr),
                    None => drop(best.insert(endpoint, (rank, attr))),
                }
            }
            Ok(None) => {}
            Err(reason) => {
                lock(skips).skip(&instance.service.id, reason);
            }
        }
    }
    best.into_iter().map(|(endpoint, (_, attr))| (endpoint.into(), attr)).collect()
}

/// The instance's endpoint and attr; none when it belongs to another prefix.
fn served(instance: &Instance, service: &Service) -> Result<Option<(String, Bytes)>, &'static str> {
    match layout::read(&instance.service.meta, service.prefix()) {
        Reading::OtherPrefix => Ok(None),
        Reading::Damaged(reason) => Err(reason),
        Reading::Attr(attr) => layout::endpoint(instance).map(|endpoint| Some((endpoint, attr))),
    }
}

#[cfg(test)]
mod tests {
    use discox_core::{BackendType, RegisterConfig, record::Record};
    use serde_json::json;

    use super::*;

    /// A record of discox, as Consul answers it.
    fn ours(prefix: &str, attr: &str, started: u64, status: &str) -> Instance {
        let record = Record::parse(&RegisterConfig {
            discover_prefix: prefix.into(),
            service_name: "demo".into(),
            service_endpoint: "10.0.0.1:80".into(),
            ..Default::default()
        })
        .unwrap();
        let mut meta = layout::meta(&record, attr, &Stamp::after(None, record.incarnation));
        meta.insert("discox-started".into(), format!("{started:020}-x"));
        let mut instance = foreign("demo", "10.0.0.1", 80, status);
        instance.service.meta = meta;
        instance
    }

    fn foreign(name: &str, address: &str, port: i64, status: &str) -> Instance {
        serde_json::from_value(json!({
            "Node": {"Address": "10.9.9.9"},
            "Service": {"ID": format!("{name}-{address}"), "Service": name, "Address": address, "Port": port, "Meta": null},
            "Checks": [{"CheckID": "c", "Status": status}],
        }))
        .unwrap()
    }

    fn folded(instances: Vec<Instance>, include_warning: bool) -> Vec<(String, String)> {
        let service = Service::parse("/p", "demo").unwrap();
        let skips = Mutex::new(WarnOnce::new(BackendType::Consul, service.clone()));
        let list = dedup_endpoints(instances, &service, include_warning, &skips);
        let text = |(endpoint, attr): (std::sync::Arc<str>, Bytes)| {
            (endpoint.to_string(), String::from_utf8(attr.to_vec()).unwrap())
        };
        let mut list: Vec<_> = list.into_iter().map(text).collect();
        list.sort();
        list
    }

    fn one(endpoint: &str, attr: &str) -> Vec<(String, String)> {
        vec![(endpoint.into(), attr.into())]
    }

    #[test]
    fn of_several_records_the_newest_that_passes_is_served() {
        let (old, new) = (|status| ours("/p", "old", 1, status), |status| ours("/p", "new", 2, status));
        let at = "10.0.0.1:80";
        assert_eq!(folded(vec![new("passing"), old("passing")], false), one(at, "new"));
        assert_eq!(folded(vec![old("passing"), new("passing")], false), one(at, "new"));
        assert_eq!(folded(vec![old("passing"), new("critical")], false), one(at, "old"));
        assert_eq!(folded(vec![new("warning"), old("passing")], true), one(at, "old"));
        assert_eq!(folded(vec![new("warning")], true), one(at, "new"));
        assert_eq!(folded(vec![new("warning")], false), []);
        assert_eq!(
            folded(vec![foreign("demo", "10.0.0.1", 80, "passing"), old("passing")], false),
            one(at, "old")
        );
    }

    #[test]
    fn of_one_incarnation_on_two_agents_what_was_written_last_is_served() {
        let (mut first, mut second) = (ours("/p", "a", 1, "passing"), ours("/p", "b", 1, "passing"));
        (first.service.modify_index, second.service.modify_index) = (7, 9);
        assert_eq!(folded(vec![second, first], false), one("10.0.0.1:80", "b"));
    }

    #[test]
    fn others_prefixes_names_and_damage_are_left_out() {
        let mut damaged = ours("/p", "xyz", 1, "passing");
        damaged.service.meta.remove("discox-attr-00");
        let instances = vec![
            ours("/q", "other", 1, "passing"),
            damaged,
            foreign("Demo", "10.0.0.2", 80, "passing"),
            foreign("demo", "10.0.0.3", 0, "passing"),
            foreign("demo", "", 81, "passing"),
        ];
        assert_eq!(folded(instances, false), one("10.9.9.9:81", "{}"));
    }
}
