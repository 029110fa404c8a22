//! An etcd that asks for certificates and passwords, and gives no more rights than it takes.

mod common;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use common::DEADLINE;
use discox_etcd::{
    ConnectionConfig, Denial, DiscoverConfig, DiscoverState, ErrorKind, LiteEndpoint, RegisterConfig,
    Registry, RegistryConfig, Secret, TlsConfig,
};
use discox_testkit::{
    authority::Authority,
    secured::{Options, PREFIX, SERVICE, Secured, Tls, USER},
    server::{Data, Kind, Servers},
    wait::eventually,
};
use tokio::net::TcpListener;

fn connection(etcd: &Secured) -> ConnectionConfig {
    ConnectionConfig {
        tls: Some(TlsConfig {
            ca: Some(etcd.ca_file().into()),
            cert: Some(etcd.certificate_file().into()),
            key: Some(Secret::file(etcd.key_file())),
            ..Default::default()
        }),
        user: Some(USER.into()),
        password: Some(etcd.password().into()),
        detection: Duration::from_secs(5),
        ..Default::default()
    }
}

fn registry(etcd: &Secured, connection: ConnectionConfig) -> Result<Arc<dyn Registry>> {
    let backend_endpoints = etcd.endpoints();
    Ok(discox_etcd::connect(RegistryConfig { backend_endpoints, connection, ..Default::default() })?)
}

fn registration(endpoint: &str) -> RegisterConfig {
    RegisterConfig {
        discover_prefix: PREFIX.into(),
        service_name: format!("{SERVICE}demo"),
        service_endpoint: endpoint.into(),
        attr: "1".into(),
        heart_beat_period: Duration::from_secs(1),
        ..Default::default()
    }
}

async fn watch(registry: &Arc<dyn Registry>) -> Result<Arc<LiteEndpoint>> {
    let RegisterConfig { discover_prefix, service_name, .. } = registration("");
    let discover =
        registry.discover(DiscoverConfig { discover_prefix, service_name, ..Default::default() })?;
    let cache = Arc::new(LiteEndpoint::new());
    tokio::spawn({
        let cache = cache.clone();
        async move { discover.start(cache).await }
    });
    cache.ready().await;
    Ok(cache)
}

async fn shows(cache: &LiteEndpoint, endpoint: &str, attr: &str) -> Result<()> {
    let there = async || cache.attr(endpoint).is_some_and(|found| found == attr.as_bytes());
    eventually(DEADLINE, "the endpoint to be shown", there).await
}

#[tokio::test]
async fn least_rights_over_mutual_tls_outlive_tokens_and_restarts() -> Result<()> {
    const TOKEN: Duration = Duration::from_secs(2);
    let etcd = Secured::start(Kind::Etcd, Options { token_ttl: Some(TOKEN), ..Options::default() }).await?;
    let registry = registry(&etcd, connection(&etcd))?;
    let register = registry.register(registration("10.0.0.1:80"))?;
    register.start().await?;
    let cache = watch(&registry).await?;
    shows(&cache, "10.0.0.1:80", "1").await?;

    // Long enough for a token that nobody uses to expire several times; heart beats go on.
    let confirmed = register.status().last_confirmed.context("never confirmed")?;
    let later = async || register.status().last_confirmed > Some(confirmed + 3 * TOKEN);
    eventually(DEADLINE, "heart beats after the token's life", later).await?;
    register.update_attr("2").await?;
    shows(&cache, "10.0.0.1:80", "2").await?;

    etcd.servers().kill().await?;
    etcd.start_again(Data::Kept).await?;
    register
        .update_attr("3")
        .await
        .or_else(|error| if error.kind().is_retryable() { Ok(()) } else { Err(error) })?;
    shows(&cache, "10.0.0.1:80", "3").await?;
    register.stop().await?;
    eventually(DEADLINE, "the endpoint to leave", async || cache.is_empty()).await
}

#[tokio::test]
async fn a_right_that_is_taken_is_told_and_heals_when_it_is_given_back() -> Result<()> {
    let etcd = Secured::start(Kind::Etcd, Options::default()).await?;
    let settings = ConnectionConfig { denied_backoff_max: Duration::from_secs(1), ..connection(&etcd) };
    let registry = registry(&etcd, settings)?;
    let register = registry.register(registration("10.0.0.1:80"))?;
    register.start().await?;
    etcd.revoke().await?;
    let refused = registry.register(registration("10.0.0.2:80"))?.start().await;
    assert_eq!(refused.err().and_then(|error| error.denial()), Some(Denial::MissingRights));
    let refused = register.update_attr("2").await;
    assert_eq!(refused.err().and_then(|error| error.denial()), Some(Denial::MissingRights));

    // Nobody can say that it is gone until we may look again.
    etcd.member().tool(&["del", "--prefix", PREFIX]).await?;
    etcd.grant().await?;
    let cache = watch(&registry).await?;
    shows(&cache, "10.0.0.1:80", "2").await
}

#[tokio::test]
async fn rotated_certificates_and_passwords_are_used_without_a_restart() -> Result<()> {
    let mut etcd = Secured::start(Kind::Etcd, Options::default()).await?;
    let password = etcd.write("password", etcd.password())?;
    let settings = ConnectionConfig {
        password: Some(Secret::file(&password)),
        denied_backoff_max: Duration::from_secs(1),
        ..connection(&etcd)
    };
    let registry = registry(&etcd, settings)?;
    let register = registry.register(registration("10.0.0.1:80"))?;
    register.start().await?;
    etcd.rotate().await?;
    let back = async || registry.trouble().is_none() && register.update_attr("rotated").await.is_ok();
    eventually(DEADLINE, "the connection by the new certificates", back).await?;

    etcd.write("password", "wrong")?;
    let settings = ConnectionConfig { password: Some(Secret::file(&password)), ..connection(&etcd) };
    let refused = self::registry(&etcd, settings)?.register(registration("10.0.0.2:80"))?.start().await;
    assert_eq!(refused.err().and_then(|error| error.denial()), Some(Denial::WrongCredentials));
    register.stop().await?;
    Ok(())
}

#[tokio::test]
async fn authentication_may_be_switched_off_and_on_under_a_running_system() -> Result<()> {
    let etcd = Secured::start(Kind::Etcd, Options { tls: Tls::Off, ..Options::default() }).await?;
    let settings = ConnectionConfig { tls: None, ..connection(&etcd) };
    let registry = registry(&etcd, settings.clone())?;
    let register = registry.register(registration("10.0.0.1:80"))?;
    register.start().await?;
    let cache = watch(&registry).await?;

    etcd.member().tool(&["auth", "disable"]).await?;
    register.update_attr("off").await?;
    shows(&cache, "10.0.0.1:80", "off").await?;
    // A connection that begins without authentication, with credentials.
    let early = self::registry(&etcd, settings)?;
    let registered = early.register(registration("10.0.0.2:80"))?;
    registered.start().await?;
    let early_cache = watch(&early).await?;

    etcd.member().tool(&["auth", "enable"]).await?;
    for (registry, register) in [(&registry, &register), (&early, &registered)] {
        register.update_attr("on").await?;
        // Another watch, on a stream that was opened with the old token or with none.
        let later = watch(registry).await?;
        shows(&later, "10.0.0.1:80", "on").await?;
        assert!(registry.trouble().is_none(), "{:?}", registry.trouble());
    }
    shows(&early_cache, "10.0.0.2:80", "on").await?;

    etcd.member().tool(&["auth", "disable"]).await?;
    etcd.servers().kill().await?;
    etcd.servers().start(Data::Kept).await?;
    eventually(DEADLINE, "the connection", async || registry.trouble().is_none()).await?;
    eventually(DEADLINE, "an update", async || register.update_attr("off again").await.is_ok()).await?;
    shows(&cache, "10.0.0.1:80", "off again").await
}

/// An etcd with JWT tokens, in which everything is open to `discox`.
async fn with_jwt() -> Result<Servers> {
    let key = Authority::new()?.client("jwt")?.key;
    let etcd = Servers::builder(Kind::Etcd)
        .file("jwt.key", key)
        .arg("--auth-token=jwt,priv-key={files}/jwt.key,sign-method=ES256,ttl=5m")
        .arg("--bcrypt-cost=4")
        .start()
        .await?;
    let member = etcd.member(0);
    for command in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", &format!("{USER}:secret")],
        &["user", "grant-role", USER, "root"],
        &["auth", "enable"],
    ] {
        member.tool(command).await?;
    }
    Ok(etcd)
}

#[tokio::test]
async fn users_may_change_while_tokens_are_jwt() -> Result<()> {
    let etcd = with_jwt().await?;
    let connection = ConnectionConfig {
        user: Some(USER.into()),
        password: Some("secret".into()),
        detection: Duration::from_secs(3),
        ..Default::default()
    };
    let backend_endpoints = etcd.addresses();
    let registry =
        discox_etcd::connect(RegistryConfig { backend_endpoints, connection, ..Default::default() })?;
    let register = registry.register(registration("10.0.0.1:80"))?;
    register.start().await?;
    let RegisterConfig { discover_prefix, service_name, .. } = registration("");
    let discover =
        registry.discover(DiscoverConfig { discover_prefix, service_name, ..Default::default() })?;
    let cache = Arc::new(LiteEndpoint::new());
    tokio::spawn({
        let (discover, cache) = (discover.clone(), cache.clone());
        async move { discover.start(cache).await }
    });
    cache.ready().await;
    for user in ["a", "b", "c", "d", "e"] {
        // Then every token that was given before is of an old revision.
        etcd.member(0).tool(&["--user=root:secret", "user", "add", &format!("{user}:secret")]).await?;
        register.update_attr(user).await?;
        shows(&cache, "10.0.0.1:80", user).await?;
        let later = watch(&registry).await?;
        shows(&later, "10.0.0.1:80", user).await?;
        let confirmed = discover.status().last_confirmed;
        eventually(DEADLINE, "a confirmation", async || discover.status().last_confirmed > confirmed).await?;
        assert!(registry.trouble().is_none(), "{:?}", registry.trouble());
        assert_eq!(discover.status().state, DiscoverState::Synced);
    }
    Ok(())
}

#[tokio::test]
async fn who_accepts_and_closes_is_away_and_does_not_refuse_us() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let accepted = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let accepted = accepted.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Relaxed);
                // By FIN: nothing that was sent is left unread.
                let mut hello = [0; 4096];
                let _ = stream.readable().await;
                while stream.try_read(&mut hello).is_ok_and(|read| read > 0) {}
            }
        }
    });
    let tls = TlsConfig { ca: Some(Authority::new()?.certificate().into()), ..Default::default() };
    let connection =
        ConnectionConfig { tls: Some(tls), request_timeout: Duration::from_secs(2), ..Default::default() };
    let registry = discox_etcd::connect(RegistryConfig {
        backend_endpoints: vec![address],
        connection,
        ..Default::default()
    })?;
    let error = registry.register(registration("10.0.0.1:80"))?.start().await.err().context("registered")?;
    assert_ne!(error.kind(), ErrorKind::Denied, "{error}");
    let trouble = registry.trouble().context("connected")?;
    assert_eq!((trouble.kind(), trouble.denial()), (ErrorKind::Unavailable, None), "{trouble}");
    // Each try and its probes; denied, it would have been tried once.
    eventually(DEADLINE, "many tries", async || accepted.load(Relaxed) > 10).await
}

/// On a runtime of one thread: nothing else would happen, were it read there.
#[tokio::test]
async fn a_password_file_that_hangs_is_named_and_stops_nothing_else() -> Result<()> {
    let etcd = Secured::start(Kind::Etcd, Options { tls: Tls::Off, ..Options::default() }).await?;
    let fifo = std::env::temp_dir().join(format!("discox-fifo-{}", std::process::id()));
    anyhow::ensure!(Command::new("mkfifo").arg(&fifo).status()?.success(), "no mkfifo");
    let settings = ConnectionConfig { tls: None, password: Some(Secret::file(&fifo)), ..connection(&etcd) };
    let refused = registry(&etcd, settings)?.register(registration("10.0.0.1:80"))?.start().await;
    std::fs::remove_file(&fifo)?;
    let error = refused.err().context("registered")?;
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains(&*fifo.to_string_lossy()), "{error}");
    Ok(())
}
