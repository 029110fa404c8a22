//! Service registration and discovery on etcd, ZooKeeper, Consul or inside the process.
//!
//! A service registers its endpoint, and it stays registered until it is told to stop, whatever
//! happens to the registry. Clients discover the service and hold a cache that follows the registry,
//! and that keeps the last known endpoints while the registry is away.
//!
//! # A program
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//! use discox::{BackendType, DiscoverConfig, LiteEndpoint, RegisterConfig};
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     let backend_type: BackendType = "etcd".parse()?;            // etcd | zookeeper | consul | memory
//!     let register = discox::new_register(RegisterConfig {         // checks the configuration, does no I/O
//!         backend_type,
//!         backend_endpoints: vec!["http://127.0.0.1:2379".into()],
//!         discover_prefix: "/discox/demo".into(),
//!         service_name: "demo".into(),
//!         service_endpoint: "127.0.0.1:8111".into(),
//!         attr: r#"{"weight":1}"#.into(),                          // any UTF-8 text
//!         heart_beat_period: Duration::from_secs(5),
//!         ..Default::default()
//!     })?;
//!     register.start().await?;                                     // Ok: the endpoint is in the registry
//!
//!     let discover = discox::new_discover(DiscoverConfig {
//!         backend_type,
//!         backend_endpoints: vec!["http://127.0.0.1:2379".into()],
//!         discover_prefix: "/discox/demo".into(),
//!         service_name: "demo".into(),
//!         ..Default::default()
//!     })?;
//!     let endpoints = Arc::new(LiteEndpoint::new());
//!     let watching = tokio::spawn({
//!         let (discover, endpoints) = (discover.clone(), endpoints.clone());
//!         async move { discover.start(endpoints).await }           // blocks until stop()
//!     });
//!     endpoints.ready().await;                                     // the first full list has been applied
//!     println!("{:?} {:?}", endpoints.list(), endpoints.attr("127.0.0.1:8111"));
//!
//!     register.update_attr(r#"{"weight":2}"#).await?;              // in place: watchers see one update
//!     register.stop().await?;                                      // gone from every watcher at once
//!     discover.stop().await;
//!     watching.await??;
//!     Ok(())
//! }
//! ```
//!
//! # Many services over one connection
//!
//! [`connect`] gives a [`Registry`], from which a process registers many endpoints and discovers many
//! services over one connection. Here on the embedded backend, which needs no server:
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! use discox::{BackendType, DiscoverConfig, RegisterConfig, RegisterState, RegistryConfig};
//!
//! let registry = discox::connect(RegistryConfig { backend_type: BackendType::Memory, ..Default::default() })?;
//! let users = registry.watch(DiscoverConfig { service_name: "users".into(), ..Default::default() })?;
//! let mut registrations = Vec::new(); // an endpoint whose handle is dropped leaves the registry
//! for (service, endpoint) in [("users", "127.0.0.1:8111"), ("orders", "127.0.0.1:8112")] {
//!     let register = registry.register(RegisterConfig {
//!         service_name: service.into(),
//!         service_endpoint: endpoint.into(),
//!         ..Default::default()
//!     })?;
//!     register.start().await?;
//!     registrations.push(register);
//! }
//! assert!(users.wait_for(1).await.is_some());
//! assert_eq!(users.list(), ["127.0.0.1:8111"]);
//! registry.close().await;
//! assert!(registrations.iter().all(|register| register.status().state == RegisterState::Stopped));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! ```
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `etcd` | `discox::etcd`; building it needs `protoc`, because `etcd-client` does | no |
//! | `zookeeper` | `discox::zookeeper` on the client crate `zookeeper-client` | no |
//! | `zookeeper-async` | `discox::zookeeper` on the client crate of that name | no |
//! | `consul` | `discox::consul` on the client crate `reqwest` | no |
//! | `consulrs` | `discox::consul` on the client crate of that name; building it needs OpenSSL's headers | no |
//! | `memory` | `discox::memory`, the embedded backend, for tests and a first run | yes |
//! | `full` | `etcd`, `zookeeper` and `consul` | no |
//! | `balance` | `discox::balance`: picks, and balanced connections over a transport of your own | no |
//! | `http` | `discox::http`: a balanced channel over HTTP/1.1 or HTTP/2, and leaving without a failed request | no |
//! | `tonic` | `discox::tonic`: a balanced channel for clients that tonic generates | no |
//! | `tower` | `discox::balance::Discovered`, a stream that tower's own balancers follow | no |
//! | `metrics` | `discox::metrics`: numbers for a recorder of the crate of that name | no |
//! | `serde` | serde's traits on the configuration, durations as `"5s"` | no |
//! | `cli` | the command line program `discox`, on Unix | no |
//!
//! Features only add. Where two client crates of one backend are compiled in, the default one serves
//! unless [`ConsulOptions::client`] or [`ZookeeperOptions::client`] says otherwise.
//!
//! What each registry stores, its TTLs and its limits are told in its module. A program that needs one
//! backend only can as well depend on its crate: it has the same functions.

#![cfg_attr(docsrs, feature(doc_cfg))]

use std::sync::Arc;

#[cfg(feature = "balance")]
pub use discox_balance as balance;
#[cfg(any(feature = "consul", feature = "consulrs"))]
pub use discox_consul as consul;
#[cfg(feature = "metrics")]
pub use discox_core::metrics;
pub use discox_core::prelude::*;
#[cfg(feature = "etcd")]
pub use discox_etcd as etcd;
#[cfg(feature = "http")]
pub use discox_http as http;
#[cfg(feature = "memory")]
pub use discox_memory as memory;
#[cfg(feature = "tonic")]
pub use discox_tonic as tonic;
#[cfg(any(feature = "zookeeper", feature = "zookeeper-async"))]
pub use discox_zookeeper as zookeeper;

/// A registration of one endpoint, on the backend that `backend_type` names, over a connection of its
/// own. No I/O; works outside a runtime.
///
/// # Errors
/// [`ErrorKind::Config`], naming the field and the reason, or the Cargo feature that adds the backend.
pub fn new_register(config: RegisterConfig) -> Result<Arc<dyn Register>> {
    match config.backend_type {
        #[cfg(feature = "etcd")]
        BackendType::Etcd => discox_etcd::new_register(config),
        #[cfg(any(feature = "zookeeper", feature = "zookeeper-async"))]
        BackendType::Zookeeper => discox_zookeeper::new_register(config),
        #[cfg(any(feature = "consul", feature = "consulrs"))]
        BackendType::Consul => discox_consul::new_register(config),
        #[cfg(feature = "memory")]
        BackendType::Memory => discox_memory::new_register(config),
        absent => Err(not_compiled_in(absent)),
    }
}

/// A discovery of one service, on the backend that `backend_type` names, over a connection of its own.
/// No I/O; works outside a runtime.
///
/// # Errors
/// [`ErrorKind::Config`], naming the field and the reason, or the Cargo feature that adds the backend.
pub fn new_discover(config: DiscoverConfig) -> Result<Arc<dyn Discover>> {
    match config.backend_type {
        #[cfg(feature = "etcd")]
        BackendType::Etcd => discox_etcd::new_discover(config),
        #[cfg(any(feature = "zookeeper", feature = "zookeeper-async"))]
        BackendType::Zookeeper => discox_zookeeper::new_discover(config),
        #[cfg(any(feature = "consul", feature = "consulrs"))]
        BackendType::Consul => discox_consul::new_discover(config),
        #[cfg(feature = "memory")]
        BackendType::Memory => discox_memory::new_discover(config),
        absent => Err(not_compiled_in(absent)),
    }
}

/// One connection for many registrations and discoveries, on the backend that `backend_type` names. No
/// I/O; works outside a runtime.
///
/// # Errors
/// [`ErrorKind::Config`], naming the field and the reason, or the Cargo feature that adds the backend.
pub fn connect(config: RegistryConfig) -> Result<Arc<dyn Registry>> {
    match config.backend_type {
        #[cfg(feature = "etcd")]
        BackendType::Etcd => discox_etcd::connect(config),
        #[cfg(any(feature = "zookeeper", feature = "zookeeper-async"))]
        BackendType::Zookeeper => discox_zookeeper::connect(config),
        #[cfg(any(feature = "consul", feature = "consulrs"))]
        BackendType::Consul => discox_consul::connect(config),
        #[cfg(feature = "memory")]
        BackendType::Memory => discox_memory::connect(config),
        absent => Err(not_compiled_in(absent)),
    }
}

/// Discovers one service over a connection of its own, on the backend that `backend_type` names, until the last
/// clone of the result is dropped: a [`LiteEndpoint`] that feeds itself. No I/O; it connects by itself.
///
/// # Errors
/// [`ErrorKind::Config`], naming the field and the reason, or where no Tokio runtime runs.
pub fn watch(config: DiscoverConfig) -> Result<Watching> {
    let registry = connect(RegistryConfig {
        backend_type: config.backend_type,
        backend_endpoints: config.backend_endpoints.clone(),
        connection: config.connection.clone(),
        ..RegistryConfig::default()
    })?;
    registry.watch(config)
}

fn not_compiled_in(backend: BackendType) -> Error {
    let reason = format_args!("not compiled in, build discox with the Cargo feature `{backend}`");
    Error::config("backend_type", backend, reason)
}
