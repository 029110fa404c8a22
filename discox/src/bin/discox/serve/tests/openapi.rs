//! What is answered is what `docs/serve.openapi.json` says.

use serde_json::{Value, json};

use super::{Server, client::Events, until};

const DOCUMENT: &str = include_str!("../../../../../../docs/serve.openapi.json");

/// The few words of JSON Schema that the document uses.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#'));
        return check(document, target.unwrap_or_else(|| panic!("no {reference}")), value, place);
    }
    let is_type = match schema["type"].as_str() {
        None => true,
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("{other} is not checked"),
    };
    assert!(is_type, "{place} is {value}, not {}", schema["type"]);
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{place} is {value}");
    }
    for item in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], item, &format!("{place}[]"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{place} has no {name}: {value}");
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        match known.unwrap_or(&Value::Null) {
            Value::Bool(false) | Value::Null => panic!("{place}.{name} is not described"),
            schema => check(document, schema, member, &format!("{place}.{name}")),
        }
    }
}

#[tokio::test]
async fn every_answer_is_as_described() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let server = Server::start().await;
    server.put("orders", "a:1", r#"{"weight":2,"zone":"z"}"#);
    server.put("orders", "b:1", "plain");
    server.store.put("", "orders", "c:1", &b"\xff"[..]).unwrap();
    until("the names", || server.shared.watched.names().view().is_known()).await;
    for (path, described) in document["paths"].as_object().unwrap() {
        for (asked, status) in
            [(path.replace("{name}", "orders"), "200"), (path.replace("{name}", "%2F"), "400")]
        {
            let expected = &described["get"]["responses"][status];
            if expected.is_null() {
                continue;
            }
            let answer = server.get(&asked).await.is(status.parse().unwrap());
            let expected = expected["$ref"]
                .as_str()
                .map_or(expected, |reference| document.pointer(reference.trim_start_matches('#')).unwrap());
            let kind = answer.headers["content-type"].split(';').next().unwrap();
            let schema = &expected["content"][kind]["schema"];
            assert!(schema.is_object(), "{asked}: {kind} is not described");
            if kind == "application/json" {
                check(&document, schema, &answer.json(), &asked);
            }
            for name in document["components"]["x-headers"].as_object().unwrap().keys() {
                let is_promised = expected.get("headers").is_some();
                assert!(!is_promised || answer.headers.contains_key(name), "{asked}: no {name}");
            }
        }
    }
    server.store.fail(true);
    let error = server.get("/v1/services/nobody").await.is(503).json();
    check(&document, &json!({"$ref": "#/components/schemas/Error"}), &error, "503");
}

#[tokio::test]
async fn every_event_is_as_described() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let is = |schema: &str, value: &Value| {
        check(&document, &json!({ "$ref": format!("#/components/schemas/{schema}") }), value, schema);
    };
    let server = Server::start().await;
    server.put("orders", "a:1", r#"{"weight":2}"#);
    server.get("/v1/services/orders").await.is(200);
    until("the names", || server.shared.watched.names().view().snapshot.len() == 1).await;
    let mut names = Events::of(server.address, "/v1/services").await;
    let mut orders = Events::of(server.address, "/v1/services/orders").await;
    is("Services", &names.next().await.1);
    is("Service", &orders.next().await.1);
    server.put("users", "b:1", "");
    server.put("orders", "b:1", "");
    is("ServicesChange", &names.next().await.1);
    is("ServiceChange", &orders.next().await.1);
    server.store.fail(true);
    is("ServicesChange", &names.next().await.1);
    is("ServiceChange", &orders.next().await.1);
}
