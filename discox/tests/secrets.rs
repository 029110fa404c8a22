//! No password, token or key is shown: neither in what is logged at trace level, nor by `Debug` and `Display` of
//! configurations, states and errors, nor by the program, its help, its errors and the list of processes.

#[path = "security/client.rs"]
mod client;
#[path = "program/command.rs"]
mod program;

use std::{
    error::Error as _,
    fmt::Debug,
    fs,
    io::{self, Write},
    process::Stdio,
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use discox::{ConnectionConfig, ConsulOptions, Error, RegistryConfig, Secret, TlsConfig};
use discox_testkit::{
    secured::{Options, Secured},
    server::Kind,
};
use tokio::io::AsyncReadExt;

use crate::client::{Running, backend, discovery, registration};

/// What is shown, and to whom.
type Shown = Vec<(String, String)>;

/// Everything that is logged by this process.
struct Log;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn log() -> MutexGuard<'static, Vec<u8>> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        log().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs everything that discox and its clients have to say. What the harness tells Docker is not theirs.
fn log_everything() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = tracing_subscriber::EnvFilter::new("trace,bollard=off,testcontainers=off");
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| Log).init();
    });
}

/// The secrets of these servers in every form that a careless print would give them.
fn forms(secured: &Secured) -> Result<Vec<(&'static str, String)>> {
    let mut forms = Vec::new();
    for secret in secured.secrets() {
        forms.push(("as it is", secret.to_owned()));
        forms.push(("in base64", STANDARD.encode(secret).trim_end_matches('=').to_owned()));
        let decimal: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
        forms.push(("as bytes", decimal.join(", ")));
    }
    let key = fs::read_to_string(secured.key_file())?;
    let lines = key.lines().filter(|line| !line.starts_with("-----"));
    forms.extend(lines.map(|line| ("of the key", line.to_owned())));
    Ok(forms)
}

/// None of the secrets is anywhere.
fn search(secured: &Secured, shown: &Shown) -> Result<()> {
    ensure!(!shown.is_empty());
    for (form, secret) in forms(secured)? {
        for (place, text) in shown {
            if let Some(at) = text.find(&secret) {
                let line = text[..at].rsplit('\n').next().unwrap_or_default();
                anyhow::bail!("{place} shows a secret {form}, behind {line:?}");
            }
        }
    }
    Ok(())
}

/// The user's connection with all secrets in memory.
fn in_memory(secured: &Secured) -> Result<ConnectionConfig> {
    let connection = secured.connection();
    let tls = connection.tls.as_ref().context("no TLS")?;
    Ok(ConnectionConfig {
        password: connection.password.as_ref().map(|_| secured.password().into()),
        consul: ConsulOptions {
            token: connection.consul.token.as_ref().map(|_| secured.token().into()),
            ..connection.consul.clone()
        },
        tls: Some(TlsConfig {
            key: Some(Secret::new(fs::read_to_string(secured.key_file())?)),
            ..tls.clone()
        }),
        ..connection
    })
}

/// The library, from the first list to the last error.
async fn library(secured: &Secured) -> Result<Shown> {
    let connection = in_memory(secured)?;
    let mut shown = Shown::new();
    let mut show =
        |what: &str, value: &dyn Debug| shown.push((what.to_owned(), format!("{value:?} {value:#?}")));
    show("Debug of a connection", &connection);
    show("Debug of a registration", &registration(secured, &connection));
    show("Debug of a discovery", &discovery(secured, &connection));
    let registry = RegistryConfig { connection: connection.clone(), ..RegistryConfig::default() };
    show("Debug of a registry", &registry);

    let running = Running::start(secured, &connection).await?;
    running.delivers("second").await?;
    show("the state of a registration", &running.register.status());
    show("the state of a discovery", &running.watching.discover.status());
    secured.revoke().await?;
    if let Err(error) = running.register.update_attr("third").await {
        show("the error of an update", &chain(&error));
    }
    show("the state of a refused registration", &running.register.status());
    secured.grant().await?;
    running.delivers("fourth").await?;
    running.stop().await?;

    // Each of the secrets where it does not belong, so that something has to be said about it.
    let wrong = ConnectionConfig {
        password: connection.password.as_ref().map(|_| secured.secrets()[1].into()),
        consul: ConsulOptions {
            token: connection.consul.token.as_ref().map(|_| secured.password().into()),
            ..connection.consul.clone()
        },
        ..connection.clone()
    };
    let key =
        TlsConfig { key: Some(secured.password().into()), ..connection.tls.clone().unwrap_or_default() };
    for spoiled in [wrong, ConnectionConfig { tls: Some(key), ..connection }] {
        let register = discox::new_register(registration(secured, &spoiled))?;
        let error = register.start().await.err().context("it was registered")?;
        show("the error of a start", &chain(&error));
        show("the state of a registration that did not start", &register.status());
        let _ = register.stop().await;
    }
    Ok(shown)
}

/// An error with all that is behind it, as text and as `Debug`.
fn chain(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(" {error} {error:?}");
        source = error.source();
    }
    text
}

/// The program, with everything that it prints when it logs all.
async fn command_line(secured: &Secured) -> Result<Shown> {
    let config = secured.config_file()?.display().to_string();
    let backend = backend(secured.servers().kind()).to_string();
    let endpoints = secured.endpoints().join(",");
    let service = client::service();
    let command = |action: &str| {
        let mut command = program::discox(&[action, "--config", &config, "--backend", &backend]);
        command.args(["--backend-endpoint", &endpoints, "--service", &service]);
        command.args(["--prefix", discox_testkit::secured::PREFIX]).env("RUST_LOG", "trace");
        command
    };
    let mut shown = Shown::new();
    let mut register = command("register");
    // What it registers runs as long as it is read from: until the end of this function.
    register.args(["--endpoint", client::ENDPOINT, "--", "cat"]).stdin(Stdio::piped());
    // More than a pipe holds that nobody reads.
    let errors = secured.write("register.log", "")?;
    let mut register = register.stderr(fs::File::create(&errors)?).spawn()?;
    let mut output = register.stdout.take().context("no output")?;
    let mut line = [0; 1];
    output.read_exact(&mut line).await.context("it is not registered")?;
    let id = register.id().context("it has ended")?;
    for about in ["cmdline", "environ"] {
        let told = fs::read(format!("/proc/{id}/{about}"))?;
        shown.push((format!("/proc/…/{about}"), String::from_utf8_lossy(&told).into_owned()));
    }
    let list = program::finish(command("list")).await?;
    ensure!(list.output.contains(client::ENDPOINT), "{list:?}");
    ensure!(list.errors.contains("TRACE"), "it logs: {list:?}");
    shown.push(("list".into(), list.output + &list.errors));

    drop(register.stdin.take());
    let mut rest = String::new();
    output.read_to_string(&mut rest).await?;
    let ended = register.wait_with_output().await?;
    ensure!(ended.status.success(), "{ended:?}");
    let errors = fs::read_to_string(&errors)?;
    ensure!(errors.contains("TRACE"), "it logs: {errors}");
    shown.push(("register".into(), rest + &errors));

    let mut environment = command("register");
    let variable = if secured.servers().kind() == Kind::Consul {
        ("DISCOX_TOKEN", secured.token())
    } else {
        ("DISCOX_PASSWORD", secured.password())
    };
    environment.env(variable.0, variable.1).args(["--endpoint", client::ENDPOINT, "--", "env"]);
    let environment = program::finish(environment).await?;
    ensure!(environment.output.contains("\nRUST_LOG=trace\n"), "{environment:?}");
    ensure!(!environment.output.contains(variable.0), "COMMAND gets {}", variable.0);
    shown.push(("the variables of COMMAND".into(), environment.output + &environment.errors));

    let mut help = program::discox(&["register", "--help"]);
    help.env("DISCOX_PASSWORD", secured.password()).env("DISCOX_TOKEN", secured.token());
    let help = program::finish(help).await?;
    shown.push(("--help".into(), help.output + &help.errors));
    Ok(shown)
}

/// A file whose secrets are in the wrong place: the line is named, and not repeated.
async fn broken_files(secured: &Secured) -> Result<Shown> {
    let password = secured.password();
    let mut shown = Shown::new();
    for connection in [
        format!("password = [{password:?}]"),
        format!("password = {password:?} {password:?}"),
        format!("pasword = {password:?}"),
        format!("user = \"discox\"\npassword = {{ text = {password:?} }}"),
    ] {
        let file = secured.write("broken.toml", &format!("[connection]\n{connection}\n"))?;
        let ended = program::run(&["list", "--config", &file.display().to_string()]).await?.with(2, 1)?;
        shown.push((format!("the error about a file ({connection:.8}…)"), ended.output + &ended.errors));
    }
    Ok(shown)
}

async fn no_secret_is_shown(kind: Kind) -> Result<()> {
    log_everything();
    let secured = Secured::start(kind, Options::default()).await?;
    let mut shown = library(&secured).await?;
    shown.extend(command_line(&secured).await?);
    shown.extend(broken_files(&secured).await?);
    let logged = String::from_utf8_lossy(&log()).into_owned();
    ensure!(logged.contains("TRACE") && logged.contains(&client::service()), "nothing was logged");
    shown.push(("the log".into(), logged));
    search(&secured, &shown)
}

#[tokio::test]
async fn of_etcd() -> Result<()> {
    no_secret_is_shown(Kind::Etcd).await
}

#[tokio::test]
async fn of_zookeeper() -> Result<()> {
    no_secret_is_shown(Kind::Zookeeper).await
}

#[tokio::test]
async fn of_consul() -> Result<()> {
    no_secret_is_shown(Kind::Consul).await
}
