//! What a balancer follows.

use std::{any::Any, fmt, sync::Arc};

use discox_core::{LiteEndpoint, Watching};

/// The cache that a balancer follows, and what has to live as long as it is followed.
#[derive(Clone)]
pub struct Endpoints {
    pub(crate) cache: Arc<LiteEndpoint>,
    pub(crate) name: Option<Arc<str>>,
    _feeder: Option<Arc<dyn Any + Send + Sync>>,
}

impl Endpoints {
    /// A cache that something else feeds.
    pub fn new(cache: Arc<LiteEndpoint>) -> Self {
        Self { cache, name: None, _feeder: None }
    }

    /// Keeps `feeder` alive as long as the balancer: a discovery that ends with its last handle.
    pub fn kept_by(mut self, feeder: impl Any + Send + Sync) -> Self {
        self._feeder = Some(Arc::new(feeder));
        self
    }

    /// The service's name, for errors.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl From<&Arc<LiteEndpoint>> for Endpoints {
    fn from(cache: &Arc<LiteEndpoint>) -> Self {
        Self::new(cache.clone())
    }
}

impl From<Arc<LiteEndpoint>> for Endpoints {
    fn from(cache: Arc<LiteEndpoint>) -> Self {
        Self::new(cache)
    }
}

impl From<&Watching> for Endpoints {
    /// Keeps the discovery going as long as the balancer.
    fn from(watching: &Watching) -> Self {
        Self::new(watching.endpoints()).named(watching.service()).kept_by(watching.clone())
    }
}

impl From<Watching> for Endpoints {
    fn from(watching: Watching) -> Self {
        Self::from(&watching)
    }
}

impl From<&Endpoints> for Endpoints {
    fn from(endpoints: &Endpoints) -> Self {
        endpoints.clone()
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints").field("name", &self.name).finish_non_exhaustive()
    }
}
