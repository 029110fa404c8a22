//! Secured servers of the test kit: closed to strangers, open to the administrator's tools, through restarts.

use anyhow::{Result, ensure};
use discox_testkit::secured::{Options, SERVICE, Secured, Tls, USER};
use discox_testkit::server::{Data, Kind};
use discox_testkit::zookeeper::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Whatever a plain connection is told, it is not what it asked for.
async fn is_closed_to_plain_text(secured: &Secured) -> Result<()> {
    let mut stream = TcpStream::connect(secured.member().address()).await?;
    stream.write_all(b"GET /version HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    ensure!(!answer.contains("200 OK") && !answer.contains("Mode:"), "{answer}");
    Ok(())
}

/// The administrator writes and reads by the registry's own tool.
async fn tool_works(secured: &Secured) -> Result<()> {
    let member = secured.member();
    let answer = match secured.servers().kind() {
        Kind::Etcd => {
            member.tool(&["put", "/anywhere", "here"]).await?;
            member.tool(&["get", "/anywhere"]).await?
        }
        Kind::Zookeeper => {
            member.tool(&["create", "/anywhere", "here"]).await?;
            let answer = member.tool(&["get", "/anywhere"]).await?;
            member.tool(&["delete", "/anywhere"]).await?;
            answer
        }
        Kind::Consul => {
            member.tool(&["kv", "put", "anywhere", "here"]).await?;
            member.tool(&["kv", "get", "anywhere"]).await?
        }
    };
    ensure!(answer.contains("here"), "{answer}");
    Ok(())
}

/// What the user may do, as the registry's own tools see it: nothing after `revoke`.
async fn user_may(secured: &Secured, may: bool) -> Result<()> {
    let member = secured.member();
    let shown = match secured.servers().kind() {
        Kind::Etcd => member.tool(&["user", "get", USER, "--detail"]).await?,
        Kind::Zookeeper => member.tool(&["getAcl", "/discox"]).await?,
        Kind::Consul => member.tool(&["acl", "token", "list"]).await?,
    };
    let rights = match secured.servers().kind() {
        Kind::Etcd => shown.contains(SERVICE),
        Kind::Zookeeper => shown.contains(&format!("'{USER}")),
        Kind::Consul => shown.contains("- discox"),
    };
    ensure!(rights == may, "{shown}");
    Ok(())
}

async fn life(kind: Kind) -> Result<()> {
    let mut secured = Secured::start(kind, Options::default()).await?;
    is_closed_to_plain_text(&secured).await?;
    tool_works(&secured).await?;
    user_may(&secured, true).await?;
    secured.revoke().await?;
    user_may(&secured, false).await?;
    secured.grant().await?;
    user_may(&secured, true).await?;

    secured.rotate().await?;
    tool_works(&secured).await?;
    user_may(&secured, true).await?;
    secured.present(&secured.authority().expired_server()?).await?;

    secured.servers().kill().await?;
    secured.start_again(Data::Wiped).await?;
    user_may(&secured, true).await
}

#[tokio::test]
async fn etcd() -> Result<()> {
    tokio::spawn(life(Kind::Etcd)).await?
}

#[tokio::test]
async fn zookeeper() -> Result<()> {
    tokio::spawn(life(Kind::Zookeeper)).await?
}

#[tokio::test]
async fn consul() -> Result<()> {
    tokio::spawn(life(Kind::Consul)).await?
}

#[tokio::test]
async fn a_cluster_is_secured_like_a_single_server() -> Result<()> {
    for kind in Kind::ALL {
        let secured = Secured::start(kind, Options { members: 3, ..Options::default() }).await?;
        is_closed_to_plain_text(&secured).await?;
        user_may(&secured, true).await?;
    }
    Ok(())
}

#[tokio::test]
async fn credentials_do_without_tls() -> Result<()> {
    let secured = Secured::start(Kind::Zookeeper, Options { tls: Tls::Off, ..Options::default() }).await?;
    let mut session = Session::open(secured.member()).await?;
    session.create("/discox/by-hand", b"value").await?;
    ensure!(session.get("/discox/by-hand").await? == Some(b"value".to_vec()));
    ensure!(session.children("/discox").await? == ["by-hand"]);
    Ok(())
}
