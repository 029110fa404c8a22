//! The user of a secured registry, as a program that uses discox.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use discox::{BackendType, ConnectionConfig, DiscoverConfig, Register, RegisterConfig};
use discox_testkit::{
    conformance::Watching,
    secured::{PREFIX, SERVICE, Secured},
    server::Kind,
};

/// What is registered.
pub(crate) const ENDPOINT: &str = "10.0.0.5:8111";

/// Far more than anything here takes that has no bound of its own, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The backend of a server.
pub(crate) fn backend(kind: Kind) -> BackendType {
    match kind {
        Kind::Etcd => BackendType::Etcd,
        Kind::Zookeeper => BackendType::Zookeeper,
        Kind::Consul => BackendType::Consul,
    }
}

/// The service of these tests.
pub(crate) fn service() -> String {
    format!("{SERVICE}of-security")
}

/// A registration over this connection.
pub(crate) fn registration(secured: &Secured, connection: &ConnectionConfig) -> RegisterConfig {
    RegisterConfig {
        backend_type: backend(secured.servers().kind()),
        backend_endpoints: secured.endpoints(),
        discover_prefix: PREFIX.into(),
        service_name: service(),
        service_endpoint: ENDPOINT.into(),
        attr: "first".into(),
        heart_beat_period: Duration::from_secs(1),
        ttl: Some(Duration::from_secs(20)),
        connection: connection.clone(),
        ..Default::default()
    }
}

/// A discovery over this connection.
pub(crate) fn discovery(secured: &Secured, connection: &ConnectionConfig) -> DiscoverConfig {
    DiscoverConfig {
        backend_type: backend(secured.servers().kind()),
        backend_endpoints: secured.endpoints(),
        discover_prefix: PREFIX.into(),
        service_name: service(),
        connection: connection.clone(),
        ..Default::default()
    }
}

/// A registration and a discovery that are well.
pub(crate) struct Running {
    pub(crate) register: Arc<dyn Register>,
    pub(crate) watching: Watching,
}

impl Running {
    /// Starts both.
    pub(crate) async fn start(secured: &Secured, connection: &ConnectionConfig) -> Result<Self> {
        let register = discox::new_register(registration(secured, connection))?;
        register.start().await.context("start")?;
        let watching = Watching::start(discox::new_discover(discovery(secured, connection))?);
        watching.seen.shows(ENDPOINT, "first", SOON).await?;
        Ok(Self { register, watching })
    }

    /// Waits until a change arrives, however often it has to be asked for meanwhile.
    pub(crate) async fn delivers(&self, attr: &str) -> Result<()> {
        // An error means "not yet": it is written as soon as that can be.
        let _ = self.register.update_attr(attr).await;
        let status = || format!("{:?}", self.register.status());
        self.watching.seen.shows(ENDPOINT, attr, SOON).await.with_context(status)
    }

    /// Ends both, which must succeed.
    pub(crate) async fn stop(self) -> Result<()> {
        self.register.stop().await.context("stop")?;
        self.watching.stop().await
    }
}
