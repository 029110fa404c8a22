//! Why instances are no longer served, found out after the fact: by their checks, or because they are gone.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write,
    sync::Arc,
};

use discox_core::{Cause, record::Service};
use serde::Deserialize;

use crate::{
    agent::Consul,
    layout::{self, Reading},
    model::{Check, Instance},
    status::{Status, is_maintenance},
};

/// Endpoints that are asked for at a time, by their ports. When more go together, the others' causes stay unknown.
const MOST: usize = 64;

/// An instance, with what its checks say.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Report {
    #[serde(flatten)]
    instance: Instance,
    #[serde(default, rename = "Checks")]
    checks: Vec<CheckReport>,
}

/// What a check says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CheckReport {
    #[serde(rename = "CheckID")]
    id: String,
    name: String,
    status: String,
    output: String,
    notes: String,
    /// Empty for a check of the node.
    #[serde(rename = "ServiceID")]
    service_id: String,
}

/// What is known of the causes.
pub(crate) async fn why_gone(
    link: Arc<Consul>,
    service: Service,
    include_warning: bool,
    endpoints: Vec<Arc<str>>,
) -> Vec<(Arc<str>, Cause)> {
    let asked = endpoints.get(..MOST).unwrap_or(&endpoints);
    let datacenter = link.connector.settings.consul.datacenter.as_deref();
    let reports = link.client.reports(service.name(), datacenter, &filter(asked)).await;
    let Ok(reports) = reports else { return Vec::new() };
    let mut there: HashMap<String, Option<Cause>> = HashMap::new();
    for report in reports {
        let is_ours = report.instance.service.name == service.name()
            && !matches!(layout::read(&report.instance.service.meta, service.prefix()), Reading::OtherPrefix);
        if let (true, Ok(endpoint)) = (is_ours, layout::endpoint(&report.instance)) {
            let cause = report.cause(include_warning);
            // Of several records the newest is not known here: one that explains it does.
            there
                .entry(endpoint)
                .and_modify(|known| *known = known.take().or(cause.clone()))
                .or_insert(cause);
        }
    }
    let cause = |endpoint: &Arc<str>| match there.get(&**endpoint) {
        None => Some(Cause::Deregistered),
        Some(cause) => cause.clone(),
    };
    asked.iter().filter_map(|endpoint| Some((endpoint.clone(), cause(endpoint)?))).collect()
}

/// A filter expression for all that may be one of these endpoints.
fn filter(endpoints: &[Arc<str>]) -> String {
    let port = |endpoint: &Arc<str>| endpoint.rsplit_once(':')?.1.parse::<u16>().ok();
    let ports: BTreeSet<u16> = endpoints.iter().filter_map(port).collect();
    let mut filter = String::new();
    for port in ports {
        let or = if filter.is_empty() { "" } else { " or " };
        // Writing to a string cannot fail.
        let _ = write!(filter, "{or}Service.Port == {port}");
    }
    filter
}

impl Report {
    /// Why the instance is not served; none if it is, by now.
    fn cause(&self, include_warning: bool) -> Option<Cause> {
        if let Some(check) = self.checks.iter().find(|check| is_maintenance(&check.id)) {
            return Some(Cause::Maintenance { reason: check.notes.clone() });
        }
        let worst = if include_warning { Status::Warning } else { Status::Passing };
        let status = |check: &&CheckReport| {
            Status::of(&[Check { id: check.id.clone(), status: check.status.clone() }])
        };
        let check = self.checks.iter().filter(|check| status(check) < worst).min_by_key(status)?;
        let (name, output) = (check.name.clone(), check.output.trim().to_owned());
        Some(if check.service_id.is_empty() {
            Cause::NodeFailed { node: self.instance.node.name.clone(), check: name, output }
        } else {
            Cause::CheckFailed { check: name, status: check.status.clone(), output }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cause(checks: Value, include_warning: bool) -> Option<Cause> {
        let report: Report = serde_json::from_value(json!({
            "Node": {"Node": "n1", "Address": "10.9.9.9"},
            "Service": {"ID": "x", "Service": "demo", "Address": "10.0.0.1", "Port": 80, "Meta": null},
            "Checks": checks,
        }))
        .unwrap();
        report.cause(include_warning)
    }

    fn check(id: &str, status: &str, of_service: bool) -> Value {
        let service = if of_service { "x" } else { "" };
        json!({"CheckID": id, "Name": format!("name of {id}"), "Status": status, "Output": "says\n", "Notes": "why", "ServiceID": service})
    }

    #[test]
    fn the_worst_check_is_the_cause() {
        let passing = || check("p", "passing", true);
        assert!(cause(json!([passing()]), false).is_none());
        assert!(matches!(
            cause(json!([passing(), check("w", "warning", true), check("c", "critical", true)]), false),
            Some(Cause::CheckFailed { check, status, output })
                if (check.as_str(), status.as_str(), output.as_str()) == ("name of c", "critical", "says")
        ));
        assert!(cause(json!([check("w", "warning", true)]), true).is_none());
        assert!(matches!(
            cause(json!([check("serfHealth", "critical", false), passing()]), false),
            Some(Cause::NodeFailed { node, .. }) if node == "n1"
        ));
        assert!(matches!(
            cause(json!([check("_node_maintenance", "critical", false)]), false),
            Some(Cause::Maintenance { reason }) if reason == "why"
        ));
    }

    #[test]
    fn endpoints_are_asked_for_by_their_ports() {
        let endpoints = ["10.0.0.1:80", "[::1]:81", "10.0.0.2:80"].map(Arc::from);
        assert_eq!(filter(&endpoints), "Service.Port == 80 or Service.Port == 81");
    }
}
