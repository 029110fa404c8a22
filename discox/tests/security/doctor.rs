//! `discox doctor` on a connection that is refused: the line says what to change, and nothing secret.

use anyhow::{Context, Result, ensure};
use discox::{ConnectionConfig, Pem, Secret};
use discox_testkit::{
    secured::{PREFIX, Secured},
    server::Kind,
};

use crate::{client::service, program::run};

/// What the doctor prints of this connection, and its exit code.
pub(crate) async fn examined(secured: &Secured, connection: &ConnectionConfig) -> Result<(i32, String)> {
    let config = config_file(secured, connection)?;
    let backend = secured.servers().kind().to_string();
    let (endpoints, service) = (secured.endpoints().join(","), service());
    let args = ["doctor", "--config", &config, "--backend", &backend, "--backend-endpoint", &endpoints];
    let ended = run(&[&args[..], &["--prefix", PREFIX, "--service", &service]].concat()).await?;
    let said = format!("{}{}", ended.output, ended.errors);
    let told = secured.secrets().into_iter().find(|secret| said.contains(secret));
    ensure!(told.is_none(), "a secret is told: {said}");
    Ok((ended.status.code().context("no code")?, said))
}

/// The connection as a file of the command line.
fn config_file(secured: &Secured, connection: &ConnectionConfig) -> Result<String> {
    let pem = |name: &str, pem: &Option<Pem>| -> Result<String> {
        Ok(match pem {
            Some(Pem::Text(text)) => {
                format!("{name} = {:?}\n", secured.write(&format!("doctor-{name}"), text)?)
            }
            Some(Pem::File(path)) => format!("{name} = {path:?}\n"),
            _ => String::new(),
        })
    };
    let secret = |name: &str, secret: &Option<Secret>, file: std::path::PathBuf| -> Result<String> {
        let Some(secret) = secret else { return Ok(String::new()) };
        let file = match secret.text() {
            Some(text) => secured.write(&format!("doctor-{name}"), text)?,
            None => file,
        };
        Ok(format!("{name} = {{ file = {file:?} }}\n"))
    };
    let user = connection.user.as_ref().map_or(String::new(), |user| format!("user = {user:?}\n"));
    let mut text = format!("[connection]\nconnect_timeout = \"10s\"\nrequest_timeout = \"20s\"\n{user}");
    text += &secret("password", &connection.password, secured.password_file())?;
    if let Some(tls) = &connection.tls {
        text += &format!("[connection.tls]\n{}{}", pem("ca", &tls.ca)?, pem("cert", &tls.cert)?);
        text += &secret("key", &tls.key, secured.key_file())?;
        text += &tls.server_name.as_ref().map_or(String::new(), |name| format!("server_name = {name:?}\n"));
    }
    if secured.servers().kind() == Kind::Zookeeper {
        let zookeeper = &connection.zookeeper;
        text += &format!(
            "[connection.zookeeper]\nsasl = {}\nlock_service = {}\n",
            zookeeper.sasl, zookeeper.lock_service
        );
    }
    if secured.servers().kind() == Kind::Consul {
        text += &format!(
            "[connection.consul]\n{}",
            secret("token", &connection.consul.token, secured.token_file())?
        );
    }
    Ok(secured.write("doctor.toml", &text)?.display().to_string())
}
