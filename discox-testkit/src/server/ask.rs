//! The few questions the harness itself asks a server, without a client crate: those are under test.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::access::Door;

/// A healthy server on the loopback answers in milliseconds; one that elects a leader, or shakes hands on a busy
/// machine, may take this long.
const PATIENCE: Duration = Duration::from_secs(6);

/// An answer of 200 to `GET path`, read as JSON.
pub(crate) async fn get(door: impl Into<Door<'_>>, path: &str) -> Result<Value> {
    json(&http(door, "GET", path, "").await?)
}

/// An answer of 200 to `POST path` with this JSON, read as JSON.
pub(crate) async fn post(door: impl Into<Door<'_>>, path: &str, body: &Value) -> Result<Value> {
    json(&http(door, "POST", path, &body.to_string()).await?)
}

/// An answer of 200 to `PUT path` with this JSON, whatever it says.
pub(crate) async fn put(door: impl Into<Door<'_>>, path: &str, body: &Value) -> Result<()> {
    http(door, "PUT", path, &body.to_string()).await.map(drop)
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).context("not JSON")
}

/// The body of an answer of 200.
pub(crate) async fn http(door: impl Into<Door<'_>>, method: &str, path: &str, body: &str) -> Result<String> {
    let answer = exchange_http(door.into(), method, path, body).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("{method} {path}: {status}: {}", body.trim());
    }
    Ok(body.to_owned())
}

/// Consul's index of the answer to `GET path`.
pub(crate) async fn consul_index(door: impl Into<Door<'_>>, path: &str) -> Result<u64> {
    let answer = exchange_http(door.into(), "GET", path, "").await?;
    let index = answer.lines().find_map(|line| line.strip_prefix("X-Consul-Index: "));
    index.and_then(|index| index.trim().parse().ok()).context("no index")
}

/// ZooKeeper's answer to one of its four-letter words.
pub(crate) async fn four_letters(door: impl Into<Door<'_>>, word: &str) -> Result<String> {
    exchange(door.into(), word).await
}

/// HTTP/1.0, where the answer ends with the connection.
async fn exchange_http(door: Door<'_>, method: &str, path: &str, body: &str) -> Result<String> {
    let (address, headers, length) = (door.address, door.headers(), body.len());
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n{headers}");
    let of_body = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    exchange(door, &(head + &of_body)).await
}

/// Sends `question` and reads until the server closes.
async fn exchange(door: Door<'_>, question: &str) -> Result<String> {
    let exchange = async {
        let mut stream = door.connect().await?;
        stream.write_all(question.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            // ZooKeeper says no goodbye in TLS.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && !answer.is_empty() => {}
            read => drop(read?),
        }
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(PATIENCE, exchange).await?
}
