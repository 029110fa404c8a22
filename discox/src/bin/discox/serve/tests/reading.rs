//! What is answered, and what is not.

use serde_json::json;

use super::{
    Server, TOKEN,
    client::{Events, ask, get},
    until,
};
use discox::Secret;
use std::{sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn services_and_their_instances_are_shown() {
    let server = Server::start().await;
    server.put("orders", "10.0.0.2:80", r#"{"weight":2,"version":"1.4","zone":"a"}"#);
    server.put("orders", "10.0.0.1:80", "plain");
    let answer = server.get("/v1/services/orders").await.is(200);
    let shown = answer.json();
    assert_eq!(shown["instances"][0], json!({"endpoint": "10.0.0.1:80", "attr": "plain"}));
    assert_eq!((&shown["instances"][1]["zone"], &shown["instances"][1]["weight"]), (&json!("a"), &json!(2)));
    assert_eq!(shown["freshness"], "synced");
    assert_eq!(answer.headers["x-discox-index"], shown["index"].to_string());
    assert_eq!(answer.headers["x-discox-freshness"], "synced");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(answer.headers["age"].parse::<u64>().is_ok());
    until("the name", || server.shared.watched.names().view().snapshot.len() == 1).await;
    assert_eq!(server.get("/v1/services").await.is(200).json()["services"], json!(["orders"]));
    assert_eq!(server.get("/v1/services/nobody").await.is(200).json()["instances"], json!([]));
    server.get("/healthz").await.is(200);
    server.get("/readyz").await.is(200);
}

#[tokio::test]
async fn wrong_requests_are_told_what_is_wrong() {
    let server = Server::start().await;
    for (path, status, reason) in [
        ("/v1/services/a%2Fb", 400, "service_name"),
        ("/v1/services/%2E%2E", 400, "service_name"),
        ("/v1/services/a%00b", 400, "service_name"),
        ("/v1/services/%ff", 400, "UTF-8"),
        ("/v1/services/demo?wait=soon", 400, "wait=soon"),
        ("/v1/services?index=-1", 400, "index=-1"),
        ("/v1/sd/prometheus?name=x", 400, "`name`"),
        ("/v2", 404, "docs/serve.md"),
    ] {
        let answer = server.get(path).await.is(status);
        assert!(answer.json()["error"].as_str().unwrap().contains(reason), "{path}: {answer:?}");
    }
    let close = ("connection", "close");
    ask(server.address, "POST", "/v1/services", &[close]).await.is(405);
    ask(server.address, "DELETE", "/v1/services/demo", &[close]).await.is(405);
    ask(server.address, "GET", "/v1/services", &[close, ("content-length", "5")]).await.is(413);
    let long = format!("/v1/services/{}", "x".repeat(20_000));
    assert!(matches!(server.get(&long).await.status, 414 | 431));
}

#[tokio::test]
async fn a_long_poll_answers_when_something_has_changed() {
    let server = Server::start().await;
    server.put("orders", "a:1", "");
    let index = server.get("/v1/services/orders").await.json()["index"].as_u64().unwrap();
    let path = format!("/v1/services/orders?wait=60s&index={index}");
    let waiting = tokio::spawn({
        let (address, path) = (server.address, path.clone());
        async move { get(address, &path, &[]).await }
    });
    let unchanged = server.get(&format!("/v1/services/orders?wait=200ms&index={index}")).await.is(200).json();
    assert_eq!(unchanged["index"], index);
    assert!(!waiting.is_finished());
    server.put("orders", "b:1", "");
    let changed = waiting.await.unwrap().is(200).json();
    assert_eq!(
        (changed["index"].as_u64(), changed["instances"].as_array().unwrap().len()),
        (Some(index + 1), 2)
    );
    assert_eq!(server.get(&path).await.json()["index"], index + 1);
}

#[tokio::test]
async fn a_stream_begins_with_the_list_and_follows_changes() {
    let server = Server::start().await;
    server.put("orders", "a:1", "");
    server.get("/v1/services/orders").await.is(200);
    let mut events = Events::of(server.address, "/v1/services/orders").await;
    let (name, list) = events.next().await;
    assert_eq!((name.as_str(), &list["instances"][0]["endpoint"]), ("list", &json!("a:1")));
    server.put("orders", "b:1", "x");
    let (name, change) = events.next().await;
    assert_eq!((name.as_str(), &change["follows"]), ("change", &list["index"]));
    assert_eq!((&change["put"], &change["delete"]), (&json!([{"endpoint": "b:1", "attr": "x"}]), &json!([])));
    server.store.delete("", "orders", "a:1").unwrap();
    assert_eq!(events.next().await.1["delete"], json!(["a:1"]));
    server.store.fail(true);
    let (_, lost) = events.next().await;
    assert_eq!(lost["freshness"], "stale");
    assert!(lost["error"].as_str().unwrap().contains("told to fail"), "{lost}");
    let mut names = Events::of(server.address, "/v1/services").await;
    assert_eq!(names.next().await.1["services"], json!(["orders"]));
    super::connections::end(&server.shared).await;
    assert!(events.ends().await && names.ends().await);
}

#[tokio::test]
async fn what_happened_is_told_as_it_happens_and_kept() {
    let server = Server::start().await;
    server.put("orders", "a:1", "");
    server.get("/v1/services/orders").await.is(200);
    let mut events = Events::of(server.address, "/v1/services/orders").await;
    events.next().await;
    server.store.delete("", "orders", "a:1").unwrap();
    let removal = loop {
        let (name, data) = events.any().await;
        let found = data.as_array().into_iter().flatten().find(|event| event["event"] == "removed").cloned();
        if let (true, Some(found)) = (name == "history", found) {
            break found;
        }
    };
    assert_eq!(removal["endpoint"], "a:1");
    assert!(removal["why"].is_string() && removal["at"].is_string(), "{removal}");
    let kept = server.get("/v1/services/orders/history").await.is(200).json();
    assert!(kept.as_array().unwrap().iter().any(|event| event["number"] == removal["number"]), "{kept}");
}

#[tokio::test]
async fn what_is_known_is_shown_in_an_outage_and_503_where_nothing_is() {
    let server = Server::start().await;
    server.put("orders", "a:1", "");
    server.get("/v1/services/orders").await.is(200);
    server.store.fail(true);
    let stale =
        |headers: &std::collections::HashMap<String, String>| headers["x-discox-freshness"] == "stale";
    let mut answer = server.get("/v1/services/orders").await.is(200);
    while !stale(&answer.headers) {
        answer = server.get("/v1/services/orders").await.is(200);
    }
    assert_eq!(answer.json()["instances"][0]["endpoint"], "a:1");
    assert!(answer.headers["age"].parse::<u64>().is_ok());
    server.get("/readyz").await.is(200);
    let unknown = server.get("/v1/services/users").await.is(503);
    assert!(unknown.json()["error"].as_str().unwrap().contains("told to fail"), "{unknown:?}");
    assert_eq!(unknown.headers["retry-after"], "1");
    server.get("/v1/sd/prometheus?service=users").await.is(503);
}

#[tokio::test]
async fn a_token_is_asked_for_where_there_is_one() {
    let server = Server::with(Some(Secret::new(TOKEN)), |_| {}).await;
    for headers in [&[][..], &[("authorization", "Bearer wrong-wrong-wrong")]] {
        for path in ["/v1/services", "/v1/services/demo", "/v1/sd/prometheus", "/metrics", "/elsewhere"] {
            let mut all = vec![("connection", "close")];
            all.extend(headers);
            let refused = ask(server.address, "GET", path, &all).await.is(401);
            assert_eq!(refused.headers["www-authenticate"], "Bearer");
        }
    }
    assert_eq!(server.shared.counts.refused_tokens.load(Relaxed), 10);
    let bearer = format!("Bearer {TOKEN}");
    let metrics = get(server.address, "/metrics", &[("authorization", &bearer)]).await.is(200);
    assert!(metrics.body.contains("discox_serve_refused_total{reason=\"token\"} 10"), "{metrics:?}");
    assert!(!metrics.body.contains(TOKEN));
    // The page asks for it, and probes show nothing.
    let page = server.get("/").await.is(200);
    assert!(page.headers["content-security-policy"].starts_with("default-src 'none'"));
    server.get("/healthz").await.is(200);
    let elsewhere = [("host", "services.example"), ("authorization", bearer.as_str())];
    get(server.address, "/v1/services/demo", &elsewhere).await.is(200);
}

#[tokio::test]
async fn without_a_token_a_page_of_somebody_else_may_not_read() {
    let server = Server::start().await;
    get(server.address, "/v1/services", &[("host", "evil.example:7979")]).await.is(421);
    get(server.address, "/", &[("host", "evil.example")]).await.is(421);
    get(server.address, "/v1/services/x", &[("host", "localhost:1")]).await.is(200);
    assert_eq!(server.shared.counts.refused_hosts.load(Relaxed), 2);
}

#[tokio::test]
async fn what_prometheus_asks_for_has_all_targets() {
    let server = Server::start().await;
    server.put("orders", "a:1", r#"{"zone":"z","weight":3,"app.name":"x"}"#);
    server.put("users", "b:1", "plain");
    until("the names", || server.shared.watched.names().view().snapshot.len() == 2).await;
    let all = server.get("/v1/sd/prometheus").await.is(200);
    assert_eq!(all.headers["content-type"], "application/json");
    let orders = json!({"targets": ["a:1"], "labels": {
        "__meta_discox_service": "orders",
        "__meta_discox_attr_zone": "z",
        "__meta_discox_attr_weight": "3",
        "__meta_discox_attr_app_name": "x",
    }});
    let users = json!({"targets": ["b:1"], "labels": {"__meta_discox_service": "users"}});
    assert_eq!(all.json(), json!([orders, users]));
    assert_eq!(server.get("/v1/sd/prometheus?service=users").await.json(), json!([users]));
    let metrics = server.get("/metrics").await.is(200);
    for line in [
        "discox_discovery_endpoints{service=\"orders\"} 1",
        "discox_discovery_synced{service=\"users\"} 1",
        "discox_services 2",
        "# TYPE discox_discovery_outages_total counter",
    ] {
        assert!(metrics.body.contains(line), "{line} in {}", metrics.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_come_is_not_waited_for() {
    let server = Server::start().await;
    for part in ["", "GET /v1/services HT", "GET /v1/services HTTP/1.1\r\nhost: 127.0.0.1\r\nx: "] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(part.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(100), stream.read_to_string(&mut answer)).await;
        read.expect("it waits for ever").unwrap();
        assert!(!answer.contains(" 200 "), "{answer}");
    }
}
