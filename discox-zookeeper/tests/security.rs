//! Who we are to a real ZooKeeper, and what we may do there.

#![allow(clippy::unwrap_used)]

mod common;

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use common::{
    A, DEADLINE, hold, open, record_at,
    secured::{Watching, denial, in_state, register, register_at, service, settings, start},
};
use discox_core::{
    backend::{Link, Replace, Source, SourceOptions},
    record::Service,
};
use discox_testkit::{
    authority::Authority,
    proxy::Proxy,
    secured::{Login, PREFIX, Tls, USER},
    server::{Kind, Servers},
    wait,
    zookeeper::{Acl, Session},
};
use discox_zookeeper::{
    ConnectionConfig, Connector, Denial, Error, ErrorKind, RegisterState, RegistryConfig, Secret, TlsConfig,
    Zookeeper,
};
use tokio::net::TcpListener;

/// A user by the digest scheme, whom the servers take at his word.
fn user(name: &str) -> ConnectionConfig {
    let (user, password) = (Some(name.into()), Some("a password".into()));
    ConnectionConfig { user, password, ..common::settings() }
}

async fn link(servers: &Servers, settings: &ConnectionConfig) -> Result<Arc<Zookeeper>> {
    common::connect(&Arc::new(Connector::parse(&servers.addresses(), settings)?)).await
}

async fn as_it_is_used(tls: Tls, login: Login) -> Result<()> {
    let secured = start(tls, login).await?;
    let settings = settings(&secured, tls, login);
    let watching = Watching::begin(secured.endpoints(), PREFIX, &service(), &settings)?;
    let register = register(&secured, &settings)?;
    register.start().await?;
    watching.see(Some("1")).await?;
    register.update_attr("2").await?;
    watching.see(Some("2")).await?;

    // A second process of the same user takes over.
    let later = common::secured::register(&secured, &settings)?;
    later.start().await?;
    in_state(&*register, RegisterState::Superseded).await?;
    watching.see(Some("1")).await?;

    let scheme = match login {
        Login::Sasl => "'sasl,'discox",
        Login::Digest => "'digest,'discox:",
        Login::Certificate => "'x509,'CN=a-program",
    };
    let acl = secured.member().tool(&["getAcl", &format!("/discox{PREFIX}/{}/{A}", service())]).await?;
    ensure!(acl.contains("'world,'anyone\n: r\n") && acl.contains(scheme), "{acl}");
    later.stop().await?;
    watching.see(None).await
}

#[tokio::test]
async fn a_user_by_sasl_over_mutual_tls() -> Result<()> {
    as_it_is_used(Tls::Mutual, Login::Sasl).await
}

/// Such servers answer some logins before the request for a session.
#[tokio::test]
async fn every_session_is_had_at_once() -> Result<()> {
    let secured = start(Tls::Mutual, Login::Sasl).await?;
    let settings = settings(&secured, Tls::Mutual, Login::Sasl);
    for _ in 0..60 {
        let connector = Arc::new(Connector::parse(&secured.endpoints(), &settings)?);
        common::connect(&connector).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_user_by_digest_over_tls() -> Result<()> {
    as_it_is_used(Tls::Server, Login::Digest).await
}

#[tokio::test]
async fn a_user_by_certificate() -> Result<()> {
    as_it_is_used(Tls::Mutual, Login::Certificate).await
}

#[tokio::test]
async fn a_user_by_sasl_without_tls() -> Result<()> {
    as_it_is_used(Tls::Off, Login::Sasl).await
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() -> Result<()> {
    let secured = start(Tls::Off, Login::Sasl).await?;
    let known = settings(&secured, Tls::Off, Login::Sasl);
    let wrong = ConnectionConfig { password: Some("wrong".into()), ..known.clone() };
    assert_eq!(denial(&*register(&secured, &wrong)?).await?, Some(Denial::WrongCredentials));
    let mut digest = known.clone();
    digest.zookeeper.sasl = false;
    let nobody = ConnectionConfig { user: None, password: None, ..digest.clone() };
    assert_eq!(denial(&*register(&secured, &nobody)?).await?, Some(Denial::NoCredentials));
    // The digest scheme takes everybody at his word; the nodes do not.
    let stranger = ConnectionConfig { user: Some("stranger".into()), ..digest };
    assert_eq!(denial(&*register(&secured, &stranger)?).await?, Some(Denial::MissingRights));

    secured.revoke().await?;
    assert_eq!(denial(&*register(&secured, &known)?).await?, Some(Denial::MissingRights));
    Ok(())
}

#[tokio::test]
async fn servers_that_let_in_only_sasl_say_so() -> Result<()> {
    let servers = Servers::builder(Kind::Zookeeper)
        .config("authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider")
        .config("enforce.auth.enabled=true\nenforce.auth.schemes=sasl")
        .file("jaas", "Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_a=\"a\"; };")
        .env("JVMFLAGS", "-Djava.security.auth.login.config={files}/jaas")
        .start()
        .await?;
    let nobody = common::settings();
    for (settings, expected) in [(nobody, Denial::NoCredentials), (user("a"), Denial::WrongCredentials)] {
        let register = register_at(servers.addresses(), common::PREFIX, "demo", &settings)?;
        assert_eq!(denial(&*register).await?, Some(expected));
    }
    let mut known = ConnectionConfig { password: Some("a".into()), ..user("a") };
    (known.zookeeper.sasl, known.zookeeper.client) = (true, None);
    hold(&*link(&servers, &known).await?, A, "1").await?;
    Ok(())
}

#[tokio::test]
async fn a_running_registration_outlives_the_loss_of_its_rights() -> Result<()> {
    let secured = start(Tls::Off, Login::Sasl).await?;
    let settings = settings(&secured, Tls::Off, Login::Sasl);
    let register = register(&secured, &settings)?;
    register.start().await?;

    secured.revoke().await?;
    Session::open(secured.member()).await?.delete(&format!("/discox{PREFIX}/{}/{A}", service())).await?;
    wait::eventually(DEADLINE, "the denial", async || {
        let status = register.status();
        status.state == RegisterState::Retrying
            && status.last_error.and_then(|error| error.denial()) == Some(Denial::MissingRights)
    })
    .await?;
    secured.grant().await?;
    in_state(&*register, RegisterState::Registered).await?;
    Watching::begin(secured.endpoints(), PREFIX, &service(), &settings)?.see(Some("1")).await?;
    Ok(register.stop().await?)
}

#[tokio::test]
async fn who_resumes_a_session_says_again_who_he_is() -> Result<()> {
    for login in [Login::Sasl, Login::Digest] {
        let secured = start(Tls::Off, login).await?;
        let settings = settings(&secured, Tls::Off, login);
        let connector = Arc::new(Connector::parse(&secured.endpoints(), &settings)?);
        let record = record_at(PREFIX, &service(), A);
        let mut receipts = Vec::new();
        for attr in ["1", "2"] {
            let link = common::connect(&connector).await?;
            // To change what is there takes the right of its creator.
            receipts.push(link.register(&record, attr, Replace::OnlyOwn).await?.receipt);
        }
        assert_eq!(receipts[0], receipts[1], "the same session's node");
    }
    Ok(())
}

/// The nodes' ACLs name the old password, and the session is no other.
#[tokio::test]
async fn who_changes_the_password_keeps_his_records() -> Result<()> {
    let servers = Servers::single(Kind::Zookeeper).await?;
    let proxy = Proxy::to(servers.member(0).address()).await?;
    let file = secret_file("digest", "old")?;
    let settings = ConnectionConfig { password: Some(Secret::file(&file)), ..user("we") };
    let watching = Watching::begin(servers.addresses(), common::PREFIX, "demo", &settings)?;
    let register = register_at(vec![proxy.address().into()], common::PREFIX, "demo", &settings)?;
    register.start().await?;
    watching.see(Some("1")).await?;

    std::fs::write(&file, "new")?;
    proxy.reset_all();
    in_state(&*register, RegisterState::Retrying).await?;
    in_state(&*register, RegisterState::Registered).await?;
    register.update_attr("2").await?;
    watching.see(Some("2")).await?;
    register.update_attr("3").await?;
    watching.see(Some("3")).await?;
    register.stop().await?;
    watching.see(None).await?;
    Ok(std::fs::remove_file(&file)?)
}

fn secret_file(name: &str, content: &str) -> Result<PathBuf> {
    let file = std::env::temp_dir().join(format!("discox-{name}-{}", std::process::id()));
    std::fs::write(&file, content)?;
    Ok(file)
}

/// On a runtime of one thread: nothing else would happen, were it read there.
#[tokio::test]
async fn a_password_file_that_hangs_is_named_and_stops_nothing_else() -> Result<()> {
    let fifo = std::env::temp_dir().join(format!("discox-zookeeper-fifo-{}", std::process::id()));
    ensure!(Command::new("mkfifo").arg(&fifo).status()?.success(), "no mkfifo");
    let settings = ConnectionConfig { password: Some(Secret::file(&fifo)), ..user("we") };
    let register = register_at(vec!["127.0.0.1:1".into()], common::PREFIX, "demo", &settings)?;
    let error = register.start().await.err().context("registered")?;
    std::fs::remove_file(&fifo)?;
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    ensure!(error.to_string().contains(&*fifo.to_string_lossy()), "{error}");
    Ok(())
}

/// As a balancer does whose servers are away.
#[cfg(feature = "zookeeper-client")]
#[tokio::test]
async fn who_accepts_and_hangs_up_over_tls_has_not_refused_us() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let settings = ConnectionConfig {
        tls: Some(TlsConfig { ca: Some(Authority::new()?.certificate().into()), ..Default::default() }),
        request_timeout: Duration::from_secs(2),
        ..Default::default()
    };
    let registry = discox_zookeeper::connect(RegistryConfig {
        backend_endpoints: vec![address],
        connection: settings,
        ..Default::default()
    })?;
    let error = registry.register(common::registration())?.start().await.err().context("registered")?;
    ensure!(error.kind() != ErrorKind::Denied && error.denial().is_none(), "{error}");
    let trouble = registry.trouble().context("connected")?;
    assert_eq!((trouble.kind(), trouble.denial()), (ErrorKind::Unavailable, None), "{trouble}");
    ensure!(trouble.to_string().contains("the TLS connection was closed"), "{trouble}");
    println!("{error}\n{trouble}");
    Ok(())
}

#[tokio::test]
async fn an_open_service_is_anybodys_and_a_locked_one_its_owners() -> Result<()> {
    let servers = Servers::single(Kind::Zookeeper).await?;
    for (prefix, lock_service) in [("/open", false), ("/locked", true)] {
        let mut ours = user("we");
        ours.zookeeper.lock_service = lock_service;
        let (earlier, later) = (link(&servers, &ours).await?, link(&servers, &ours).await?);
        let stranger = link(&servers, &user("they")).await?;
        let (taken, not_taken) = (record_at(prefix, "demo", A), record_at(prefix, "demo", "10.0.0.2:80"));
        earlier.register(&taken, "1", Replace::Anyone).await?;
        earlier.register(&not_taken, "1", Replace::Anyone).await?;
        later.register(&taken, "2", Replace::Anyone).await?;

        for record in [&taken, &not_taken] {
            let answer = stranger.register(record, "3", Replace::Anyone).await;
            let denial = answer.err().and_then(|error| error.denial());
            assert_eq!(denial, lock_service.then_some(Denial::MissingRights), "{prefix}");
        }
        // What a stranger has put into an open service is anybody's, too.
        later.register(&taken, "4", Replace::Anyone).await?;
        later.withdraw(&taken, None).await?;
    }
    Ok(())
}

#[tokio::test]
async fn nobody_but_its_owner_removes_a_lock() -> Result<()> {
    let servers = Servers::single(Kind::Zookeeper).await?;
    let mut ours = user("we");
    ours.zookeeper.lock_service = true;
    let ours = link(&servers, &ours).await?;
    let record = record_at("/prefix", "demo", A);
    ours.register(&record, "1", Replace::Anyone).await?;
    ours.withdraw(&record, None).await?;
    let mut nobody = Session::open(servers.member(0)).await?;
    ensure!(nobody.delete("/prefix/demo").await.is_err(), "an empty service is locked as well");
    // Others have room for their own services beside it.
    nobody.create("/prefix/other", b"").await
}

#[tokio::test]
async fn the_documented_rights_are_enough() -> Result<()> {
    let secured = start(Tls::Off, Login::Sasl).await?;
    // As in the crate's documentation, but for the name of the user.
    let service = format!("world:anyone:r,sasl:{USER}:cdrw");
    for command in [
        &["create", "/apps"][..],
        &["create", "/apps/demo"],
        &["setAcl", "/apps/demo", &service],
        &["setAcl", "/apps", "world:anyone:r"],
    ] {
        secured.member().tool(command).await?;
    }
    let settings = settings(&secured, Tls::Off, Login::Sasl);
    let mut anybody = ConnectionConfig { user: None, password: None, ..settings.clone() };
    anybody.zookeeper.sasl = false;
    let addresses = secured.servers().addresses();
    let watching = Watching::begin(addresses.clone(), "/apps", "demo", &anybody)?;
    let earlier = register_at(addresses.clone(), "/apps", "demo", &settings)?;
    earlier.start().await?;
    earlier.update_attr("2").await?;
    watching.see(Some("2")).await?;
    let later = register_at(addresses, "/apps", "demo", &settings)?;
    later.start().await?;
    watching.see(Some("1")).await?;
    later.stop().await?;
    in_state(&*earlier, RegisterState::Registered).await?;
    earlier.stop().await?;
    watching.see(None).await
}

#[tokio::test]
async fn none_of_the_documented_rights_is_too_many() -> Result<()> {
    let secured = start(Tls::Off, Login::Sasl).await?;
    let settings = settings(&secured, Tls::Off, Login::Sasl);
    let mut admin = Session::open(secured.member()).await?;
    let rights = |letters: &str| {
        let entries = ["world:anyone:r".to_owned(), format!("sasl:{USER}:{letters}")];
        entries.iter().map(|entry| Acl::new(entry)).collect::<Result<Vec<_>>>()
    };
    admin.create("/apps", b"").await?;
    admin.create("/apps/demo", b"").await?;
    for (missing, rest) in [("c", "drw"), ("d", "crw"), ("w", "cdr")] {
        let new = || register_at(secured.servers().addresses(), "/apps", "demo", &settings);
        admin.set_acl("/apps/demo", &rights("cdrw")?).await?;
        let earlier = new()?;
        earlier.start().await?;
        admin.set_acl("/apps/demo", &rights(rest)?).await?;
        assert_eq!(denial(&*new()?).await?, Some(Denial::MissingRights), "without {missing}");
        admin.set_acl("/apps/demo", &rights("cdrw")?).await?;
        earlier.stop().await?;
    }
    admin.set_acl("/apps/demo", &[Acl::new("sasl:nobody:r")?]).await?;
    let connector = Connector::parse(&secured.servers().addresses(), &settings)?;
    let link = common::connect(&Arc::new(connector)).await?;
    let source = link.source(&Service::parse("/apps", "demo")?, &SourceOptions::default());
    assert_eq!(source.open().await.unwrap_err().denial(), Some(Denial::MissingRights));
    Ok(())
}

#[tokio::test]
async fn an_acl_of_ones_own_is_what_records_get() -> Result<()> {
    let servers = Servers::single(Kind::Zookeeper).await?;
    let acl = vec!["ip:192.0.2.1:r".to_owned(), "auth::cdrwa".to_owned()];
    let mut private = user("we");
    (private.zookeeper.acl, private.zookeeper.lock_service) = (acl, true);
    let private = link(&servers, &private).await?;
    hold(&private, A, "1").await?;
    assert_eq!(open(&private).await?.0.len(), 1);
    for (settings, expected) in
        [(user("they"), Denial::MissingRights), (common::settings(), Denial::NoCredentials)]
    {
        let refused = open(&link(&servers, &settings).await?).await.unwrap_err();
        assert_eq!(refused.downcast::<Error>()?.denial(), Some(expected));
    }
    Ok(())
}
