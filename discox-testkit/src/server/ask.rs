//! The few questions the harness itself asks a server, without a client crate: those are under test.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A healthy server on the loopback answers in milliseconds; one that elects a leader may take this long.
const PATIENCE: Duration = Duration::from_secs(3);

/// An answer of 200 to `GET path`, read as JSON.
pub(crate) async fn get(address: &str, path: &str) -> Result<Value> {
    http(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")).await
}

/// An answer of 200 to `POST path` with this JSON, read as JSON.
pub(crate) async fn post(address: &str, path: &str, body: &Value) -> Result<Value> {
    http(address, &with_body("POST", address, path, body)).await
}

/// An answer of 200 to `PUT path` with this JSON, whatever it says.
pub(crate) async fn put(address: &str, path: &str, body: &Value) -> Result<()> {
    http_text(address, &with_body("PUT", address, path, body)).await?;
    Ok(())
}

fn with_body(method: &str, address: &str, path: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

async fn http(address: &str, request: &str) -> Result<Value> {
    serde_json::from_str(&http_text(address, request).await?).context("not JSON")
}

async fn http_text(address: &str, request: &str) -> Result<String> {
    let answer = exchange(address, request).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("{status}: {}", body.trim());
    }
    Ok(body.to_owned())
}

/// Consul's index of the answer to `GET path`.
pub(crate) async fn consul_index(address: &str, path: &str) -> Result<u64> {
    let answer = exchange(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")).await?;
    let index = answer.lines().find_map(|line| line.strip_prefix("X-Consul-Index: "));
    index.and_then(|index| index.trim().parse().ok()).context("no index")
}

/// ZooKeeper's answer to one of its four-letter words.
pub(crate) async fn four_letters(address: &str, word: &str) -> Result<String> {
    exchange(address, word).await
}

/// Sends `question` and reads until the server closes.
async fn exchange(address: &str, question: &str) -> Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(question.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    Ok(timeout(PATIENCE, exchange).await??)
}
