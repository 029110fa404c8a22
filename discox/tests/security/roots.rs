//! Whom the operating system trusts: asked of the program, since `SSL_CERT_FILE` is of a whole process.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use discox_testkit::{
    authority::Authority,
    secured::{Options, PREFIX, Secured, Tls, USER},
    server::Kind,
};

use crate::{
    client::{backend, service},
    program::{self, Ended},
};

/// Lists the service where the operating system trusts this authority.
async fn list(secured: &Secured, system: &Path, args: &[&str]) -> Result<Ended> {
    let kind = secured.servers().kind();
    let mut command = program::discox(&["list"]);
    command.args(["--backend", backend(kind).as_str(), "--backend-endpoint", &secured.endpoints().join(",")]);
    command.args(["--prefix", PREFIX, "--service", &service()]).args(args);
    match kind {
        Kind::Etcd => command.args(["--user", USER, "--password-file"]).arg(secured.password_file()),
        Kind::Zookeeper => &mut command,
        Kind::Consul => command.arg("--token-file").arg(secured.token_file()),
    };
    command.env("SSL_CERT_FILE", system).env_remove("SSL_CERT_DIR");
    program::finish(command).await
}

async fn system_roots(kind: Kind) -> Result<()> {
    let secured = Secured::start(kind, Options { tls: Tls::Server, ..Options::default() }).await?;
    let ours = secured.ca_file();
    let others = secured.write("others.pem", &Authority::new()?.certificate())?;
    let other_ca = ["--tls-ca", others.to_str().context("the path")?];
    // TLS, and not a word on whom to trust.
    let nothing = secured.write("nothing.toml", "[connection.tls]\n")?;
    let nothing = ["--config", nothing.to_str().context("the path")?];
    let beside = [&other_ca[..], &["--tls-system-roots"]].concat();
    for (system, args, trusted) in [
        (&ours, &nothing[..], true),
        (&others, &nothing, false),
        (&ours, &other_ca, false),
        (&ours, &beside, true),
        (&others, &beside, false),
    ] {
        let ended = list(&secured, system, args).await?;
        let case = format!("{args:?}, where the system trusts {}", system.display());
        if trusted {
            ended.with(0, 0).context(case)?;
        } else {
            let ended = ended.with(1, 1).context(case)?;
            ensure!(ended.errors.contains("`tls.ca`"), "{ended:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn of_the_system_for_etcd() -> Result<()> {
    system_roots(Kind::Etcd).await
}

#[tokio::test]
async fn of_the_system_for_zookeeper() -> Result<()> {
    system_roots(Kind::Zookeeper).await
}

#[tokio::test]
async fn of_the_system_for_consul() -> Result<()> {
    system_roots(Kind::Consul).await
}
