//! An etcd that asks for certificates and passwords, and gives no more rights than it takes.

mod common;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use common::DEADLINE;
use discox_etcd::{
    ConnectionConfig, Denial, DiscoverConfig, LiteEndpoint, RegisterConfig, Registry, RegistryConfig, Secret,
    TlsConfig,
};
use discox_testkit::{
    secured::{Options, PREFIX, SERVICE, Secured, USER},
    server::{Data, Kind},
    wait::eventually,
};

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
