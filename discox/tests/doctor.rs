//! `discox doctor` on registries that are well, away, hidden or something else: each line says what to change.

#[allow(dead_code, reason = "each test file uses what it needs")]
mod program;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use discox_testkit::server::{Kind, Servers};
use program::{Program, discox, finish, run};
use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};

const KINDS: [Kind; 3] = [Kind::Etcd, Kind::Zookeeper, Kind::Consul];
const SOON: Duration = Duration::from_secs(60);

/// What it says of a registry, as lines, with its exit code.
async fn examined(backend: &str, address: &str, more: &[&str]) -> Result<(i32, String)> {
    let place = ["doctor", "--backend", backend, "--backend-endpoint", address, "--prefix", "/discox/doctor"];
    let ended = run(&[&place[..], more].concat()).await?;
    ensure!(ended.errors.is_empty(), "{ended:?}");
    Ok((ended.status.code().context("no code")?, ended.output))
}

/// The line of a check.
fn line<'a>(output: &'a str, outcome: &str, name: &str) -> Result<&'a str> {
    let is_it =
        |line: &&str| line.strip_prefix(outcome).is_some_and(|rest| rest.trim_start().starts_with(name));
    output.lines().find(is_it).with_context(|| format!("no {outcome} {name} in {output}"))
}

fn says(output: &str, outcome: &str, name: &str, words: &[&str]) -> Result<()> {
    let line = line(output, outcome, name)?;
    ensure!(words.iter().all(|word| line.contains(word)), "{words:?} are not in {line}");
    Ok(())
}

#[tokio::test]
async fn a_registry_that_is_well_is_well_and_nothing_is_left_behind() -> Result<()> {
    for kind in KINDS {
        let servers = Servers::single(kind).await?;
        let (backend, address) = (kind.to_string(), servers.member(0).address());
        let (code, output) = examined(&backend, address, &["--service", "demo"]).await?;
        ensure!(code == 0, "{kind}: {output}");
        for name in ["name", "tcp", "server", "log-in", "write", "ttl", "round trip", "delete"] {
            line(&output, "ok", name)?;
        }
        // Nobody is registered there.
        says(&output, "warning", "read", &["nothing is registered", "--prefix", "--service"])?;
        if kind != Kind::Zookeeper {
            says(&output, "ok", "clock", &["agrees"])?;
        }
        let left =
            ["list", "--backend", &backend, "--backend-endpoint", address, "--prefix", "/discox/doctor"];
        let left = run(&[&left[..], &["--service", "demo-doctor"]].concat()).await?.with(0, 0)?;
        ensure!(left.output.is_empty(), "{kind}: {left:?}");
        let (code, json) = examined(&backend, address, &["--output", "json"]).await?;
        let json: Value = serde_json::from_str(&json)?;
        ensure!(code == 0 && json["ok"] == true, "{json}");
        let checks = json["checks"].as_array().context("no checks")?;
        ensure!(checks.iter().any(|check| check["name"] == "delete" && check["outcome"] == "ok"), "{json}");
    }
    Ok(())
}

/// Also a doctor that is killed leaves nothing that outlives its TTL; one that is asked to end nothing at all.
#[tokio::test]
async fn a_doctor_that_is_stopped_half_way_leaves_nothing() -> Result<()> {
    let servers = Servers::single(Kind::Etcd).await?;
    let address = servers.member(0).address();
    let args = ["doctor", "--backend-endpoint", address, "--prefix", "/discox/doctor", "--service", "demo"];
    for signal in [Signal::TERM, Signal::KILL] {
        let mut doctor = Program::start(&args)?;
        while !doctor.line().await?.contains("registered 192.0.2.1:9") {}
        doctor.signal(signal)?;
        let _ = doctor.end().await?;
        let began = Instant::now();
        let prefix = "/discox/doctor/";
        while !servers.member(0).tool(&["get", "--prefix", "--keys-only", prefix]).await?.trim().is_empty() {
            ensure!(began.elapsed() < SOON, "the record stays after {signal:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_the_way_is_told_with_what_to_change() -> Result<()> {
    let refusing = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    refusing.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    let refused = refusing.local_addr()?.as_socket().context("no address")?.to_string();
    for kind in KINDS {
        let backend = kind.to_string();
        let (code, output) = examined(&backend, &refused, &[]).await?;
        ensure!(code == 1, "{output}");
        says(&output, "FAILED", "tcp", &["nothing listens there", "start the registry"])?;
        says(&output, "skipped", "log-in", &["no member can be reached"])?;

        let (code, output) = examined(&backend, "no-such-host.invalid:2379", &[]).await?;
        ensure!(code == 1, "{output}");
        says(&output, "FAILED", "name", &["no-such-host.invalid", "DNS"])?;
    }
    Ok(())
}

/// A port whose queue of connections is full swallows further ones, as a firewall does.
#[tokio::test]
async fn what_is_swallowed_is_told() -> Result<()> {
    let hole = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    hole.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    hole.listen(0)?;
    let address = hole.local_addr()?.as_socket().context("no address")?;
    let mut filling = Vec::new();
    for _ in 0..4 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let _ = socket.connect(&address.into());
        filling.push(socket);
    }
    let (code, output) = examined("etcd", &address.to_string(), &[]).await?;
    ensure!(code == 1, "{output}");
    says(&output, "FAILED", "tcp", &["no answer within", "firewalls"])
}

/// A server of another kind, or one that wants TLS.
#[tokio::test]
async fn the_wrong_registry_is_told() -> Result<()> {
    let etcd = Servers::single(Kind::Etcd).await?;
    for backend in ["consul", "zookeeper"] {
        let (code, output) = examined(backend, etcd.member(0).address(), &[]).await?;
        ensure!(code == 1, "{output}");
        says(&output, "FAILED", "server", &["--backend"])?;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = [0; 1024];
            let _ = stream.read(&mut question).await;
            // A TLS alert, as servers send it to those who speak no TLS.
            let _ = stream.write_all(&[0x15, 3, 1, 0, 2, 2, 22]).await;
        }
    });
    let (code, output) = examined("etcd", &address, &[]).await?;
    ensure!(code == 1, "{output}");
    says(&output, "FAILED", "server", &["write https://"])?;
    let (code, output) = examined("etcd", &format!("https://{}", etcd.member(0).address()), &[]).await?;
    ensure!(code == 1, "{output}");
    says(&output, "FAILED", "tls", &["write http://"])
}

#[tokio::test]
async fn what_is_written_wrongly_is_told_as_everywhere() -> Result<()> {
    let ended = finish(discox(&["doctor", "--backend", "redis"])).await?.with(2, 1)?;
    ensure!(ended.errors.contains("unknown backend"), "{ended:?}");
    let ended = finish(discox(&["doctor", "--backend-endpoint", "http://"])).await?.with(2, 1)?;
    ensure!(ended.errors.contains("--backend-endpoint"), "{ended:?}");
    Ok(())
}
