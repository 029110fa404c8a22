//! The command line on a real registry, etcd.

#[allow(dead_code, reason = "each test file uses what it needs")]
mod program;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use discox_testkit::{
    proxy::Proxy,
    server::{Data, Kind, Servers},
    wait::eventually,
};
use program::{DEADLINE, Program, discox, finish, read, run};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::timeout;

const PREFIX: &str = "/discox/cli";

/// An etcd, and how the command line is told of it.
struct Etcd {
    servers: Servers,
    place: Vec<String>,
}

impl Etcd {
    async fn start() -> Result<Self> {
        let servers = Servers::single(Kind::Etcd).await?;
        let address = servers.member(0).address().to_owned();
        let place =
            ["--backend", "etcd", "--prefix", PREFIX, "--service", "demo", "--backend-endpoint", &address];
        Ok(Self { place: place.map(str::to_owned).to_vec(), servers })
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        // After the subcommand, before `--`.
        let (first, rest) = args.split_at(1);
        [first, &self.place.iter().map(String::as_str).collect::<Vec<_>>(), rest].concat()
    }

    fn discox(&self, args: &[&str]) -> Result<Program> {
        Program::start(&self.args(args))
    }

    /// Registers an endpoint with a heart beat of a second, and waits for its line.
    async fn registered(&self, endpoint: &str) -> Result<Program> {
        let mut register = self.discox(&["register", "--endpoint", endpoint, "--heart-beat", "1s"])?;
        let line = register.line().await?;
        ensure!(line.contains("registered") && line.contains(endpoint), "{line}");
        Ok(register)
    }

    async fn watch(&self) -> Result<Program> {
        self.discox(&["watch", "--output", "json"])
    }

    /// The endpoints in the registry, as it sees them itself.
    async fn endpoints(&self) -> Result<Vec<String>> {
        let prefix = format!("{PREFIX}/demo/");
        let keys = self.servers.member(0).tool(&["get", "--prefix", "--keys-only", &prefix]).await?;
        Ok(keys.lines().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    async fn tool(&self, args: &[&str]) -> Result<()> {
        self.servers.member(0).tool(args).await.map(drop)
    }
}

fn is(line: &serde_json::Value, event: &str, endpoint: &str) -> Result<()> {
    ensure!(line["event"] == event && line["endpoint"] == endpoint, "not {event} {endpoint}: {line}");
    ensure!(line["at"].as_str().is_some_and(|at| at.len() == 24 && at.ends_with('Z')), "no time: {line}");
    Ok(())
}

#[tokio::test]
async fn registers_lists_and_deregisters_by_sigterm_and_sigint() -> Result<()> {
    let etcd = Etcd::start().await?;
    let attr = r#"{"weight":1}"#;
    let mut register = etcd.discox(&["register", "--endpoint", "10.0.0.5:8111", "--attr", attr])?;
    let line = register.line().await?;
    for word in ["registered 10.0.0.5:8111", attr, "demo on etcd", "TTL 15s"] {
        assert!(line.contains(word), "{word} is missing in {line}");
    }
    let other = etcd.registered("10.0.0.6:8111").await?;

    let list = run(&etcd.args(&["list"])).await?.with(0, 0)?;
    assert_eq!(list.output, "10.0.0.5:8111 {\"weight\":1}\n10.0.0.6:8111\n");
    let list = run(&etcd.args(&["list", "--output", "json"])).await?.with(0, 0)?;
    let list: serde_json::Value = serde_json::from_str(&list.output)?;
    let expected = json!([
        { "endpoint": "10.0.0.5:8111", "attr": attr },
        { "endpoint": "10.0.0.6:8111", "attr": "" },
    ]);
    assert_eq!(list, expected);

    register.signal(Signal::TERM)?;
    let ended = register.end().await?.with(0, 0)?;
    assert_eq!(ended.output, "", "one line, once registered");
    assert_eq!(etcd.endpoints().await?, ["10.0.0.6:8111"]);
    other.signal(Signal::INT)?;
    other.end().await?.with(0, 0)?;
    assert_eq!(etcd.endpoints().await?, [""; 0]);

    let list = run(&etcd.args(&["list", "--output", "json"])).await?.with(0, 0)?;
    assert_eq!(list.output, "[]\n");
    let list = run(&etcd.args(&["list"])).await?.with(0, 0)?;
    assert_eq!(list.output, "");
    Ok(())
}

#[tokio::test]
async fn variables_alone_are_enough() -> Result<()> {
    let etcd = Etcd::start().await?;
    let _register = etcd.registered("10.0.0.5:8111").await?;
    let mut command = discox(&["list"]);
    command.env("DISCOX_BACKEND", "etcd").env("DISCOX_BACKEND_ENDPOINT", etcd.servers.member(0).address());
    command.env("DISCOX_PREFIX", PREFIX).env("DISCOX_SERVICE", "demo").env("DISCOX_OUTPUT", "json");
    let list = finish(command).await?.with(0, 0)?;
    assert_eq!(list.output, "[{\"endpoint\":\"10.0.0.5:8111\",\"attr\":\"\"}]\n");
    Ok(())
}

#[tokio::test]
async fn watch_prints_adds_then_synced_then_every_change() -> Result<()> {
    let etcd = Etcd::start().await?;
    let first = etcd.registered("10.0.0.5:8111").await?;
    let mut watch = etcd.watch().await?;
    is(&watch.json().await?, "add", "10.0.0.5:8111")?;
    let synced = watch.json().await?;
    ensure!(
        synced["event"] == "synced" && synced["endpoint"].is_null() && synced["attr"].is_null(),
        "{synced}"
    );

    let key = format!("{PREFIX}/demo/10.0.0.7:1");
    etcd.tool(&["put", &key, "one"]).await?;
    let line = watch.json().await?;
    is(&line, "add", "10.0.0.7:1")?;
    ensure!(line["attr"] == "one", "{line}");
    etcd.tool(&["put", &key, "two\nlines"]).await?;
    let line = watch.json().await?;
    is(&line, "update", "10.0.0.7:1")?;
    ensure!(line["attr"] == "two\nlines", "{line}");
    etcd.tool(&["del", &key]).await?;
    let line = watch.json().await?;
    is(&line, "delete", "10.0.0.7:1")?;
    ensure!(line["attr"].is_null(), "{line}");

    first.signal(Signal::TERM)?;
    is(&watch.json().await?, "delete", "10.0.0.5:8111")?;
    watch.signal(Signal::INT)?;
    let ended = watch.end().await?.with(0, 0)?;
    assert_eq!(ended.output, "");
    Ok(())
}

#[tokio::test]
async fn watch_tells_an_outage_once_and_its_end_after_the_difference() -> Result<()> {
    let etcd = Etcd::start().await?;
    let proxy = Proxy::to(etcd.servers.member(0).address()).await?;
    let place = ["--backend-endpoint", proxy.address(), "--prefix", PREFIX, "--service", "demo"];
    let mut watch = Program::start(&[&["watch", "--output", "json"], &place[..]].concat())?;
    assert_eq!(watch.json().await?["event"], "synced");
    proxy.refuse().await;
    proxy.reset_all();
    let lost = watch.json().await?;
    ensure!(
        lost["event"] == "lost" && lost["message"].as_str().is_some_and(|text| text.contains("etcd")),
        "{lost}"
    );
    etcd.tool(&["put", &format!("{PREFIX}/demo/10.0.0.7:1"), "one"]).await?;
    watch.silent(Duration::from_millis(1500)).await?;
    proxy.accept().await;
    is(&watch.json().await?, "add", "10.0.0.7:1")?;
    assert_eq!(watch.json().await?["event"], "recovered");
    watch.signal(Signal::TERM)?;
    watch.end().await?.with(0, 0)?;
    Ok(())
}

#[tokio::test]
async fn a_killed_registrar_is_gone_after_its_ttl() -> Result<()> {
    let etcd = Etcd::start().await?;
    let register = etcd.registered("10.0.0.5:8111").await?;
    let mut watch = etcd.watch().await?;
    is(&watch.json().await?, "add", "10.0.0.5:8111")?;
    assert_eq!(watch.json().await?["event"], "synced");
    register.signal(Signal::KILL)?;
    let killed = Instant::now();
    is(&watch.json().await?, "delete", "10.0.0.5:8111")?;
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(3 + 2), "the TTL is 3 s, it took {took:?}");
    Ok(())
}

#[tokio::test]
async fn a_command_runs_while_registered_and_its_exit_code_is_ours() -> Result<()> {
    let etcd = Etcd::start().await?;
    for (script, code) in [("read line; exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 128 + 9)] {
        let register = etcd.discox(&["register", "--endpoint", "10.0.0.5:8111", "--", "sh", "-c", script])?;
        let ended = register.end().await?.with(code, 0)?;
        assert_eq!(ended.output.lines().count(), 1, "{ended:?}");
        assert_eq!(etcd.endpoints().await?, [""; 0]);
    }
    let register = etcd.discox(&["register", "--endpoint", "10.0.0.5:8111", "--", "/no/such/program"])?;
    let ended = register.end().await?.with(127, 1)?;
    assert!(ended.errors.contains("/no/such/program"), "{ended:?}");
    assert_eq!(etcd.endpoints().await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_command_gets_our_signals_after_the_endpoint_has_left() -> Result<()> {
    let etcd = Etcd::start().await?;
    let script =
        "trap 'echo hup' HUP; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut register = etcd.discox(&["register", "--endpoint", "10.0.0.5:8111", "--", "sh", "-c", script])?;
    assert!(register.line().await?.contains("registered"));
    assert_eq!(register.line().await?, "ready");
    assert_eq!(etcd.endpoints().await?, ["10.0.0.5:8111"]);
    register.signal(Signal::HUP)?;
    assert_eq!(register.line().await?, "hup");
    assert_eq!(
        etcd.endpoints().await?,
        ["10.0.0.5:8111"],
        "many take it as a wish to read their files again"
    );
    register.signal(Signal::TERM)?;
    assert_eq!(register.line().await?, "term");
    assert_eq!(etcd.endpoints().await?, [""; 0]);
    register.end().await?.with(9, 0)?;

    let mut register = etcd.discox(&["register", "--endpoint", "10.0.0.5:8111", "--", "sleep", "60"])?;
    register.line().await?;
    register.signal(Signal::INT)?;
    register.end().await?.with(128 + 2, 0)?;
    Ok(())
}

#[tokio::test]
async fn a_hanging_registry_delays_the_end_by_five_seconds_or_until_the_second_signal() -> Result<()> {
    let etcd = Etcd::start().await?;
    let patient = etcd.registered("10.0.0.5:8111").await?;
    let hasty = etcd.registered("10.0.0.6:8111").await?;
    etcd.servers.member(0).pause().await?;
    let begun = Instant::now();
    patient.signal(Signal::TERM)?;
    hasty.signal(Signal::TERM)?;
    let patient = async { anyhow::Ok((patient.end().await?, begun.elapsed())) };
    // Two signals that come together are one to the kernel: send again until it has been heard.
    let hasty = async {
        let mut hasty = hasty;
        let heard = async || hasty.has_ended() || hasty.signal(Signal::TERM).is_err();
        eventually(DEADLINE, "the end by the second signal", heard).await?;
        Ok((hasty, begun.elapsed()))
    };
    let ((patient, patience), (hasty, haste)) = tokio::try_join!(patient, hasty)?;
    let ended = patient.with(1, 1)?;
    assert!(patience < Duration::from_secs(6), "took {patience:?}");
    assert!(ended.errors.contains("etcd") && ended.errors.contains("10.0.0.5:8111"), "{ended:?}");
    assert!(haste < Duration::from_secs(3), "took {haste:?}");
    let ended = hasty.end().await?.with(128 + 15, 1)?;
    assert!(ended.errors.contains("TTL"), "{ended:?}");
    etcd.servers.member(0).resume().await
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_watch_quietly() -> Result<()> {
    let etcd = Etcd::start().await?;
    let mut watch = etcd.watch().await?;
    assert_eq!(watch.json().await?["event"], "synced");
    let mut child = watch.close_output();
    etcd.tool(&["put", &format!("{PREFIX}/demo/10.0.0.7:1"), "one"]).await?;
    let status = timeout(DEADLINE, child.wait()).await.context("it does not end")??;
    assert_eq!((status.code(), read(child.stderr.take()).await?.as_str()), (Some(0), ""));
    Ok(())
}

#[tokio::test]
async fn register_repairs_after_a_restart_and_warns_of_it() -> Result<()> {
    let etcd = Etcd::start().await?;
    let register = etcd.registered("10.0.0.5:8111").await?;
    etcd.servers.kill().await?;
    etcd.servers.start(Data::Wiped).await?;
    let back = async || etcd.endpoints().await.ok().filter(|endpoints| *endpoints == ["10.0.0.5:8111"]);
    eventually(DEADLINE, "the endpoint to be back", back).await?;
    register.signal(Signal::TERM)?;
    let ended = register.end().await?;
    assert!(ended.status.success() && ended.errors.contains("registry lost"), "{ended:?}");
    assert_eq!(etcd.endpoints().await?, [""; 0]);
    Ok(())
}
