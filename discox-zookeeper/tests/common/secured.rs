//! Short ways to a secured ZooKeeper.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use discox_testkit::{
    secured::{Login, Options, PREFIX, SERVICE, Secured, Tls, USER},
    server::Kind,
    wait,
};
use discox_zookeeper::{
    ConnectionConfig, Denial, Discover, DiscoverConfig, ErrorKind, LiteEndpoint, Register, RegisterConfig,
    RegisterState, Secret, TlsConfig, ZookeeperOptions,
};
use tokio::task::JoinHandle;

use super::{A, DEADLINE};

/// The user's service.
pub(crate) fn service() -> String {
    format!("{SERVICE}demo")
}

pub(crate) async fn start(tls: Tls, login: Login) -> Result<Secured> {
    Secured::start(Kind::Zookeeper, Options { tls, login, ..Options::default() }).await
}

/// As a user of these servers sets them, but for the time that a busy machine takes.
pub(crate) fn settings(secured: &Secured, tls: Tls, login: Login) -> ConnectionConfig {
    let certificate = TlsConfig {
        ca: Some(secured.ca_file().into()),
        cert: (tls == Tls::Mutual).then(|| secured.certificate_file().into()),
        key: (tls == Tls::Mutual).then(|| Secret::file(secured.key_file())),
        ..Default::default()
    };
    let mut settings = ConnectionConfig {
        tls: (tls != Tls::Off).then_some(certificate),
        connect_timeout: Duration::from_secs(10),
        request_timeout: DEADLINE,
        denied_backoff_max: Duration::from_secs(1),
        zookeeper: ZookeeperOptions { session_timeout: Some(Duration::from_secs(10)), ..Default::default() },
        ..Default::default()
    };
    if login == Login::Certificate {
        settings.zookeeper.acl = vec!["world:anyone:r".into(), "auth::cdrwa".into()];
    } else {
        (settings.user, settings.password) = (Some(USER.into()), Some(secured.password().into()));
        settings.zookeeper.sasl = login == Login::Sasl;
    }
    settings
}

pub(crate) fn register(secured: &Secured, settings: &ConnectionConfig) -> Result<Arc<dyn Register>> {
    register_at(secured.endpoints(), PREFIX, &service(), settings)
}

pub(crate) fn register_at(
    backend_endpoints: Vec<String>,
    discover_prefix: &str,
    service_name: &str,
    settings: &ConnectionConfig,
) -> Result<Arc<dyn Register>> {
    Ok(discox_zookeeper::new_register(RegisterConfig {
        backend_endpoints,
        discover_prefix: discover_prefix.into(),
        service_name: service_name.into(),
        service_endpoint: A.into(),
        attr: "1".into(),
        heart_beat_period: Duration::from_millis(500),
        connection: settings.clone(),
        ..Default::default()
    })?)
}

/// A discovery under way. Its task ends with it.
pub(crate) struct Watching {
    pub(crate) discover: Arc<dyn Discover>,
    pub(crate) endpoints: Arc<LiteEndpoint>,
    task: JoinHandle<discox_zookeeper::Result<()>>,
}

impl Watching {
    pub(crate) fn begin(
        backend_endpoints: Vec<String>,
        discover_prefix: &str,
        service_name: &str,
        settings: &ConnectionConfig,
    ) -> Result<Self> {
        let discover = discox_zookeeper::new_discover(DiscoverConfig {
            backend_endpoints,
            discover_prefix: discover_prefix.into(),
            service_name: service_name.into(),
            grace: Duration::ZERO,
            connection: settings.clone(),
            ..Default::default()
        })?;
        let endpoints = Arc::new(LiteEndpoint::new());
        let task = tokio::spawn({
            let (discover, endpoints) = (discover.clone(), endpoints.clone());
            async move { discover.start(endpoints).await }
        });
        Ok(Self { discover, endpoints, task })
    }

    /// Waits until the record has this attr, or until there is none.
    pub(crate) async fn see(&self, attr: Option<&str>) -> Result<()> {
        let seen = async || self.endpoints.attr(A).as_deref() == attr.map(str::as_bytes);
        let waited = wait::eventually(DEADLINE, "the record as it should be", seen).await;
        waited.with_context(|| format!("{attr:?}, {:?}, {:?}", self.endpoints, self.discover.status()))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a first `start` is denied, which it must be.
pub(crate) async fn denial(register: &dyn Register) -> Result<Option<Denial>> {
    let Err(error) = register.start().await else { bail!("let in") };
    if error.kind() != ErrorKind::Denied {
        bail!("not denied: {error}");
    }
    println!("{error}");
    Ok(error.denial())
}

pub(crate) async fn in_state(register: &dyn Register, state: RegisterState) -> Result<()> {
    wait::eventually(DEADLINE, &format!("{state:?}"), async || register.status().state == state)
        .await
        .with_context(|| format!("{:?}", register.status()))
}
