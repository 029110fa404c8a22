//! The paths, and what each answers.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::time::timeout;

use super::{
    Shared, access, changes,
    counts::add,
    json, metrics, page, prometheus,
    reply::{self, Refusal},
    view::{View, age},
    watched::Feed,
};

/// The longest wait for a change.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const INDEX: HeaderName = HeaderName::from_static("x-discox-index");
const FRESHNESS: HeaderName = HeaderName::from_static("x-discox-freshness");

type Answer = Result<Response, Refusal>;

/// What is asked for beyond the newest view.
#[derive(Debug, Default, Eq, PartialEq)]
struct Ask {
    wait: Duration,
    index: Option<u64>,
}

/// All paths.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/healthz", get(async || reply::with_type(TEXT, "ok\n")))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/services", get(names))
        .route("/v1/services/{name}", get(service))
        .route("/v1/services/{name}/history", get(history))
        .route("/v1/sd/prometheus", get(prometheus::targets))
        .fallback(async || reply::error(StatusCode::NOT_FOUND, "there is nothing here; see docs/serve.md"))
        .layer(middleware::from_fn_with_state(shared.clone(), access::check))
        .layer(middleware::from_fn_with_state(shared.clone(), every))
        .with_state(shared.clone())
}

/// What is done with every request.
async fn every(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    add(&shared.counts.requests);
    reply::harmless(next.run(request).await)
}

/// Whether the names of the services are known, from before an outage perhaps.
async fn ready(State(shared): State<Arc<Shared>>) -> Answer {
    let view = shared.watched.names().view();
    if view.is_known() {
        return Ok(reply::with_type(TEXT, "ready\n"));
    }
    let reason = "the names of the services are not known yet";
    Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, reason.into()))
}

async fn names(State(shared): State<Arc<Shared>>, query: RawQuery, headers: HeaderMap) -> Answer {
    let feed = shared.watched.names().clone();
    answer(&shared, feed, query, &headers).await
}

async fn service(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
    query: RawQuery,
    headers: HeaderMap,
) -> Answer {
    let Path(name) = name.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.body_text()))?;
    let feed = shared.watched.service(&name)?;
    answer(&shared, feed, query, &headers).await
}

/// What happened to a service lately, and why.
async fn history(State(shared): State<Arc<Shared>>, name: Result<Path<String>, PathRejection>) -> Answer {
    let Path(name) = name.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.body_text()))?;
    let feed = shared.watched.service(&name)?;
    feed.known().await?;
    Ok(reply::json(json::events(&feed.history().events()).into()))
}

/// A stream of changes, or the view, perhaps once it has changed.
async fn answer(
    shared: &Arc<Shared>,
    feed: Arc<Feed>,
    RawQuery(query): RawQuery,
    headers: &HeaderMap,
) -> Answer {
    let ask = Ask::parse(query.as_deref().unwrap_or_default())?;
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.contains("text/event-stream")) {
        return Ok(changes::stream(shared, feed));
    }
    if let Some(index) = ask.index {
        let (mut views, mut ending) = (feed.views(), shared.ending.subscribe());
        let changed = async {
            tokio::select! {
                _ = views.wait_for(|view| view.index != index) => {}
                _ = ending.wait_for(|ending| *ending) => {}
            }
        };
        // When nothing has changed, that is the answer.
        let _ = timeout(ask.wait, changed).await;
    }
    let view = feed.known().await?;
    Ok(with_head(reply::json(view.list()), &view, &feed))
}

/// Adds the index, how far the view can be trusted, and when it was last confirmed.
fn with_head(mut answer: Response, view: &View, feed: &Feed) -> Response {
    let headers = answer.headers_mut();
    headers.insert(INDEX, view.index.into());
    if let Ok(freshness) = view.state.to_string().parse() {
        headers.insert(FRESHNESS, freshness);
    }
    if let Some(confirmed) = feed.status().last_confirmed {
        headers.insert(header::AGE, age(confirmed).as_secs().into());
    }
    answer
}

impl Ask {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let wrong = |what: String| Refusal(StatusCode::BAD_REQUEST, what);
        let mut ask = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "wait" => {
                    let wait = humantime::parse_duration(&value);
                    let wait = wait.map_err(|error| wrong(format!("wait={value}: {error}, use 30s")))?;
                    ask.wait = wait.min(LONGEST_WAIT);
                }
                "index" => {
                    let index = value.parse().map_err(|_| wrong(format!("index={value}: not a number")))?;
                    ask.index = Some(index);
                }
                _ => return Err(wrong(format!("`{name}` is unknown, use wait and index"))),
            }
        }
        Ok(ask)
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        refusal.into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_understood_or_rejected() {
        let ask = |query| Ask::parse(query).ok().map(|ask| (ask.wait.as_millis(), ask.index));
        assert_eq!(ask(""), Some((0, None)));
        assert_eq!(ask("wait=30s&index=7"), Some((30_000, Some(7))));
        assert_eq!(ask("index=18446744073709551615&wait=1h"), Some((300_000, Some(u64::MAX))));
        for wrong in ["wait=soon", "wait=5", "index=-1", "index=x", "page=1", "wait"] {
            assert_eq!(ask(wrong), None, "{wrong}");
        }
    }
}
