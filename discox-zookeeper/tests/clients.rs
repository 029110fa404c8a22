//! What the choice of a client crate allows, and what none of them may do.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use common::*;
use discox_core::backend::Link;
use discox_testkit::{
    server::{Kind, Servers},
    wait,
};
use discox_zookeeper::{
    ClientCrate, ConnectionConfig, Connector, Error, ErrorKind, RegisterConfig, Zookeeper, ZookeeperOptions,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

fn rejected(settings: ConnectionConfig) -> Error {
    let config = RegisterConfig {
        backend_endpoints: vec!["127.0.0.1:2181".into()],
        service_name: "demo".into(),
        service_endpoint: A.into(),
        connection: settings,
        ..Default::default()
    };
    let error = discox_zookeeper::new_register(config).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error
}

fn with(client: ClientCrate) -> ConnectionConfig {
    let zookeeper = ZookeeperOptions { client: Some(client), ..Default::default() };
    ConnectionConfig { zookeeper, ..Default::default() }
}

#[test]
fn a_client_of_another_registry_is_rejected() {
    let error = rejected(with(ClientCrate::Reqwest));
    assert_eq!(error.field(), Some("zookeeper.client"), "{error}");
}

#[cfg(not(all(feature = "zookeeper-async", feature = "zookeeper-client")))]
#[test]
fn a_client_that_is_not_compiled_in_is_rejected_by_the_feature_that_adds_it() {
    let absent = if cfg!(feature = "zookeeper-async") {
        ClientCrate::ZookeeperClient
    } else {
        ClientCrate::ZookeeperAsync
    };
    let error = rejected(with(absent));
    assert_eq!(error.field(), Some("zookeeper.client"));
    assert!(error.to_string().contains(&format!("Cargo feature `{absent}`")), "{error}");
}

#[cfg(feature = "zookeeper-async")]
#[test]
fn what_zookeeper_async_cannot_do_is_rejected_by_field() {
    let chosen = with(ClientCrate::ZookeeperAsync);
    let tls = Some(discox_zookeeper::TlsConfig::default());
    let error = rejected(ConnectionConfig { tls, ..chosen.clone() });
    assert_eq!(error.field(), Some("tls"));
    assert!(error.to_string().contains("zookeeper-client"), "{error}");
    let (user, password) = (Some("user".into()), Some("secret".into()));
    let zookeeper = ZookeeperOptions { sasl: true, ..chosen.zookeeper.clone() };
    let error = rejected(ConnectionConfig { user, password, zookeeper, ..chosen });
    assert_eq!(error.field(), Some("zookeeper.sasl"));
}

/// As a member without a quorum does. Core pauses between attempts; `zookeeper-async` by itself would
/// not.
#[tokio::test]
async fn a_server_that_hangs_up_is_not_stormed() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?.to_string();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = accepted.clone();
    let accepting = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Relaxed);
            let _ = stream.read(&mut [0; 64]).await;
        }
    });
    let began = Instant::now();
    let register = discox_zookeeper::new_register(RegisterConfig {
        backend_endpoints: vec![address],
        service_name: "demo".into(),
        service_endpoint: A.into(),
        connection: settings(),
        ..Default::default()
    })?;
    assert_eq!(register.start().await.unwrap_err().kind(), ErrorKind::Unavailable);
    // At most one every 10 ms and 20 at first, however long it took.
    let most = 20 + began.elapsed().as_millis() / 10;
    let connections = accepted.load(Relaxed);
    assert!(connections > 0 && connections as u128 <= most, "{connections} in {:?}", began.elapsed());
    accepting.abort();
    Ok(())
}

/// Why nobody at these addresses lets us in, as the error says.
async fn told(backend_endpoints: &[&str]) -> Result<Error> {
    let connector =
        Connector::parse(&backend_endpoints.iter().map(|at| (*at).into()).collect::<Vec<_>>(), &{
            ConnectionConfig { connect_timeout: Duration::from_secs(2), ..settings() }
        })?;
    Zookeeper::connect(&Arc::new(connector)).await.err().context("a session")
}

#[tokio::test]
async fn why_there_is_no_session_is_told_of_each_member() -> Result<()> {
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.to_string();
    let web = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let other = web.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = told(&[&gone, "no-such-host.invalid:2181", &other]).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    for (member, why) in
        [(&*gone, "refused"), ("no-such-host.invalid:2181", "lookup"), (&other, "not as ZooKeeper")]
    {
        let (_, reason) = error.message().split_once(member).with_context(|| error.to_string())?;
        assert!(reason.split(';').next().is_some_and(|reason| reason.contains(why)), "{member}: {error}");
    }
    assert_eq!(told(&[&other]).await?.kind(), ErrorKind::Protocol);

    let servers = Servers::builder(Kind::Zookeeper).config("maxClientCnxns=1").start().await?;
    let at = servers.member(0).address();
    let busy = wait::eventually(DEADLINE, "the only place", async || {
        let mut taken = TcpStream::connect(at).await.ok()?;
        let is_closed = timeout(Duration::from_millis(200), taken.read_u8()).await.is_ok();
        (!is_closed).then_some(taken)
    });
    let _busy = busy.await?;
    let error = told(&[at]).await?;
    assert!(error.message().contains("maxClientCnxns"), "{error}");
    Ok(())
}
