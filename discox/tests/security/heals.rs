//! What was refused, expired or replaced while all is running, and heals by itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use discox::{ConnectionConfig, Denial, RegisterState};
use discox_testkit::{
    conformance::What,
    secured::{Login, Options, Secured, Tls},
    server::{Data, Kind},
    wait::eventually,
};

use crate::client::{Running, SOON};

/// Refused attempts come soon again, so that the tests need not wait for long.
fn patient(secured: &Secured) -> ConnectionConfig {
    ConnectionConfig { denied_backoff_max: Duration::from_secs(1), ..secured.connection() }
}

/// Nothing was ever removed.
fn never_lost(running: &Running) -> Result<()> {
    ensure!(
        !running.watching.seen.log().iter().any(|seen| seen.what.is_delete()),
        "{:?}",
        running.watching.seen
    );
    Ok(())
}

/// Rights are taken away and given back.
async fn rights_come_back(kind: Kind) -> Result<()> {
    let secured = Secured::start(kind, Options::default()).await?;
    let running = Running::start(&secured, &patient(&secured)).await?;
    secured.revoke().await?;
    eventually(SOON, "a refused update", async || {
        let outcome = running.register.update_attr("refused").await;
        outcome.is_err_and(|error| error.denial() == Some(Denial::MissingRights))
    })
    .await?;
    if kind == Kind::Consul {
        // It answers as if there were nothing.
        let told =
            |what: &What| matches!(what, What::Error(error) | What::Lost(error) if error.denial().is_some());
        running.watching.seen.wait_for(0, "the denial", SOON, told).await?;
    }
    secured.grant().await?;
    running.delivers("granted").await?;
    never_lost(&running)?;
    ensure!(running.register.status().state == RegisterState::Registered);
    running.stop().await
}

#[tokio::test]
async fn rights_come_back_to_etcd() -> Result<()> {
    rights_come_back(Kind::Etcd).await
}

#[tokio::test]
async fn rights_come_back_to_zookeeper() -> Result<()> {
    rights_come_back(Kind::Zookeeper).await
}

#[tokio::test]
async fn rights_come_back_to_consul() -> Result<()> {
    rights_come_back(Kind::Consul).await
}

/// Everybody gets certificates of a new authority; the old ones are worthless. Nothing of ours is restarted.
async fn certificates_are_rotated(kind: Kind) -> Result<()> {
    let mut secured = Secured::start(kind, Options::default()).await?;
    let running = Running::start(&secured, &patient(&secured)).await?;
    secured.rotate().await?;
    running.delivers("rotated").await?;
    never_lost(&running)?;
    running.stop().await
}

#[tokio::test]
async fn certificates_are_rotated_on_etcd() -> Result<()> {
    certificates_are_rotated(Kind::Etcd).await
}

#[tokio::test]
async fn certificates_are_rotated_on_zookeeper() -> Result<()> {
    certificates_are_rotated(Kind::Zookeeper).await
}

#[tokio::test]
async fn certificates_are_rotated_on_consul() -> Result<()> {
    certificates_are_rotated(Kind::Consul).await
}

/// etcd's tokens are good for seconds here, and those of a killed server for nothing.
#[tokio::test]
async fn etcd_tokens_are_renewed() -> Result<()> {
    let ttl = Duration::from_secs(2);
    let options = Options { token_ttl: Some(ttl), ..Options::default() };
    let secured = Secured::start(Kind::Etcd, options).await?;
    let running = Running::start(&secured, &patient(&secured)).await?;
    // What is waited for is that time passes: a token is prolonged by its use, and nothing here uses it.
    tokio::time::sleep(3 * ttl).await;
    running.delivers("after the token's time").await?;
    secured.servers().kill().await?;
    secured.start_again(Data::Kept).await?;
    running.delivers("after a restart").await?;
    never_lost(&running)?;
    running.stop().await
}

/// The other ways to log in at ZooKeeper, and without TLS.
#[tokio::test]
async fn zookeeper_knows_us_by_each_login() -> Result<()> {
    for (tls, login) in [
        (Tls::Mutual, Login::Certificate),
        (Tls::Server, Login::Digest),
        (Tls::Off, Login::Sasl),
        (Tls::Off, Login::Digest),
    ] {
        let secured = Secured::start(Kind::Zookeeper, Options { tls, login, ..Options::default() }).await?;
        let running = Running::start(&secured, &secured.connection()).await?;
        running.delivers("second").await?;
        running.stop().await?;
    }
    Ok(())
}
