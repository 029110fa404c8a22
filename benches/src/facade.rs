//! discox, as its users use it: a registry handle.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use discox::{
    BackendType, ConnectionConfig, Discover, DiscoverConfig, EndpointCacher, Error, Event, LiteEndpoint,
    Register, RegisterConfig, Registry, RegistryConfig, Snapshot, Update, ZookeeperOptions,
};

use crate::client::{Client, Entry, PREFIX, Sight, Watching};

/// A registry handle.
pub struct Discox {
    registry: Arc<dyn Registry>,
    heart_beat: Duration,
}

impl Discox {
    /// A handle on the registry at `address`. No I/O.
    ///
    /// # Errors
    /// None that is expected.
    pub fn new(backend: BackendType, address: &str, heart_beat: Duration, guard: bool) -> Result<Self> {
        let session_timeout = (backend == BackendType::Zookeeper).then_some(Duration::from_secs(30));
        let zookeeper = ZookeeperOptions { session_timeout, guard, ..Default::default() };
        // A busy machine is slow, and no benchmark fails of it.
        let request_timeout = Duration::from_secs(60);
        let connection = ConnectionConfig { zookeeper, request_timeout, ..Default::default() };
        let config = RegistryConfig {
            backend_type: backend,
            backend_endpoints: vec![address.into()],
            connection,
            ..Default::default()
        };
        Ok(Self { registry: discox::connect(config)?, heart_beat })
    }
}

#[async_trait]
impl Client for Discox {
    async fn register(&self, service: &str, endpoint: &str, attr: &str) -> Result<Box<dyn Entry>> {
        let register = self.registry.register(RegisterConfig {
            discover_prefix: PREFIX.into(),
            service_name: service.into(),
            service_endpoint: endpoint.into(),
            attr: attr.into(),
            heart_beat_period: self.heart_beat,
            ..Default::default()
        })?;
        register.start().await?;
        Ok(Box::new(Registered(register)))
    }

    async fn watch(&self, service: &str, sight: Arc<Sight>) -> Result<Box<dyn Watching>> {
        let discover = self.registry.discover(DiscoverConfig {
            discover_prefix: PREFIX.into(),
            service_name: service.into(),
            ..Default::default()
        })?;
        let eye = Arc::new(Eye { cache: LiteEndpoint::new(), sight });
        tokio::spawn({
            let (discover, eye) = (discover.clone(), eye.clone());
            async move { discover.start(eye).await }
        });
        eye.cache.ready().await;
        Ok(Box::new(Discovered { discover, eye }))
    }
}

struct Registered(Arc<dyn Register>);

#[async_trait]
impl Entry for Registered {
    async fn update(&self, attr: &str) -> Result<()> {
        Ok(self.0.update_attr(attr).await?)
    }

    async fn withdraw(&self) -> Result<()> {
        Ok(self.0.stop().await?)
    }
}

struct Discovered {
    discover: Arc<dyn Discover>,
    eye: Arc<Eye>,
}

#[async_trait]
impl Watching for Discovered {
    fn len(&self) -> usize {
        self.eye.cache.len()
    }

    async fn end(&self) {
        self.discover.stop().await;
    }
}

/// The usual cache, and a look at it after each change.
struct Eye {
    cache: LiteEndpoint,
    sight: Arc<Sight>,
}

impl EndpointCacher for Eye {
    fn add_or_update(&self, endpoint: &str, attribute: &[u8]) {
        self.cache.add_or_update(endpoint, attribute);
    }

    fn delete(&self, endpoint: &str) {
        self.cache.delete(endpoint);
    }

    fn add_error(&self, error: &Error) {
        self.cache.add_error(error);
    }

    fn apply(&self, batch: &[Update]) {
        self.cache.apply(batch);
        self.sight.changed(|endpoint| self.cache.attr(endpoint));
    }

    fn advance(&self, from: &Arc<Snapshot>, to: &Arc<Snapshot>, batch: &[Update]) {
        self.cache.advance(from, to, batch);
        self.sight.changed(|endpoint| self.cache.attr(endpoint));
    }

    fn on_event(&self, event: &Event) {
        self.cache.on_event(event);
    }
}
