//! A Consul as a security team wants it: mutual TLS, ACLs, and a token that may do no more than
//! registering and discovering takes.

#![cfg(feature = "reqwest")]
#![allow(clippy::unwrap_used)]

use std::{slice::from_ref, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use discox_consul::{
    ConnectionConfig, Connector, Consul, ConsulOptions, Denial, Discover, DiscoverConfig, DiscoverState,
    ErrorKind, LiteEndpoint, Pem, Receipt, Register, RegisterConfig, RegisterState, Secret, TlsConfig,
};
use discox_core::{
    backend::{Held, Link, Loss, Replace},
    record::Record,
};
use discox_testkit::{
    authority::{Authority, SERVER_NAME},
    secured::{Options, PREFIX, SERVICE, Secured, Tls},
    server::Kind,
    wait::eventually,
};
use serde_json::json;
use tokio::time::{Instant, timeout};

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
        consul: ConsulOptions { token: Some(secured.token().into()), ..Default::default() },
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
        ("no token", with(&|c, _| c.consul.token = None), Denial::NoCredentials),
        ("unknown token", with(&|c, _| c.consul.token = Some(unknown.into())), Denial::WrongCredentials),
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

/// With the token in its file.
fn by_file(secured: &Secured) -> ConnectionConfig {
    let token = Some(Secret::file(secured.token_file()));
    ConnectionConfig { consul: ConsulOptions { token, ..Default::default() }, ..connection(secured) }
}

/// A link with the token in its file, and a record that is alive for 3 s after its last heart beat.
async fn held_by_file(secured: &Secured) -> Result<(Arc<Connector>, Consul, Held<Receipt>)> {
    let connection = by_file(secured);
    let connector = Arc::new(Connector::parse(&secured.endpoints(), &connection)?);
    let link = Consul::connect(&connector).await?;
    let config = RegisterConfig { ttl: Some(Duration::from_secs(3)), ..registration(secured, connection) };
    let held = hold(&link, &config).await?;
    Ok((connector, link, held))
}

async fn hold(link: &Consul, config: &RegisterConfig) -> Result<Held<Receipt>> {
    let record = Arc::new(Record::parse(config)?);
    let registered = link.register(&record, "1", Replace::Anyone).await?;
    Ok(Held { record, attr: "1".into(), receipt: registered.receipt })
}

/// How many records of the service pass, as the administrator sees it.
async fn passing(secured: &Secured) -> Result<usize> {
    let path = format!("/v1/health/service/{}?passing=1", service());
    let found: serde_json::Value = serde_json::from_str(&secured.member().http("GET", &path, "").await?)?;
    Ok(found.as_array().context("no list")?.len())
}

#[tokio::test]
async fn a_process_that_dies_after_its_token_was_replaced_is_missed_in_time() -> Result<()> {
    let secured = consul().await?;
    let (connector, link, held) = held_by_file(&secured).await?;
    secured.replace_token().await?;
    ensure!(link.verify(from_ref(&held)).await?.is_empty(), "a token that was replaced is no loss");
    // An agent whose round of synchronisation met the old token rests for 15 s, in which it tells nobody anything.
    let told = r#"{"is":"told"}"#;
    let receipt = link.register(&held.record, told, Replace::OnlyOwn).await?.receipt;
    let path = format!("/v1/health/service/{}", service());
    eventually(DEADLINE, "the agent to synchronise", async || {
        secured.member().http("GET", &path, "").await.is_ok_and(|shown| shown.contains("told"))
    })
    .await?;
    let held = Held { attr: told.into(), receipt, ..held };
    ensure!(link.verify(from_ref(&held)).await?.is_empty(), "it is there");
    drop((link, connector));
    let died = Instant::now();
    ensure!(passing(&secured).await? == 1);
    eventually(DEADLINE, "its end", async || passing(&secured).await.is_ok_and(|passing| passing == 0))
        .await?;
    ensure!(died.elapsed() < Duration::from_secs(5), "{:?}", died.elapsed());
    Ok(())
}

/// The agent goes on with the token that it was given: another agent of the process, or the same one after a
/// reconnect, is given the new one although the record is there and alive.
#[tokio::test]
async fn a_reconnect_with_another_token_puts_the_record_again() -> Result<()> {
    let secured = consul().await?;
    let (connector, link, held) = held_by_file(&secured).await?;
    secured.replace_token().await?;
    drop(link);
    let link = Consul::connect(&connector).await?;
    link.register(&held.record, "1", Replace::OnlyOwn).await?;
    drop((link, connector));
    eventually(Duration::from_secs(5), "its end", async || {
        passing(&secured).await.is_ok_and(|passing| passing == 0)
    })
    .await
}

#[tokio::test]
async fn a_stop_after_the_token_was_replaced_leaves_nothing() -> Result<()> {
    let secured = consul().await?;
    let connection = by_file(&secured);
    let period = Duration::from_secs(100);
    let config = RegisterConfig {
        heart_beat_period: period,
        ttl: Some(3 * period),
        ..registration(&secured, connection)
    };
    let register = discox_consul::new_register(config)?;
    register.start().await?;
    ensure!(passing(&secured).await? == 1);
    secured.replace_token().await?;
    register.stop().await?;
    ensure!(passing(&secured).await? == 0, "it said that it was gone");
    Ok(())
}

/// What a crashed process left is removed with a good token, though the agent was given a worthless one with it.
#[tokio::test]
async fn a_take_over_removes_what_was_put_with_a_worthless_token() -> Result<()> {
    let secured = consul().await?;
    let (connector, link, held) = held_by_file(&secured).await?;
    drop((connector, link));
    secured.replace_token().await?;
    let connection = by_file(&secured);
    let connector = Arc::new(Connector::parse(&secured.endpoints(), &connection)?);
    let link = Consul::connect(&connector).await?;
    let later = hold(&link, &registration(&secured, connection)).await?;
    ensure!(later.record.incarnation != held.record.incarnation);
    ensure!(passing(&secured).await? == 1);
    link.withdraw(&later.record, Some(&later.receipt)).await?;
    ensure!(passing(&secured).await? == 0);
    Ok(())
}

#[tokio::test]
async fn exact_rules_are_enough_and_one_denied_record_leaves_the_others_alone() -> Result<()> {
    let names = [format!("{SERVICE}one"), format!("{SERVICE}other")];
    let options = Options { tls: Tls::Server, services: names.to_vec(), ..Options::default() };
    let secured = Secured::start(Kind::Consul, options).await?;
    let connection = ConnectionConfig {
        consul: ConsulOptions { token: Some(secured.token().into()), ..Default::default() },
        tls: Some(TlsConfig { ca: Some(Pem::File(secured.ca_file())), ..Default::default() }),
        ..Default::default()
    };
    let connector = Arc::new(Connector::parse(&secured.endpoints(), &connection)?);
    let link = Consul::connect(&connector).await?;
    let mut held = Vec::new();
    for name in &names {
        let config = registration(&secured, connection.clone());
        held.push(hold(&link, &RegisterConfig { service_name: name.clone(), ..config }).await?);
    }
    // Until the records are settled, and then by the catalogue alone.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        ensure!(link.verify(&held).await?.is_empty());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    secured.restrict_to(&names[1..]).await?;
    let losses = eventually(DEADLINE, "a denial", async || {
        link.verify(&held).await.ok().filter(|losses| !losses.is_empty())
    })
    .await?;
    ensure!(losses == [(0, Loss::Denied)], "{losses:?}");
    secured.restrict_to(&names).await?;
    link.register(&held[0].record, "1", Replace::OnlyOwn).await?;
    ensure!(link.verify(&held).await?.is_empty());
    for held in &held {
        link.withdraw(&held.record, Some(&held.receipt)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn certificates_and_tokens_rotate_without_a_restart() -> Result<()> {
    let mut secured = consul().await?;
    let token = secured.write("token", &format!("{}\n", secured.token()))?;
    let mut connection = connection(&secured);
    connection.consul.token = Some(Secret::file(&token));
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
