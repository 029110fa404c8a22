//! A Consul as a security team wants it: mutual TLS, ACLs, and a token that may do no more than
//! registering and discovering takes.

#![cfg(feature = "reqwest")]
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use discox_consul::{
    ConnectionConfig, Denial, Discover, DiscoverConfig, DiscoverState, ErrorKind, LiteEndpoint, Pem,
    Register, RegisterConfig, RegisterState, Secret, TlsConfig,
};
use discox_testkit::{
    authority::{Authority, SERVER_NAME},
    secured::{Options, PREFIX, SERVICE, Secured, Tls},
    server::Kind,
    wait::eventually,
};
use serde_json::json;
use tokio::time::timeout;

const A: &str = "10.0.0.1:80";
/// The longest wait for anything: that a right is gone shows when a held query ends.
const DEADLINE: Duration = Duration::from_secs(45);

async fn consul() -> Result<Secured> {
    Secured::start(Kind::Consul, Options::default()).await
}

/// What the user has: files, and the token.
fn connection(secured: &Secured) -> ConnectionConfig {
    ConnectionConfig {
        tls: Some(tls(secured)),
        token: Some(secured.token().into()),
        // A denial is told at once, not when time is up.
        request_timeout: Duration::from_secs(60),
        denied_backoff_max: Duration::from_secs(1),
        ..Default::default()
    }
}

fn tls(secured: &Secured) -> TlsConfig {
    TlsConfig {
        ca: Some(Pem::File(secured.ca_file())),
        cert: Some(Pem::File(secured.certificate_file())),
        key: Some(Secret::file(secured.key_file())),
        ..Default::default()
    }
}

fn service() -> String {
    format!("{SERVICE}demo")
}

fn registration(secured: &Secured, connection: ConnectionConfig) -> RegisterConfig {
    RegisterConfig {
        backend_endpoints: secured.endpoints(),
        discover_prefix: PREFIX.into(),
        service_name: service(),
        service_endpoint: A.into(),
        attr: "1".into(),
        heart_beat_period: Duration::from_secs(1),
        ttl: Some(Duration::from_secs(60)),
        connection,
        ..Default::default()
    }
}

fn discovery(secured: &Secured, connection: ConnectionConfig) -> DiscoverConfig {
    DiscoverConfig {
        backend_endpoints: secured.endpoints(),
        discover_prefix: PREFIX.into(),
        service_name: service(),
        grace: Duration::from_secs(1),
        connection,
        ..Default::default()
    }
}

fn run(config: DiscoverConfig) -> Result<(Arc<dyn Discover>, Arc<LiteEndpoint>)> {
    let discover = discox_consul::new_discover(config)?;
    let cache = Arc::new(LiteEndpoint::new());
    tokio::spawn({
        let (discover, cache) = (discover.clone(), cache.clone());
        async move { discover.start(cache).await }
    });
    Ok((discover, cache))
}

async fn state(register: &Arc<dyn Register>, state: RegisterState) -> Result<()> {
    let what = format!("{state:?}");
    eventually(DEADLINE, &what, async || register.status().state == state).await
}

async fn serves(cache: &LiteEndpoint, attr: Option<&str>) -> Result<()> {
    eventually(DEADLINE, &format!("{attr:?}"), async || cache.attr(A).as_deref() == attr.map(str::as_bytes))
        .await
}

/// Both a registration and a discovery say at once what is wrong, and to whom.
async fn denied(
    what: &str,
    registration: RegisterConfig,
    discovery: DiscoverConfig,
    why: Denial,
) -> Result<()> {
    let register = discox_consul::new_register(registration)?;
    let start = timeout(DEADLINE, register.start()).await.with_context(|| format!("{what}: start waits"))?;
    let error = start.err().with_context(|| format!("{what}: it was let in"))?;
    ensure!(error.kind() == ErrorKind::Denied && error.denial() == Some(why), "{what}: {error:?}");
    println!("{what}: {error}");

    let (discover, cache) = run(discovery)?;
    let told = eventually(DEADLINE, &format!("{what}: a denial"), async || cache.last_error()).await?;
    ensure!(told.kind() == ErrorKind::Denied && told.denial() == Some(why), "{what}: {told:?}");
    ensure!(!cache.is_ready(), "{what}: a denied catalogue was taken for an empty one");
    discover.stop().await;
    Ok(())
}

#[tokio::test]
async fn mutual_tls_and_the_least_rights_are_enough_for_a_whole_life() -> Result<()> {
    let secured = consul().await?;
    let register = discox_consul::new_register(registration(&secured, connection(&secured)))?;
    let (discover, cache) = run(discovery(&secured, connection(&secured)))?;
    cache.ready().await;
    ensure!(cache.is_empty(), "{:?}", cache.list());
    register.start().await?;
    serves(&cache, Some("1")).await?;
    register.update_attr("2").await?;
    serves(&cache, Some("2")).await?;

    // Heart beats find what others did to the record, on the agent and in the catalogue.
    for path in ["agent", "catalogue"] {
        let services = secured.member().http("GET", "/v1/agent/services", "").await?;
        let services: serde_json::Map<_, _> = serde_json::from_str(&services)?;
        let id = services.keys().next().context("no record")?.clone();
        if path == "agent" {
            secured.member().http("PUT", &format!("/v1/agent/service/deregister/{id}"), "").await?;
        } else {
            let agent: serde_json::Value =
                serde_json::from_str(&secured.member().http("GET", "/v1/agent/self", "").await?)?;
            let gone = json!({"Node": agent["Config"]["NodeName"], "ServiceID": id}).to_string();
            secured.member().http("PUT", "/v1/catalog/deregister", &gone).await?;
        }
        let registered = async || {
            let path = format!("/v1/health/service/{}", service());
            secured.member().http("GET", &path, "").await.is_ok_and(|found| found.contains(&id))
        };
        eventually(DEADLINE, path, registered).await?;
        state(&register, RegisterState::Registered).await?;
    }
    // An older registration of the endpoint is found and removed.
    let later = discox_consul::new_register(registration(&secured, connection(&secured)))?;
    later.start().await?;
    state(&register, RegisterState::Superseded).await?;
    later.stop().await?;
    register.stop().await?;
    serves(&cache, None).await?;
    ensure!(discover.status().state == DiscoverState::Synced, "{:?}", discover.status());
    Ok(())
}

#[tokio::test]
async fn each_denial_is_told_by_its_reason_and_at_once() -> Result<()> {
    let mut secured = consul().await?;
    let stranger = Authority::new()?;
    let other = stranger.client("a-program")?;
    let expired = secured.authority().expired_client("a-program")?;
    let with = |change: &dyn Fn(&mut ConnectionConfig, &mut TlsConfig)| {
        let (mut connection, mut tls) = (connection(&secured), tls(&secured));
        change(&mut connection, &mut tls);
        ConnectionConfig { tls: Some(tls), ..connection }
    };
    let unknown = "00000000-0000-4000-8000-000000000000";
    let own = |pem: &str| Some(Pem::Text(pem.to_owned()));
    for (what, connection, why) in [
        ("no token", with(&|c, _| c.token = None), Denial::NoCredentials),
        ("unknown token", with(&|c, _| c.token = Some(unknown.into())), Denial::WrongCredentials),
        ("other authority", with(&|_, t| t.ca = own(&stranger.certificate())), Denial::UnknownAuthority),
        (
            "other name",
            with(&|_, t| t.server_name = Some("elsewhere.discox.test".into())),
            Denial::WrongServerName,
        ),
        ("no client certificate", with(&|_, t| (t.cert, t.key) = (None, None)), Denial::NoClientCertificate),
        (
            "client certificate of a stranger",
            with(&|_, t| (t.cert, t.key) = (own(&other.certificate), Some(other.key.as_str().into()))),
            Denial::ClientCertificateRefused,
        ),
        (
            "expired client certificate",
            with(&|_, t| (t.cert, t.key) = (own(&expired.certificate), Some(expired.key.as_str().into()))),
            Denial::ClientCertificateRefused,
        ),
    ] {
        let registration = registration(&secured, connection.clone());
        denied(what, registration, discovery(&secured, connection), why).await?;
    }

    // Rights for other services than this one.
    let connection = connection(&secured);
    let registration =
        RegisterConfig { service_name: "another".into(), ..registration(&secured, connection.clone()) };
    let other = DiscoverConfig { service_name: "another".into(), ..discovery(&secured, connection.clone()) };
    denied("missing right", registration, other, Denial::MissingRights).await?;

    secured.present(&secured.authority().expired_server()?).await?;
    let registration = self::registration(&secured, connection.clone());
    let why = Denial::ExpiredCertificate;
    denied("expired server", registration, discovery(&secured, connection), why).await?;
    secured.rotate().await
}

#[tokio::test]
async fn a_right_that_was_taken_is_missed_and_heals_when_it_is_back() -> Result<()> {
    let secured = consul().await?;
    let register = discox_consul::new_register(registration(&secured, connection(&secured)))?;
    register.start().await?;
    let (discover, cache) = run(discovery(&secured, connection(&secured)))?;
    serves(&cache, Some("1")).await?;

    secured.revoke().await?;
    let missing = |error: Option<discox_consul::Error>| {
        error.is_some_and(|error| error.denial() == Some(Denial::MissingRights))
    };
    eventually(DEADLINE, "the registration to miss it", async || {
        let status = register.status();
        status.state == RegisterState::Retrying && missing(status.last_error)
    })
    .await?;
    eventually(DEADLINE, "the discovery to miss it", async || {
        discover.status().state == DiscoverState::Lost && missing(cache.last_error())
    })
    .await?;
    ensure!(cache.len() == 1, "what may not be read any more is not gone");

    secured.grant().await?;
    state(&register, RegisterState::Registered).await?;
    eventually(DEADLINE, "the discovery", async || discover.status().state == DiscoverState::Synced).await?;
    register.update_attr("2").await?;
    serves(&cache, Some("2")).await
}

#[tokio::test]
async fn certificates_and_tokens_rotate_without_a_restart() -> Result<()> {
    let mut secured = consul().await?;
    let token = secured.write("token", &format!("{}\n", secured.token()))?;
    let connection = ConnectionConfig { token: Some(Secret::file(&token)), ..connection(&secured) };
    let register = discox_consul::new_register(registration(&secured, connection.clone()))?;
    register.start().await?;
    let (discover, cache) = run(discovery(&secured, connection))?;
    serves(&cache, Some("1")).await?;

    secured.rotate().await?;
    eventually(DEADLINE, "the discovery", async || discover.status().state == DiscoverState::Synced).await?;
    state(&register, RegisterState::Registered).await?;
    register.update_attr("2").await?;
    serves(&cache, Some("2")).await?;

    let new = json!({"Policies": [{"Name": "discox"}]}).to_string();
    let new: serde_json::Value =
        serde_json::from_str(&secured.member().http("PUT", "/v1/acl/token", &new).await?)?;
    secured.write("token", new["SecretID"].as_str().context("no token")?)?;
    let accessor = "d15c0000-0000-4000-8000-000000000001";
    secured.member().http("DELETE", &format!("/v1/acl/token/{accessor}"), "").await?;
    register.update_attr("3").await?;
    serves(&cache, Some("3")).await?;
    state(&register, RegisterState::Registered).await
}

#[tokio::test]
async fn a_server_may_have_another_name_than_its_address() -> Result<()> {
    let secured = Secured::start(Kind::Consul, Options { tls: Tls::Server, ..Default::default() }).await?;
    secured.present(&secured.authority().server_named(SERVER_NAME)?).await?;
    let named = TlsConfig {
        ca: Some(Pem::Text(secured.authority().certificate())),
        server_name: Some(SERVER_NAME.into()),
        ..Default::default()
    };
    let unnamed = TlsConfig { server_name: None, ..named.clone() };
    let with = |tls| ConnectionConfig { tls: Some(tls), ..connection(&secured) };
    let (registered, discovered) =
        (registration(&secured, with(unnamed.clone())), discovery(&secured, with(unnamed)));
    denied("the address", registered, discovered, Denial::WrongServerName).await?;
    let register = discox_consul::new_register(registration(&secured, with(named)))?;
    register.start().await?;
    register.stop().await?;
    Ok(())
}
