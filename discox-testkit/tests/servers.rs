//! The harness itself, on real servers: what the other tests rely on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use discox_testkit::server::{Data, Kind, Member, Servers};
use discox_testkit::wait::eventually;

/// Elections and recoveries take a few seconds; a machine busy with other tests may take many.
const SOON: Duration = Duration::from_secs(60);

async fn write(member: &Member, kind: Kind, value: &str) -> Result<()> {
    match kind {
        Kind::Etcd => member.tool(&["put", "/kept", value]).await?,
        Kind::Zookeeper => member.tool(&["create", "/kept", value]).await?,
        Kind::Consul => member.tool(&["kv", "put", "kept", value]).await?,
    };
    Ok(())
}

/// The value, or None when there is no such key.
async fn read(member: &Member, kind: Kind) -> Result<Option<String>> {
    let found = match kind {
        Kind::Etcd => member.tool(&["get", "--print-value-only", "/kept"]).await?,
        Kind::Zookeeper => match member.tool(&["get", "/kept"]).await {
            Err(error) if format!("{error:#}").contains("NoNode") => String::new(),
            Err(error) if format!("{error:#}").contains("Node does not exist") => String::new(),
            found => found?,
        },
        Kind::Consul => match member.tool(&["kv", "get", "kept"]).await {
            Err(error) if format!("{error:#}").contains("No key exists") => String::new(),
            found => found?,
        },
    };
    Ok(Some(found.trim().to_owned()).filter(|value| !value.is_empty()))
}

/// A single server through all that can be done to it.
async fn single(kind: Kind) -> Result<()> {
    let servers = Servers::single(kind).await?;
    let member = servers.member(0);
    let address = member.address().to_owned();
    ensure!(servers.addresses() == vec![address.clone()]);
    ensure!(member.is_leader().await);
    write(member, kind, r#"{"a": "b c"}"#).await?;

    member.kill().await?;
    member.kill().await.context("killing twice")?;
    ensure!(tokio::net::TcpStream::connect(&address).await.is_err(), "a killed server accepts");
    member.start(Data::Kept).await?;
    ensure!(member.address() == address);
    ensure!(read(member, kind).await?.as_deref() == Some(r#"{"a": "b c"}"#), "the data was kept");

    member.pause().await?;
    ensure!(!member.answers().await, "a paused server answers");
    member.resume().await?;
    member.ready().await?;
    ensure!(read(member, kind).await?.is_some(), "it goes on with its data");

    member.pause().await?;
    member.kill().await.context("killing a paused one")?;
    member.start(Data::Wiped).await?;
    ensure!(read(member, kind).await?.is_none(), "the data was wiped");

    let error = member.tool(&["no-such-command"]).await.err().context("the tool did not fail")?;
    ensure!(format!("{error:#}").contains("no-such-command"), "{error:#}");
    Ok(())
}

/// A cluster of three: a leader killed, a member wiped, a leader cut off, all restarted.
async fn cluster(kind: Kind) -> Result<()> {
    let servers = Servers::cluster(kind).await?;
    let (first, leader) = servers.elected().await?;
    write(leader, kind, "one").await?;

    leader.kill().await?;
    let (second, _) = servers.elected().await?;
    ensure!(second != first);
    leader.start(Data::Wiped).await?;
    eventually(SOON, "the data on the wiped member", async || {
        read(leader, kind).await.is_ok_and(|value| value.as_deref() == Some("one"))
    })
    .await?;

    let (_, leader) = servers.elected().await?;
    leader.cut_off().await?;
    let others: Vec<&Member> = servers.members().iter().filter(|m| m.address() != leader.address()).collect();
    eventually(SOON, "another leader", async || {
        for other in &others {
            if other.is_leader().await {
                return true;
            }
        }
        false
    })
    .await?;
    eventually(SOON, "the end of the old leader's reign", async || !leader.is_leader().await).await?;
    // Still there for clients: it is cut off, not gone.
    tokio::net::TcpStream::connect(leader.address()).await.context("the member that is cut off")?;
    leader.rejoin().await?;
    futures_util::future::try_join_all(servers.members().iter().map(Member::ready)).await?;
    servers.elected().await?;

    servers.kill().await?;
    servers.start(Data::Kept).await?;
    let (_, leader) = servers.elected().await?;
    ensure!(read(leader, kind).await?.as_deref() == Some("one"), "a restarted cluster keeps its data");
    servers.kill().await?;
    servers.start(Data::Wiped).await?;
    let (_, leader) = servers.elected().await?;
    ensure!(read(leader, kind).await?.is_none(), "a wiped cluster is empty");
    Ok(())
}

#[tokio::test]
async fn single_etcd() -> Result<()> {
    tokio::spawn(single(Kind::Etcd)).await?
}

#[tokio::test]
async fn single_zookeeper() -> Result<()> {
    tokio::spawn(single(Kind::Zookeeper)).await?
}

#[tokio::test]
async fn single_consul() -> Result<()> {
    tokio::spawn(single(Kind::Consul)).await?
}

#[tokio::test]
async fn cluster_of_etcd() -> Result<()> {
    cluster(Kind::Etcd).await
}

#[tokio::test]
async fn cluster_of_zookeeper() -> Result<()> {
    cluster(Kind::Zookeeper).await
}

#[tokio::test]
async fn cluster_of_consul() -> Result<()> {
    cluster(Kind::Consul).await
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() -> Result<()> {
    let started = Servers::builder(Kind::Etcd).arg("--no-such-flag").start().await;
    let error = started.err().context("it started")?;
    ensure!(format!("{error:#}").contains("no-such-flag"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn settings_of_the_builder_reach_the_server() -> Result<()> {
    let consul = Servers::builder(Kind::Consul)
        .config("limits { http_max_conns_per_client = 7 }")
        .file("extra.hcl", "datacenter = \"elsewhere\"")
        .arg("-config-file={files}/extra.hcl");
    let zookeeper = Servers::builder(Kind::Zookeeper).config("tickTime=321").env("JVMFLAGS", "-Dmine=yes");
    let (consul, zookeeper) = tokio::try_join!(consul.start(), zookeeper.start())?;
    ensure!(consul.member(0).tool(&["members"]).await?.contains("elsewhere"));
    ensure!(zookeeper.member(0).answers().await);
    Ok(())
}

/// Nothing keeps a `Servers` alive here but the scope: it is dropped on a thread without a runtime.
#[test]
fn dropped_outside_of_a_runtime_it_is_gone() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let servers = runtime.block_on(Servers::single(Kind::Consul))?;
    let address = servers.member(0).address().to_owned();
    drop(runtime);
    drop(servers);
    ensure!(std::net::TcpStream::connect(&address).is_err(), "it still listens");
    Ok(())
}
