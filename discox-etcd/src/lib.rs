//! Service discovery and registration on [etcd](https://etcd.io) 3: the etcd backend of discox.
//!
//! ```no_run
//! use std::sync::Arc;
//! use discox_etcd::{DiscoverConfig, LiteEndpoint, RegisterConfig};
//!
//! # async fn example() -> discox_etcd::Result<()> {
//! let register = discox_etcd::new_register(RegisterConfig {
//!     backend_endpoints: vec!["http://127.0.0.1:2379".into()],
//!     discover_prefix: "/discox/demo".into(),
//!     service_name: "demo".into(),
//!     service_endpoint: "127.0.0.1:8111".into(),
//!     attr: r#"{"weight":1}"#.into(),
//!     ..Default::default()
//! })?;
//! register.start().await?; // Ok: the endpoint is in etcd
//!
//! let discover = discox_etcd::new_discover(DiscoverConfig {
//!     backend_endpoints: vec!["http://127.0.0.1:2379".into()],
//!     discover_prefix: "/discox/demo".into(),
//!     service_name: "demo".into(),
//!     ..Default::default()
//! })?;
//! let endpoints = Arc::new(LiteEndpoint::new());
//! tokio::spawn({
//!     let (discover, endpoints) = (discover.clone(), endpoints.clone());
//!     async move { discover.start(endpoints).await } // until stop()
//! });
//! endpoints.ready().await;
//! println!("{:?}", endpoints.list());
//!
//! register.stop().await?;
//! discover.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Building this crate needs `protoc`, because `etcd-client` does.
//!
//! # What is stored
//!
//! One key a record, `{prefix}/{service}/{endpoint}`; its value is the attr, byte for byte, at most
//! 1 MiB ([`Etcd`]'s `ATTR_LIMIT`; etcd itself takes requests of 1.5 MiB by default). The key is on
//! a lease. Records of one connection that have the same TTL share a lease, up to 4,096 of them.
//! Discovery reads only what lies directly under `{prefix}/{service}/`.
//!
//! # TTL
//!
//! In whole seconds, rounded up, at least 2; the server may grant more, and what it granted is in
//! the registration's status. Leases are renewed three times a TTL, whatever the heart beat period;
//! the heart beat verifies that each record is there, on its lease and unaltered.
//!
//! # Who may write a record
//!
//! The later `start` puts the record on its own lease, as one change. From then on a registration
//! writes the record only where it is absent, on one of its own leases, or on none (put by hand), and
//! deletes it only where it is on one of its own leases; both are fenced by the revision that was
//! read, so that another's record is never touched.
//!
//! # When things fail
//!
//! A connection is to one member of the cluster, the first one that answers a request needing the
//! quorum within `connect_timeout`. It is lost when the member is killed (noticed at once), hangs or
//! loses its leader (noticed within `detection`); then the members are tried again, another one
//! first. Leases outlive a lost connection: an outage shorter than the TTL, or a restart of the
//! server with its data, costs no write and no watcher an event. A watch that falls behind a
//! compaction reads the list again.

//!
//! # TLS and credentials
//!
//! `https://` addresses, or any address with [`ConnectionConfig::tls`] set, are reached over TLS 1.2
//! or 1.3; certificates, keys and a password in files are read again at every connection, so that
//! they can be rotated without a restart. With `user` and `password` we log in; the token is renewed
//! when it expires and at every connection. A client certificate alone is a user too, where etcd runs
//! with `--client-cert-auth`: the one that its common name says (etcd, "Role-based access control").
//!
//! The least rights for registering and discovering are to read and write the keys of the service,
//! here of all services under `/discox/demo`:
//!
//! ```sh
//! etcdctl role add discox
//! etcdctl role grant-permission discox --prefix readwrite /discox/demo/
//! etcdctl user add discox            # asks for the password
//! etcdctl user grant-role discox discox
//! ```
//!
//! Who only discovers needs `read` in place of `readwrite`. Leases need no right of their own.
//!
//! What is refused is an error of kind [`ErrorKind::Denied`], whose [`denial`](Error::denial) says
//! what to change. `start` of a registration fails at once; one that is running, and a discovery, try
//! again, at most every `denied_backoff_max`.

mod connect;
mod dial;
mod error;
mod keep;
mod leases;
mod link;
mod registrar;
mod source;

use std::sync::Arc;

pub use connect::Connector;
pub use discox_core::{
    BackendType, Changes, ClientCrate, Connection, ConnectionConfig, Denial, Discover, DiscoverConfig,
    DiscoverState, DiscoverStatus, EndpointCacher, Entry, Error, ErrorKind, Event, Freshness, FreshnessState,
    LiteEndpoint, Pem, Reader, Register, RegisterConfig, RegisterState, RegisterStatus, Registry,
    RegistryConfig, Result, Secret, Snapshot, TlsConfig, Update,
};
pub use link::Etcd;
pub use registrar::Receipt;
pub use source::{EtcdSource, EtcdWatch};

/// A registration of one endpoint over a connection of its own. No I/O; works outside a runtime.
///
/// # Errors
/// [`ErrorKind::Config`], naming the field and the reason.
pub fn new_register(config: RegisterConfig) -> Result<Arc<dyn Register>> {
    connection(&config.backend_endpoints, &config.connection)?.single_register(&config)
}

/// A discovery of one service over a connection of its own. No I/O; works outside a runtime.
///
/// # Errors
/// [`ErrorKind::Config`], naming the field and the reason.
pub fn new_discover(config: DiscoverConfig) -> Result<Arc<dyn Discover>> {
    connection(&config.backend_endpoints, &config.connection)?.single_discover(&config)
}

/// One connection for many registrations and discoveries. No I/O; works outside a runtime.
///
/// # Errors
/// [`ErrorKind::Config`], naming the field and the reason.
pub fn connect(config: RegistryConfig) -> Result<Arc<dyn Registry>> {
    Ok(Arc::new(connection(&config.backend_endpoints, &config.connection)?))
}

fn connection(backend_endpoints: &[String], settings: &ConnectionConfig) -> Result<Connection<Etcd>> {
    Connection::new(Connector::parse(backend_endpoints, settings)?, settings)
}
