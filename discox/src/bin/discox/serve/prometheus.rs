//! Prometheus' HTTP service discovery: every instance is a target, what its attr says are labels.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use futures_util::future::try_join_all;
use serde::Serialize;

use super::{
    Shared,
    json::members,
    reply::{self, Refusal},
    view::View,
};

/// A target and its labels.
#[derive(Debug, Serialize)]
struct Target<'a> {
    targets: [&'a str; 1],
    labels: BTreeMap<String, String>,
}

/// `GET /v1/sd/prometheus`: the instances of all services, or of those that `service=NAME` names. Where something is
/// not known it is 503, and Prometheus keeps what it had.
pub(super) async fn targets(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let mut services = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes()) {
        match &*name {
            "service" => services.push(value.into_owned()),
            _ => return Err(Refusal(StatusCode::BAD_REQUEST, format!("`{name}` is unknown, use service"))),
        }
    }
    if services.is_empty() {
        services = shared.watched.names().known().await?.snapshot.endpoints();
    }
    let feeds: Vec<_> = services.iter().map(|name| shared.watched.service(name)).collect::<Result<_, _>>()?;
    let views = try_join_all(feeds.iter().map(|feed| feed.known())).await?;
    let targets: Vec<_> =
        services.iter().zip(&views).flat_map(|(name, view)| of_service(name, view)).collect();
    Ok(reply::json(serde_json::to_vec(&targets).unwrap_or_default().into()))
}

fn of_service<'a>(name: &str, view: &'a View) -> Vec<Target<'a>> {
    let mut entries: Vec<_> = view.snapshot.iter().collect();
    entries.sort_unstable_by_key(|entry| entry.endpoint());
    let target = |entry: &'a discox::Entry| {
        let said = members(entry.attr()).into_iter().map(|(key, value)| (label(&key), value));
        let service = ("__meta_discox_service".to_owned(), name.to_owned());
        Target { targets: [entry.endpoint()], labels: said.chain([service]).collect() }
    };
    entries.into_iter().map(target).collect()
}

/// A member's label. Others than letters, digits and `_` become `_`.
fn label(key: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("__meta_discox_attr_{}", key.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_what_prometheus_takes() {
        assert_eq!(label("zone"), "__meta_discox_attr_zone");
        assert_eq!(label("app.kubernetes.io/name-é"), "__meta_discox_attr_app_kubernetes_io_name__");
    }
}
