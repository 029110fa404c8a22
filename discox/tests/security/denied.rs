//! The table of denials, case by case, on each registry: the error says which it is and what to change, within the
//! connect timeout.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use discox::{ConnectionConfig, Denial, Error, ErrorKind};
use discox_testkit::{
    authority::{Authority, SERVER_NAME},
    conformance::{Watching, What},
    secured::{CLIENT, Options, Secured, Tls},
    server::Kind,
    wait::eventually,
};

use crate::{
    client::{Running, SOON, discovery, registration},
    doctor,
};

/// Ample for a busy machine; what is refused has to be told within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One row.
struct Case {
    name: &'static str,
    /// What is wrong with the connection.
    spoil: fn(&Secured, &mut ConnectionConfig) -> Result<()>,
    denial: Denial,
    /// What the message must tell to change.
    advice: &'static str,
}

/// What is wrong on our side.
const OURS: [Case; 6] = [
    Case {
        name: "no credentials",
        spoil: |_, connection| {
            (connection.user, connection.password, connection.consul.token) = (None, None, None);
            (connection.zookeeper.sasl, connection.zookeeper.lock_service) = (false, false);
            Ok(())
        },
        denial: Denial::NoCredentials,
        advice: "set `",
    },
    Case {
        name: "wrong credentials",
        spoil: |_, connection| {
            connection.password = connection.password.as_ref().map(|_| "not-the-password".into());
            let token = &mut connection.consul.token;
            *token = token.as_ref().map(|_| "00000000-0000-4000-8000-00000000dead".into());
            Ok(())
        },
        denial: Denial::WrongCredentials,
        advice: "check `",
    },
    Case {
        name: "another authority than the server's",
        spoil: |_, connection| {
            tls(connection)?.ca = Some(Authority::new()?.certificate().into());
            Ok(())
        },
        denial: Denial::UnknownAuthority,
        advice: "`tls.ca`",
    },
    Case {
        name: "no client certificate",
        spoil: |_, connection| {
            (tls(connection)?.cert, tls(connection)?.key) = (None, None);
            Ok(())
        },
        denial: Denial::NoClientCertificate,
        advice: "`tls.cert`",
    },
    Case {
        name: "a client certificate that has expired",
        spoil: |secured, connection| identify(connection, secured.authority().expired_client(CLIENT)?),
        denial: Denial::ClientCertificateRefused,
        advice: "`tls.cert`",
    },
    Case {
        name: "a client certificate of another authority",
        spoil: |_, connection| identify(connection, Authority::new()?.client(CLIENT)?),
        denial: Denial::ClientCertificateRefused,
        advice: "`tls.cert`",
    },
];

/// The user may do nothing.
const NO_RIGHTS: Case = Case {
    name: "missing rights",
    spoil: |_, _| Ok(()),
    denial: Denial::MissingRights,
    advice: "grant the rights",
};

/// The server shows a certificate of another.
const OTHER_NAME: Case = Case {
    name: "a server certificate of another name",
    spoil: |_, _| Ok(()),
    denial: Denial::WrongServerName,
    advice: "`tls.server_name`",
};

/// The server is asked for another name than it has.
const NOT_ITS_NAME: Case = Case {
    name: "another name than the server's",
    spoil: |_, connection| {
        tls(connection)?.server_name = Some("elsewhere.discox.test".into());
        Ok(())
    },
    denial: Denial::WrongServerName,
    advice: "`tls.server_name`",
};

/// The server shows a certificate that was good years ago.
const EXPIRED_SERVER: Case = Case {
    name: "a server certificate that has expired",
    spoil: |_, _| Ok(()),
    denial: Denial::ExpiredCertificate,
    advice: "renew the server's certificate",
};

fn tls(connection: &mut ConnectionConfig) -> Result<&mut discox::TlsConfig> {
    connection.tls.as_mut().context("no TLS")
}

fn identify(connection: &mut ConnectionConfig, identity: discox_testkit::authority::Identity) -> Result<()> {
    let tls = tls(connection)?;
    tls.cert = Some(identity.certificate.into());
    tls.key = Some(identity.key.into());
    Ok(())
}

/// The connection that is let in.
fn good(secured: &Secured) -> ConnectionConfig {
    let mut connection = ConnectionConfig {
        connect_timeout: CONNECT_TIMEOUT,
        request_timeout: 2 * CONNECT_TIMEOUT,
        ..secured.connection()
    };
    // A service of ZooKeeper is open to everybody unless it is locked.
    connection.zookeeper.lock_service = secured.servers().kind() == Kind::Zookeeper;
    connection
}

async fn table(kind: Kind) -> Result<()> {
    let secured = Secured::start(kind, Options::default()).await?;
    let mut wrong = Vec::new();
    Running::start(&secured, &good(&secured)).await.context("with all that is needed")?.stop().await?;
    let (code, said) = doctor::examined(&secured, &good(&secured)).await?;
    ensure!(
        code == 0 && said.contains("tls cert") && said.contains("delete"),
        "with all that is needed: {said}"
    );
    let mut named = good(&secured);
    tls(&mut named)?.server_name = Some(SERVER_NAME.into());
    Running::start(&secured, &named).await.context("by another name of the server")?.stop().await?;
    play(&NOT_ITS_NAME, &secured, &mut wrong).await;

    for case in &OURS {
        // Everybody may read in ZooKeeper, unless there is another ACL, and a client certificate is a
        // credential that its ACLs know: `auth` means that one too.
        if kind != Kind::Zookeeper || case.denial != Denial::NoCredentials {
            play(case, &secured, &mut wrong).await;
        }
    }
    secured.revoke().await?;
    play(&NO_RIGHTS, &secured, &mut wrong).await;
    secured.grant().await?;
    secured.present(&secured.authority().server_named("elsewhere.test")?).await?;
    play(&OTHER_NAME, &secured, &mut wrong).await;
    secured.present(&secured.authority().expired_server()?).await?;
    play(&EXPIRED_SERVER, &secured, &mut wrong).await;
    ensure!(wrong.is_empty(), "{kind}:\n{}", wrong.join("\n"));
    Ok(())
}

async fn play(case: &Case, secured: &Secured, wrong: &mut Vec<String>) {
    let outcomes = [
        ("register", registers(case, secured).await),
        ("discover", discovers(case, secured).await),
        ("doctor", is_diagnosed(case, secured).await),
    ];
    for (who, outcome) in outcomes {
        if let Err(error) = outcome {
            wrong.push(format!("- {}, {who}: {error:#}", case.name));
        }
    }
}

/// `discox doctor` says what to change, in the line of what fails.
async fn is_diagnosed(case: &Case, secured: &Secured) -> Result<()> {
    let mut connection = good(secured);
    (case.spoil)(secured, &mut connection)?;
    let (code, said) = doctor::examined(secured, &connection).await?;
    // Without a user we are to etcd who our certificate names.
    let is_nobody = case.denial == Denial::NoCredentials && secured.servers().kind() == Kind::Etcd;
    let advice = if is_nobody && secured.is_mutual() { NO_RIGHTS.advice } else { case.advice };
    // It stands behind what was found, not in brackets.
    let advice = advice.replace(" (", "; ");
    let told = said.lines().any(|line| line.starts_with("FAILED") && line.contains(&advice));
    ensure!(code == 1 && told, "no failure says {advice:?}, exit code {code}: {said}");
    Ok(())
}

/// `start` fails at once.
async fn registers(case: &Case, secured: &Secured) -> Result<()> {
    let mut connection = good(secured);
    (case.spoil)(secured, &mut connection)?;
    let register = discox::new_register(registration(secured, &connection))?;
    let began = Instant::now();
    let Err(error) = register.start().await else { bail!("it was registered") };
    let took = began.elapsed();
    let _ = register.stop().await;
    ensure!(took < CONNECT_TIMEOUT, "it took {took:?}: {error}");
    is_told(case, &error, secured)
}

/// A discovery goes on, tells why it has nothing, and never takes that for an empty list.
async fn discovers(case: &Case, secured: &Secured) -> Result<()> {
    let mut connection = good(secured);
    (case.spoil)(secured, &mut connection)?;
    let watching = Watching::start(discox::new_discover(discovery(secured, &connection))?);
    let told = |what: &What| matches!(what, What::Error(_) | What::Lost(_));
    watching.seen.wait_for(0, "the denial", CONNECT_TIMEOUT, told).await?;
    let log = watching.seen.log();
    watching.stop().await?;
    let first = log.into_iter().next().context("nothing")?.what;
    match first {
        What::Error(error) | What::Lost(error) => is_told(case, &error, secured),
        other => bail!("it told {other:?} before the denial"),
    }
}

fn is_told(case: &Case, error: &Error, secured: &Secured) -> Result<()> {
    let message = error.to_string();
    if case.denial == Denial::NoCredentials && secured.servers().kind() == Kind::Etcd && secured.is_mutual() {
        // Without a user we are to etcd who our certificate names.
        ensure!(error.denial() == Some(Denial::MissingRights), "{:?}: {message}", error.denial());
        return Ok(());
    }
    ensure!(error.kind() == ErrorKind::Denied, "{:?}: {message}", error.kind());
    ensure!(error.denial() == Some(case.denial), "{:?}: {message}", error.denial());
    ensure!(message.contains(case.advice), "it does not say {:?}: {message}", case.advice);
    let address = secured.member().address();
    ensure!(message.contains(address), "it does not name {address}: {message}");
    Ok(())
}

/// Where we show no certificate, etcd knows nobody.
#[tokio::test]
async fn by_etcd_without_any_identity() -> Result<()> {
    let secured = Secured::start(Kind::Etcd, Options { tls: Tls::Server, ..Options::default() }).await?;
    let mut wrong = Vec::new();
    let [no_credentials, ..] = &OURS;
    for outcome in [registers(no_credentials, &secured).await, discovers(no_credentials, &secured).await] {
        wrong.extend(outcome.err().map(|error| format!("{error:#}")));
    }
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

/// Consul gives no token less than a minute.
const SHORTEST: Duration = Duration::from_secs(60);

/// Consul knows nothing of a token whose time is up.
const EXPIRED_TOKEN: Case = Case {
    name: "a token that has expired",
    spoil: |_, _| Ok(()),
    denial: Denial::WrongCredentials,
    advice: "the token is wrong, has expired or was deleted (check `",
};

/// Who runs is told as who starts, and goes on with the token that is in the file then.
#[tokio::test]
async fn by_consul_when_the_token_has_expired() -> Result<()> {
    let secured = Secured::start(Kind::Consul, Options::default()).await?;
    secured.write("token", &secured.issue_token(SHORTEST).await?)?;
    let patient = ConnectionConfig { denied_backoff_max: Duration::from_secs(1), ..good(&secured) };
    let running = Running::start(&secured, &patient).await?;
    let refused = async || running.register.status().last_error.filter(|error| error.denial().is_some());
    let error = eventually(SHORTEST + SOON, "the end of the token", refused).await?;
    is_told(&EXPIRED_TOKEN, &error, &secured)?;
    let mut wrong = Vec::new();
    play(&EXPIRED_TOKEN, &secured, &mut wrong).await;
    ensure!(wrong.is_empty(), "{wrong:?}");
    secured.write("token", secured.token())?;
    running.delivers("second").await?;
    running.stop().await
}

#[tokio::test]
async fn by_etcd() -> Result<()> {
    table(Kind::Etcd).await
}

#[tokio::test]
async fn by_zookeeper() -> Result<()> {
    table(Kind::Zookeeper).await
}

#[tokio::test]
async fn by_consul() -> Result<()> {
    table(Kind::Consul).await
}
