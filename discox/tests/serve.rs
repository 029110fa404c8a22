//! `discox services` and `discox serve` on a real registry, etcd.

#[allow(dead_code, reason = "each test file uses what it needs")]
mod program;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use discox_testkit::{
    server::{Data, Kind, Servers},
    wait::eventually,
};
use program::{Program, discox, finish, run};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

const PREFIX: &str = "/discox/serve";
const DEADLINE: Duration = Duration::from_secs(30);
const TOKEN: &str = "0123456789abcdef-token";

/// Flags for this registry.
fn place(etcd: &Servers) -> Vec<String> {
    let address = etcd.member(0).address().to_owned();
    ["--backend", "etcd", "--prefix", PREFIX, "--backend-endpoint", &address].map(str::to_owned).to_vec()
}

fn args<'a>(first: &'a str, place: &'a [String], rest: &[&'a str]) -> Vec<&'a str> {
    [&[first], &place.iter().map(String::as_str).collect::<Vec<_>>()[..], rest].concat()
}

/// Registers an endpoint, and waits until it is.
async fn registered(place: &[String], service: &str, endpoint: &str) -> Result<Program> {
    let rest = ["--service", service, "--endpoint", endpoint, "--heart-beat", "1s"];
    let mut register = Program::start(&args("register", place, &rest))?;
    let line = register.line().await?;
    ensure!(line.contains("registered"), "{line}");
    Ok(register)
}

/// A running `discox serve`.
async fn serve(place: &[String], more: &[&str]) -> Result<(Program, String)> {
    let mut serve = Program::start(&args("serve", place, &[&["--output", "json"], more].concat()))?;
    let line = serve.json().await?;
    let url = line["message"].as_str().context("no address")?;
    let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    Ok((serve, address))
}

/// Status, headers and body.
async fn get(address: &str, path: &str, more: &str) -> Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, head.to_lowercase(), body.to_owned()))
}

#[tokio::test]
async fn services_are_printed_once_and_as_they_come_and_go() -> Result<()> {
    let etcd = Servers::single(Kind::Etcd).await?;
    let place = place(&etcd);
    let none = run(&args("services", &place, &["--output", "json"])).await?.with(0, 0)?;
    assert_eq!(none.output, "[]\n");
    let orders = registered(&place, "orders", "10.0.0.1:80").await?;
    let mut watch = Program::start(&args("services", &place, &["--watch", "--output", "json"]))?;
    let line = watch.json().await?;
    ensure!(
        line["event"] == "add" && line["service"] == "orders" && line.get("endpoint").is_none(),
        "{line}"
    );
    let line = watch.json().await?;
    ensure!(line["event"] == "synced" && line["service"].is_null(), "{line}");
    let users = registered(&place, "users", "10.0.0.1:80").await?;
    ensure!(watch.json().await?["service"] == "users");
    let both = run(&args("services", &place, &[])).await?.with(0, 0)?;
    assert_eq!(both.output, "orders\nusers\n");
    users.signal(Signal::TERM)?;
    let line = watch.json().await?;
    ensure!(line["event"] == "delete" && line["service"] == "users", "{line}");
    etcd.member(0).kill().await?;
    ensure!(watch.json().await?["event"] == "lost");
    run(&args("services", &place, &[])).await?.with(1, 1)?;
    watch.signal(Signal::INT)?;
    watch.end().await?.with(0, 0)?;
    drop(orders);
    Ok(())
}

#[tokio::test]
async fn what_a_registry_has_is_served_also_while_it_is_away() -> Result<()> {
    let etcd = Servers::single(Kind::Etcd).await?;
    let place = place(&etcd);
    let _orders = registered(&place, "orders", "10.0.0.1:80").await?;
    let (serve, address) = serve(&place, &["--listen", "127.0.0.1:0"]).await?;
    let (status, _, body) = get(&address, "/v1/services/orders", "").await?;
    ensure!(status == 200 && body.contains("10.0.0.1:80"), "{status} {body}");
    let mut events = BufReader::new(TcpStream::connect(&address).await?);
    let ask =
        format!("GET /v1/services/orders HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
    events.get_mut().write_all(ask.as_bytes()).await?;
    let mut next = async || -> Result<Value> {
        let mut line = String::new();
        while timeout(DEADLINE, events.read_line(&mut line)).await?? > 0 {
            if let Some(data) = line.strip_prefix("data: ") {
                let data: Value = serde_json::from_str(data)?;
                // The history is an array.
                if data.is_object() {
                    return Ok(data);
                }
            }
            line.clear();
        }
        anyhow::bail!("the stream has ended")
    };
    ensure!(next().await?["instances"].as_array().is_some_and(|all| all.len() == 1));
    let second = registered(&place, "orders", "10.0.0.2:80").await?;
    assert_eq!(next().await?["put"][0]["endpoint"], "10.0.0.2:80");
    second.signal(Signal::TERM)?;
    assert_eq!(next().await?["delete"], json!(["10.0.0.2:80"]));
    etcd.member(0).kill().await?;
    assert_eq!(next().await?["freshness"], "stale");
    let (status, head, body) = get(&address, "/v1/services/orders", "").await?;
    ensure!(
        status == 200 && head.contains("x-discox-freshness: stale") && head.contains("\nage: "),
        "{head}"
    );
    ensure!(body.contains("10.0.0.1:80"), "{body}");
    let (status, _, body) = get(&address, "/v1/services/users", "").await?;
    ensure!(status == 503 && body.contains("error"), "{status} {body}");
    etcd.member(0).start(Data::Kept).await?;
    eventually(DEADLINE, "the recovery", async || {
        get(&address, "/v1/services/users", "").await.is_ok_and(|(status, ..)| status == 200)
    })
    .await?;
    serve.signal(Signal::TERM)?;
    let ended = serve.end().await?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn with_a_token_it_may_listen_anywhere_and_shows_nothing_without() -> Result<()> {
    let etcd = Servers::single(Kind::Etcd).await?;
    let place = place(&etcd);
    let mut command = discox(&args("serve", &place, &["--listen", "0.0.0.0:0"]));
    command.env("DISCOX_ACCESS_TOKEN", "short");
    let refused = finish(command).await?.with(2, 1)?;
    ensure!(refused.errors.contains("at least 16"), "{refused:?}");
    let file = std::env::temp_dir().join(format!("discox-token-{}", std::process::id()));
    std::fs::write(&file, format!("{TOKEN}\n"))?;
    let (serve, address) =
        serve(&place, &["--listen", "0.0.0.0:0", "--access-token-file", &file.to_string_lossy()]).await?;
    std::fs::remove_file(&file)?;
    let address = address.replace("0.0.0.0", "127.0.0.1");
    assert_eq!(get(&address, "/v1/services", "").await?.0, 401);
    assert_eq!(get(&address, "/v1/services", "authorization: Bearer no\r\n").await?.0, 401);
    assert_eq!(get(&address, "/v1/services", &format!("authorization: Bearer {TOKEN}\r\n")).await?.0, 200);
    serve.signal(Signal::INT)?;
    let ended = serve.end().await?;
    ensure!(ended.status.success(), "{ended:?}");
    ensure!(!ended.output.contains(TOKEN) && !ended.errors.contains(TOKEN), "{ended:?}");
    Ok(())
}
