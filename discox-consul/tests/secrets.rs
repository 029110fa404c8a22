//! Secrets stay secret: in all that is logged, down to trace level, in errors and in `Debug`.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fmt::Write,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Result, ensure};
use discox_consul::{
    ConnectionConfig, ConsulOptions, DiscoverConfig, EndpointCacher, LiteEndpoint, RegisterConfig,
    RegistryConfig, Secret,
};
use discox_testkit::{
    secured::{Options, PREFIX, SERVICE, Secured, Tls},
    server::Kind,
    wait::eventually,
};

/// All that was logged, by `tracing` and by `log`.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let _ = io::Write::write_all(&mut self.clone(), format!("{}\n", record.args()).as_bytes());
    }

    fn flush(&self) {}
}

fn log_everything() -> Result<Log> {
    let log = Log::default();
    log::set_boxed_logger(Box::new(log.clone()))?;
    log::set_max_level(log::LevelFilter::Trace);
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(log)
}

#[tokio::test]
async fn a_token_is_in_nothing_that_is_written() -> Result<()> {
    let options = Options { tls: Tls::Off, ..Options::default() };
    let secured = Secured::start(Kind::Consul, options).await?;
    // From now on: how the server was started is not discox's.
    let log = log_everything()?;
    let mut shown = String::new();
    let wrong = "11111111-2222-4333-8444-555555555555";
    let file = secured.write("token", "hunter2 with white space")?;
    for token in [Secret::from(secured.token()), wrong.into(), Secret::file(file)] {
        let connection = ConnectionConfig {
            consul: ConsulOptions { token: Some(token), ..Default::default() },
            denied_backoff_max: Duration::from_secs(1),
            ..Default::default()
        };
        let registry = RegistryConfig {
            backend_endpoints: secured.endpoints(),
            connection: connection.clone(),
            ..Default::default()
        };
        let registration = RegisterConfig {
            backend_endpoints: secured.endpoints(),
            discover_prefix: PREFIX.into(),
            service_name: format!("{SERVICE}demo"),
            service_endpoint: "10.0.0.1:80".into(),
            connection: connection.clone(),
            ..Default::default()
        };
        let discovery = DiscoverConfig {
            backend_endpoints: secured.endpoints(),
            discover_prefix: PREFIX.into(),
            service_name: format!("{SERVICE}demo"),
            connection,
            ..Default::default()
        };
        write!(shown, "{registry:?} {registration:?} {discovery:?}")?;
        let connector = discox_consul::Connector::parse(&registry.backend_endpoints, &registry.connection)?;
        write!(shown, "{connector:?} {connector}")?;
        let register = discox_consul::new_register(registration)?;
        if let Err(error) = register.start().await {
            write!(shown, "{error} {error:?} {:?}", anyhow::Error::new(error.clone()))?;
        }
        write!(shown, "{:?}", register.status())?;
        let discover = discox_consul::new_discover(discovery)?;
        let cache = Arc::new(LiteEndpoint::new());
        tokio::spawn({
            let (discover, cache) = (discover.clone(), cache.clone());
            async move { discover.start(cache as Arc<dyn EndpointCacher>).await }
        });
        eventually(common::DEADLINE, "an answer", async || cache.is_ready() || cache.last_error().is_some())
            .await?;
        write!(shown, "{:?} {:?}", cache.last_error(), discover.status())?;
        let _ = register.stop().await;
        discover.stop().await;
    }
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    ensure!(logged.contains("registry connected") && logged.lines().count() > 50, "nothing was logged");
    for secret in secured.secrets().into_iter().chain([wrong, "hunter2"]) {
        ensure!(!logged.contains(secret), "logged: {}", around(&logged, secret));
        ensure!(!shown.contains(secret), "shown: {}", around(&shown, secret));
    }
    Ok(())
}

/// What stands before a secret.
fn around<'a>(text: &'a str, secret: &str) -> &'a str {
    text.split(secret)
        .next()
        .map_or("", |before| before.get(before.len().saturating_sub(200)..).unwrap_or(before))
}
