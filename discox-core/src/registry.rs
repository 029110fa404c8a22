//! One connection from which many endpoints are registered and many services discovered.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    ConnectionConfig, Discover, DiscoverConfig, Error, Register, RegisterConfig, Result, backend::Link,
    discovery::Discovery, link::Hub, registration::Registration,
};

/// One connection, with its session or leases, that many registrations and discoveries share.
///
/// It connects with the first `start`. It lives as long as this handle or anything made from it.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// A registration over this connection. The configuration's backend, addresses and connection
    /// settings are ignored. No I/O.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    fn register(&self, config: RegisterConfig) -> Result<Arc<dyn Register>>;

    /// A discovery over this connection. The configuration's backend, addresses and connection
    /// settings are ignored. No I/O.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    fn discover(&self, config: DiscoverConfig) -> Result<Arc<dyn Discover>>;

    /// Ends the connection for good, and with it everything that was made from it: discoveries end
    /// with [`Stopped`](crate::ErrorKind::Stopped), records that were not stopped end with the
    /// session or leases. Takes at most `request_timeout`. Idempotent.
    async fn close(&self);

    /// Why the connection is not up, if it is not. None before the first `start`.
    fn trouble(&self) -> Option<Error>;
}

/// The [`Registry`] of one backend, for the backend crates.
pub struct Connection<L: Link>(Arc<Hub<L>>);

impl<L: Link> Connection<L> {
    /// Checks the settings. No I/O; works outside a runtime.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    pub fn new(connector: L::Connector, settings: &ConnectionConfig) -> Result<Self> {
        settings.check(L::BACKEND)?;
        Ok(Self(Arc::new(Hub::new(connector, settings))))
    }

    /// The one-service shortcut: a registration that owns this connection and ends it by `stop`.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    pub fn single_register(self, config: &RegisterConfig) -> Result<Arc<dyn Register>> {
        Ok(Arc::new(Registration::new(self.0, true, config)?))
    }

    /// The one-service shortcut: a discovery that owns this connection and ends it by `stop`.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    pub fn single_discover(self, config: &DiscoverConfig) -> Result<Arc<dyn Discover>> {
        Ok(Arc::new(Discovery::new(self.0, true, config)?))
    }
}

#[async_trait]
impl<L: Link> Registry for Connection<L> {
    fn register(&self, config: RegisterConfig) -> Result<Arc<dyn Register>> {
        Ok(Arc::new(Registration::new(self.0.clone(), false, &config)?))
    }

    fn discover(&self, config: DiscoverConfig) -> Result<Arc<dyn Discover>> {
        Ok(Arc::new(Discovery::new(self.0.clone(), false, &config)?))
    }

    async fn close(&self) {
        self.0.close(self.0.settings.request_timeout).await;
    }

    fn trouble(&self) -> Option<Error> {
        self.0.trouble()
    }
}
