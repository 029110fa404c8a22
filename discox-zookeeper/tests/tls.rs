//! TLS to a real ZooKeeper: who is trusted by whom, what is told when somebody is not, and rotation.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use anyhow::{Context, Result};
use common::{
    DEADLINE,
    secured::{self, Watching, denial, register, service, settings, start},
};
use discox_testkit::{
    authority::{Authority, SERVER_NAME},
    secured::{Login, PREFIX, Secured, Tls},
    wait,
};
use discox_zookeeper::{ConnectionConfig, Denial, ErrorKind, Pem, RegisterState, Secret, TlsConfig};

/// Why a user of mutual TLS is denied after this change of his settings.
async fn denied(secured: &Secured, change: impl FnOnce(&mut TlsConfig)) -> Result<Option<Denial>> {
    let mut settings = settings(secured, Tls::Mutual, Login::Sasl);
    change(settings.tls.as_mut().context("no TLS")?);
    denial(&*register(secured, &settings)?).await
}

#[tokio::test]
async fn what_is_wrong_with_certificates_is_told() -> Result<()> {
    let secured = start(Tls::Mutual, Login::Sasl).await?;
    let stranger = Authority::new()?;

    let ca = Pem::from(stranger.certificate());
    assert_eq!(denied(&secured, |tls| tls.ca = Some(ca)).await?, Some(Denial::UnknownAuthority));
    // No authority of the operating system has signed it either.
    assert_eq!(denied(&secured, |tls| tls.ca = None).await?, Some(Denial::UnknownAuthority));

    let none = |tls: &mut TlsConfig| (tls.cert, tls.key) = (None, None);
    assert_eq!(denied(&secured, none).await?, Some(Denial::NoClientCertificate));
    for identity in [stranger.client("stranger")?, secured.authority().expired_client("late")?] {
        let (cert, key) = (Some(identity.certificate.into()), Some(identity.key.into()));
        let other = |tls: &mut TlsConfig| (tls.cert, tls.key) = (cert, key);
        assert_eq!(denied(&secured, other).await?, Some(Denial::ClientCertificateRefused));
    }
    assert_eq!(denied(&secured, |tls| tls.ca = Some("/nowhere/ca.pem".into())).await?, None);

    secured.present(&secured.authority().expired_server()?).await?;
    assert_eq!(denied(&secured, |_| ()).await?, Some(Denial::ExpiredCertificate));
    secured.present(&secured.authority().server_named("elsewhere.test")?).await?;
    assert_eq!(denied(&secured, |_| ()).await?, Some(Denial::WrongServerName));
    Ok(())
}

#[tokio::test]
async fn texts_serve_as_well_as_files_and_beside_the_authorities_of_the_system() -> Result<()> {
    let secured = start(Tls::Server, Login::Sasl).await?;
    let mut settings = settings(&secured, Tls::Server, Login::Sasl);
    let ca = Some(secured.authority().certificate().into());
    settings.tls = Some(TlsConfig { ca, system_roots: true, ..Default::default() });
    let register = register(&secured, &settings)?;
    register.start().await?;
    Ok(register.stop().await?)
}

#[tokio::test]
async fn the_plain_port_is_told_from_the_secure_one() -> Result<()> {
    let secured = start(Tls::Off, Login::Sasl).await?;
    let mut settings = settings(&secured, Tls::Off, Login::Sasl);
    settings.request_timeout = Duration::from_secs(5);
    settings.tls = Some(TlsConfig { ca: Some(secured.ca_file().into()), ..Default::default() });
    let error = register(&secured, &settings)?.start().await.unwrap_err();
    assert_eq!((error.kind(), error.denial()), (ErrorKind::Protocol, None), "{error}");
    assert!(error.to_string().contains("secure client port"), "{error}");
    Ok(())
}

#[tokio::test]
async fn rotated_certificates_are_used_without_a_restart() -> Result<()> {
    rotate(None).await
}

#[tokio::test]
async fn so_they_are_by_another_name_of_the_server() -> Result<()> {
    rotate(Some(SERVER_NAME.into())).await
}

async fn rotate(server_name: Option<String>) -> Result<()> {
    let mut secured = start(Tls::Mutual, Login::Sasl).await?;
    let mut settings = settings(&secured, Tls::Mutual, Login::Sasl);
    settings.tls.as_mut().context("no TLS")?.server_name = server_name;
    let register = register(&secured, &settings)?;
    register.start().await?;
    let watching = Watching::begin(secured.endpoints(), PREFIX, &service(), &settings)?;
    watching.see(Some("1")).await?;

    secured.rotate().await?;
    wait::eventually(DEADLINE, "the new certificates", async || register.update_attr("2").await.is_ok())
        .await?;
    watching.see(Some("2")).await?;
    secured::in_state(&*register, RegisterState::Registered).await?;
    Ok(register.stop().await?)
}

#[test]
fn names_that_the_client_cannot_go_by_are_rejected_by_field() {
    let field = |address: &str, tls: TlsConfig| {
        let settings = ConnectionConfig { tls: Some(tls), ..Default::default() };
        let rejected = discox_zookeeper::Connector::parse(&[address.to_owned()], &settings);
        rejected.err().and_then(|error| error.field())
    };
    let named = |name: &str| TlsConfig { server_name: Some(name.into()), ..Default::default() };
    assert_eq!(field("127.0.0.1:2281", named("registry")), None);
    assert_eq!(field("a..b:2281", named("registry")), None);
    assert_eq!(field("127.0.0.1:2281", named("no name")), Some("tls.server_name"));
    assert_eq!(field("a..b:2281", TlsConfig::default()), Some("backend_endpoints"));
    assert_eq!(field("[::1]:2281,localhost/apps", TlsConfig::default()), None);
    let half = TlsConfig { key: Some(Secret::new("k")), ..Default::default() };
    assert_eq!(field("localhost", half), Some("tls.cert"));
}
