//! No secret is in what is logged at the most talkative level, by us or by what we stand on, nor in what
//! can be printed. A program of its own, since the log is the whole process's.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use anyhow::{Result, ensure};
use common::secured::{register, settings, start};
use discox_testkit::secured::{Login, Secured, Tls};
#[cfg(feature = "zookeeper-async")]
use discox_zookeeper::ClientCrate;
use discox_zookeeper::{ConnectionConfig, Connector, Denial};
use tracing_subscriber::{filter::LevelFilter, util::SubscriberInitExt};

/// All that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_told_to_anybody() -> Result<()> {
    // The harness tells the servers their secrets: it is not listened to.
    let sasl = start(Tls::Mutual, Login::Sasl).await?;
    let digest = start(Tls::Off, Login::Digest).await?;
    let log = Log::default();
    let writer = log.clone();
    // Also of those who log without `tracing`, such as rustls.
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish()
        .init();

    let mut secrets = vec!["a wrong one".to_owned(), "another user's".to_owned()];
    let cases = [
        (&sasl, Tls::Mutual, Login::Sasl, None),
        (&digest, Tls::Off, Login::Digest, None),
        #[cfg(feature = "zookeeper-async")]
        (&digest, Tls::Off, Login::Digest, Some(ClientCrate::ZookeeperAsync)),
    ];
    for (secured, tls, login, client) in cases {
        secrets.extend(secrets_of(secured)?);
        // So that nobody else is let in: the digest scheme itself takes everybody at his word.
        let mut settings = settings(secured, tls, login);
        (settings.zookeeper.lock_service, settings.zookeeper.client) = (true, client);
        let connection = register(secured, &settings)?;
        connection.start().await?;
        connection.stop().await?;
        let mut told = format!("{settings:?} {:?}", Connector::parse(&secured.endpoints(), &settings)?);
        let (user, password) = (Some("another".into()), Some("another user's".into()));
        for wrong in [
            ConnectionConfig { password: Some("a wrong one".into()), ..settings.clone() },
            ConnectionConfig { user, password, ..settings.clone() },
        ] {
            let error = register(secured, &wrong)?.start().await.unwrap_err();
            let denied = matches!(error.denial(), Some(Denial::WrongCredentials | Denial::MissingRights));
            assert!(denied, "{error}");
            told += &format!("{error} {error:?} {:?}", anyhow::Error::from(error.clone()));
        }
        log.clone().write_all(told.as_bytes())?;
    }

    let told = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    for talker in ["TRACE", "zookeeper_client", "rustls", "discox_core"] {
        ensure!(told.contains(talker), "{talker} says nothing");
    }
    ensure!(!told.contains("zookeeper_async"), "it shows the password of its session");
    for secret in secrets {
        if let Some(at) = told.find(&secret) {
            let line = told.get(..at).and_then(|before| before.lines().next_back()).unwrap_or_default();
            anyhow::bail!("a secret after: {line}");
        }
    }
    Ok(())
}

/// The passwords, and what identifies the key.
fn secrets_of(secured: &Secured) -> Result<Vec<String>> {
    let key = std::fs::read_to_string(secured.key_file())?;
    let key = key.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned);
    Ok(secured.secrets().map(str::to_owned).into_iter().chain(key).collect())
}
