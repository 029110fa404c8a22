//! `discox watch --why` on real registries: what went, and why.

#[allow(dead_code, unused_imports, reason = "each test file uses what it needs")]
mod program;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use discox_testkit::server::{Data, Kind, Servers};
use program::{Program, run};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Instant, timeout};

/// Far more than a TTL, on a machine that is busy.
const SOON: Duration = Duration::from_secs(90);

const PREFIX: &str = "/discox/why";

/// A registry, with what watches it.
struct Site {
    servers: Servers,
    place: Vec<String>,
    watch: Program,
}

impl Site {
    async fn start(kind: Kind) -> Result<Self> {
        let servers = Servers::single(kind).await?;
        let (name, address) = (kind.to_string().to_lowercase(), servers.member(0).address().to_owned());
        let place =
            ["--backend", &name, "--prefix", PREFIX, "--service", "demo", "--backend-endpoint", &address];
        let place = place.map(str::to_owned).to_vec();
        let watch = ["watch", "--why", "--output", "json"].map(str::to_owned);
        let args: Vec<_> = watch.iter().chain(&place).map(String::as_str).collect();
        let watch = Program::start(&args)?;
        let mut this = Self { servers, place, watch };
        this.told("synced", None).await?;
        Ok(this)
    }

    /// Registers an endpoint with a heart beat of a second.
    async fn registered(&self, endpoint: &str, more: &[&str]) -> Result<Program> {
        let place: Vec<_> = self.place.iter().map(String::as_str).collect();
        let args = [&["register", "--endpoint", endpoint, "--heart-beat", "1s"], &place[..], more].concat();
        let mut register = Program::start(&args)?;
        let line = register.line().await?;
        ensure!(line.contains("registered"), "{line}");
        Ok(register)
    }

    /// The next event of a history of this kind, for this endpoint.
    async fn told(&mut self, of: &str, endpoint: Option<&str>) -> Result<Value> {
        let until = Instant::now() + SOON;
        let mut seen = Vec::new();
        while Instant::now() < until {
            let line = match self.watch.line_within(SOON).await {
                Ok(line) => serde_json::from_str::<Value>(&line)?,
                Err(error) => bail!("{of} {endpoint:?} is not told: {error:#}; {seen:#?}"),
            };
            if line["event"] == "why" && line["of"] == of && line["endpoint"].as_str() == endpoint {
                return Ok(line);
            }
            seen.push(line.to_string());
        }
        bail!("{of} {endpoint:?} is not told: {seen:#?}")
    }

    /// Why an endpoint was removed.
    async fn why_removed(&mut self, endpoint: &str) -> Result<Value> {
        self.told("removed", Some(endpoint)).await
    }

    /// What a registrar's orderly end and its death look like.
    async fn stop_and_death(&mut self) -> Result<[Value; 2]> {
        let leaves = self.registered("10.0.0.1:1", &[]).await?;
        let added = self.told("added", Some("10.0.0.1:1")).await?;
        ensure!(added["cause"] == "written" || added["cause"] == "listed", "{added}");
        leaves.signal(Signal::TERM)?;
        let left = self.why_removed("10.0.0.1:1").await?;
        leaves.end().await?.with(0, 0)?;
        let dies = self.registered("10.0.0.2:1", &[]).await?;
        self.told("added", Some("10.0.0.2:1")).await?;
        dies.signal(Signal::KILL)?;
        let died = self.why_removed("10.0.0.2:1").await?;
        Ok([left, died])
    }
}

fn is(line: &Value, cause: &str, words: &[&str]) -> Result<()> {
    let why = line["why"].as_str().context("no words")?;
    ensure!(line["cause"] == cause && words.iter().all(|word| why.contains(word)), "not {cause}: {line}");
    Ok(())
}

#[tokio::test]
async fn on_etcd_a_deletion_and_the_end_of_a_lease_are_told_apart() -> Result<()> {
    let mut site = Site::start(Kind::Etcd).await?;
    let [left, died] = site.stop_and_death().await?;
    is(&left, "deleted", &["deleted in the registry"])?;
    is(&died, "lease_ended", &["its lease has ended"])?;

    // By hand, from under a registrar that lives.
    let register = site.registered("10.0.0.3:1", &[]).await?;
    site.told("added", Some("10.0.0.3:1")).await?;
    site.servers.member(0).tool(&["del", &format!("{PREFIX}/demo/10.0.0.3:1")]).await?;
    is(&site.why_removed("10.0.0.3:1").await?, "deleted", &[])?;
    site.told("added", Some("10.0.0.3:1")).await?;

    // Without a lease at all.
    site.servers.member(0).tool(&["put", &format!("{PREFIX}/demo/10.0.0.4:1"), "x"]).await?;
    site.told("added", Some("10.0.0.4:1")).await?;
    site.servers.member(0).tool(&["del", &format!("{PREFIX}/demo/10.0.0.4:1")]).await?;
    is(&site.why_removed("10.0.0.4:1").await?, "deleted", &[])?;
    register.signal(Signal::TERM)?;
    register.end().await?.with(0, 0)?;
    Ok(())
}

#[tokio::test]
async fn on_etcd_an_outage_is_told_with_what_it_holds_and_releases() -> Result<()> {
    let mut site = Site::start(Kind::Etcd).await?;
    let dies = site.registered("10.0.0.1:1", &[]).await?;
    let lives = site.registered("10.0.0.2:1", &[]).await?;
    site.told("added", Some("10.0.0.2:1")).await?;
    site.servers.kill().await?;
    is(&site.told("lost", None).await?, "error", &["etcd at"])?;
    dies.signal(Signal::KILL)?;
    site.servers.start(Data::Wiped).await?;
    let recovered = site.told("recovered", None).await;
    let held = site.told("released", Some("10.0.0.1:1")).await?;
    is(&held, "missing", &["missing from the list"])?;
    ensure!(recovered?["after_seconds"].as_f64().is_some_and(|after| after > 0.0));
    lives.signal(Signal::TERM)?;
    is(&site.why_removed("10.0.0.2:1").await?, "deleted", &[])?;
    lives.end().await?;
    Ok(())
}

#[tokio::test]
async fn on_consul_checks_and_deregistrations_are_told_apart() -> Result<()> {
    let mut site = Site::start(Kind::Consul).await?;
    let [left, died] = site.stop_and_death().await?;
    is(&left, "deregistered", &["deregistered"])?;
    is(&died, "check_failed", &["is critical", "TTL expired"])?;

    let register = site.registered("10.0.0.3:1", &[]).await?;
    site.told("added", Some("10.0.0.3:1")).await?;
    let maintain = "/v1/agent/maintenance?enable=true&reason=a+new+disk";
    site.servers.member(0).http("PUT", maintain, "").await?;
    is(&site.why_removed("10.0.0.3:1").await?, "maintenance", &["a new disk"])?;
    site.servers.member(0).http("PUT", "/v1/agent/maintenance?enable=false", "").await?;
    site.told("added", Some("10.0.0.3:1")).await?;
    register.signal(Signal::TERM)?;
    register.end().await?.with(0, 0)?;
    Ok(())
}

#[tokio::test]
async fn on_zookeeper_it_is_said_that_nothing_is_told() -> Result<()> {
    let mut site = Site::start(Kind::Zookeeper).await?;
    let [left, died] = site.stop_and_death().await?;
    is(&left, "unknown", &["the registry does not tell why"])?;
    is(&died, "unknown", &["the registry does not tell why"])
}

#[tokio::test]
async fn in_text_a_line_says_why() -> Result<()> {
    let site = Site::start(Kind::Etcd).await?;
    let place: Vec<_> = site.place.iter().map(String::as_str).collect();
    let mut watch = Program::start(&[&["watch", "--why"], &place[..]].concat())?;
    let synced = watch.line().await?;
    let why = watch.line().await?;
    let both = [synced, why].join("\n");
    assert!(both.contains("Z synced") && both.contains("Z why synced, 0 endpoints"), "{both}");
    let list = run(&[&["list"], &place[..]].concat()).await?.with(0, 0)?;
    assert_eq!(list.output, "");
    watch.signal(Signal::TERM)?;
    watch.end().await?.with(0, 0)?;
    site.watch.signal(Signal::TERM)?;
    let quiet = timeout(SOON, site.watch.end()).await??;
    quiet.with(0, 0)?;
    Ok(())
}
