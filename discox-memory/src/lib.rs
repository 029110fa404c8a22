//! The embedded backend of discox: a registry inside this process, with the same semantics as the
//! real ones. For tests and for a first run; nothing leaves the process and nothing is kept.
//!
//! # Where records are
//! All handles of a process share one store. `memory://NAME` as the only entry of
//! `backend_endpoints` names a separate one; names consist of `A-Za-z0-9._-`. A named store lives as
//! long as a handle on it: a registration, a discovery, a registry or a [`Store`].
//!
//! # TTL
//! Granted as asked for. A record whose handle is dropped without `stop` expires after its TTL; a
//! handle that lives keeps it by heart beats. There is no task behind it: expired records are swept
//! by whoever watches, lists or writes.
//!
//! # Limits
//! An attr of at most 1 MiB. `health_check_endpoint` is ignored: there is nobody to run the check.
//!
//! # Failures
//! None of its own. [`Store`] makes them on demand, and plays the part of the registry's own tools.
//!
//! ```
//! use std::sync::Arc;
//! use discox_memory::{DiscoverConfig, LiteEndpoint, RegisterConfig};
//!
//! # #[tokio::main]
//! # async fn main() -> discox_memory::Result<()> {
//! let register = discox_memory::new_register(RegisterConfig {
//!     service_name: "demo".into(),
//!     service_endpoint: "127.0.0.1:8111".into(),
//!     ..Default::default()
//! })?;
//! register.start().await?;
//!
//! let discover =
//!     discox_memory::new_discover(DiscoverConfig { service_name: "demo".into(), ..Default::default() })?;
//! let endpoints = Arc::new(LiteEndpoint::new());
//! let watching = tokio::spawn({
//!     let (discover, endpoints) = (discover.clone(), endpoints.clone());
//!     async move { discover.start(endpoints).await }
//! });
//! endpoints.ready().await;
//! assert_eq!(endpoints.list(), ["127.0.0.1:8111"]);
//!
//! register.stop().await?;
//! endpoints.changes().wait_for(|snapshot| snapshot.is_empty()).await;
//! discover.stop().await;
//! # watching.await.unwrap()
//! # }
//! ```

mod connect;
mod registrar;
mod source;
mod store;
mod topic;

use std::sync::Arc;

use connect::{Connector, MemoryLink};
use discox_core::Connection;

pub use discox_core::{
    BackendType, Changes, ClientCrate, ConnectionConfig, Denial, Discover, DiscoverConfig, DiscoverState,
    DiscoverStatus, EndpointCacher, Entry, Error, ErrorKind, Event, Freshness, FreshnessState, LiteEndpoint,
    Pem, Reader, Register, RegisterConfig, RegisterState, RegisterStatus, Registry, RegistryConfig, Result,
    Secret, Snapshot, TlsConfig, Update,
};
pub use store::{Store, store};

/// A registration with a connection of its own. No I/O; works outside a runtime.
///
/// # Errors
/// [`Config`](ErrorKind::Config), naming the field, the value and the reason.
pub fn new_register(config: RegisterConfig) -> Result<Arc<dyn Register>> {
    connection(&config.backend_endpoints, &config.connection)?.single_register(&config)
}

/// A discovery with a connection of its own. No I/O; works outside a runtime.
///
/// # Errors
/// [`Config`](ErrorKind::Config), naming the field, the value and the reason.
pub fn new_discover(config: DiscoverConfig) -> Result<Arc<dyn Discover>> {
    connection(&config.backend_endpoints, &config.connection)?.single_discover(&config)
}

/// One connection from which many endpoints are registered and many services discovered. It
/// connects with the first `start`. No I/O; works outside a runtime.
///
/// # Errors
/// [`Config`](ErrorKind::Config), naming the field, the value and the reason.
pub fn connect(config: RegistryConfig) -> Result<Arc<dyn Registry>> {
    Ok(Arc::new(connection(&config.backend_endpoints, &config.connection)?))
}

fn connection(endpoints: &[String], settings: &ConnectionConfig) -> Result<Connection<MemoryLink>> {
    Connection::new(Connector::parse(endpoints)?, settings)
}
