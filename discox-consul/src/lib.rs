//! Service discovery and registration on [Consul](https://www.consul.io): the Consul backend of
//! discox.
//!
//! ```no_run
//! use std::sync::Arc;
//! use discox_consul::{DiscoverConfig, LiteEndpoint, RegisterConfig};
//!
//! # async fn example() -> discox_consul::Result<()> {
//! let register = discox_consul::new_register(RegisterConfig {
//!     backend_endpoints: vec!["http://127.0.0.1:8500".into()],
//!     discover_prefix: "/discox/demo".into(),
//!     service_name: "demo".into(),
//!     service_endpoint: "127.0.0.1:8111".into(),
//!     attr: r#"{"weight":1}"#.into(),
//!     ..Default::default()
//! })?;
//! register.start().await?; // Ok: the endpoint is registered
//!
//! let discover = discox_consul::new_discover(DiscoverConfig {
//!     backend_endpoints: vec!["http://127.0.0.1:8500".into()],
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
//! `backend_endpoints` are agents, of which one is used at a time: `http://host:8500`, `host:8500` or
//! `host`, `https://host:8501`, or `unix:///path/of/socket`. See [Security](#security) for TLS and tokens.
//!
//! # What is stored
//!
//! A service of the agent: its name is the service name, address and port are the endpoint's, its ID is
//! `{service}-{host}-{port}-{incarnation}` in `[A-Za-z0-9._-]`. In its Meta:
//!
//! | key | value |
//! |---|---|
//! | `discox` | `1`: the mark, and the version of this layout |
//! | `discox-prefix` | the normalised prefix |
//! | `discox-started` | when the incarnation took the endpoint over, and which it is; the greatest is in force |
//! | `discox-attr-bytes` | the attr's length |
//! | `discox-attr-00` … `-59` | the attr, cut where characters end into at most 512 bytes |
//! | anything else | where the attr is a JSON object, its string, number and boolean members, in key order, as far as Consul takes them (64 pairs, keys of at most 128 `[A-Za-z0-9_-]`, values of at most 512 bytes) |
//!
//! The attr comes back byte for byte. At most 30,540 bytes fit ([`Consul`]'s `ATTR_LIMIT`): 60 pairs of
//! 509 bytes, since cutting at a character costs up to 3.
//!
//! Any service name will do: Consul stores it as it is. Its DNS interface serves only those that are
//! DNS labels. Consul's catalogue does not tell `Demo` from `demo`; discox does.
//!
//! # Who is discovered
//!
//! Instances whose checks all pass (with `include_warning`, those that warn as well), of this prefix.
//! A record without discox's mark belongs to every prefix and shows its Meta as a JSON object with sorted
//! keys as its attr. An empty address means the node's; a record without a port, or one that is damaged,
//! is skipped with one warning. Of several records of one endpoint the passing one is served, then the
//! newest.
//!
//! # Checks and TTL
//!
//! Without `health_check_endpoint` a record has a TTL check, passed by every heart beat. The TTL is in
//! whole seconds. A record whose heart beats end is out of every list after its TTL; Consul removes it
//! after max(1 min, TTL).
//!
//! With `health_check_endpoint` (`host:port/path`, `http(s)://…`, `tcp://host:port`,
//! `grpc://host:port[/service]`) Consul checks the service itself, every heart beat period, at least a
//! second, with a timeout of the period, at most 5 s. The endpoint is served after its first pass.
//!
//! Checks of others are left alone, an operator's maintenance above all: it survives heart beats,
//! `update_attr` and re-registration.
//!
//! # Who may write a record
//!
//! Each incarnation writes and removes its own ID only; that is the fence. The later `start` registers its
//! own and then removes the older ones of the endpoint from its agent, which watchers see as one update.
//! On another agent nothing can be removed from here: there the earlier registration learns from the
//! catalogue that it is superseded, within 5 s to 30 s, and removes its record itself. Watchers see the
//! newest meanwhile.
//!
//! # When things fail
//!
//! A request held at the agent, and every blocking query, break when the agent is killed, so that it is
//! noticed at once; an agent that hangs, knows no leader or, where there are other agents, does not look into the
//! catalogue, within `detection`. A record that vanishes
//! from the agent is noticed at once if it is the one that the held request watches, else by the next heart
//! beat, as are records that were altered, on the agent or in the catalogue. A record that the catalogue shows as failed
//! although its agent passes it is written anew when its service is looked through, every 5 to 30 s. When another agent of
//! `backend_endpoints` is taken instead, the records left on the first are removed when it is back, if the
//! process is still there; otherwise they end with their checks.
//!
//! Discovery is by blocking queries of at most 10 s. An agent allows 200 connections per client: above 150
//! services watched over one connection their queries take turns, which is warned of once, and changes
//! are seen up to some 2 s later. When changes come faster than every 100 ms (more for lists of thousands)
//! they are told together, and every 400 ms while they go on or when a watch has just begun; the first one is told at
//! once. What a restored snapshot brings back is told within some 2 s, and at the end of the next query, 10 s at most,
//! when none was under way.
//!
//! A heart beat costs one request per record with a TTL check (Consul takes one to two milliseconds for
//! each), and one to three for all of a connection.
//!
//! # Client crates
//!
//! The feature `reqwest`, on by default, speaks HTTP by the crate of that name. The feature `consulrs`
//! does it by `consulrs` 0.1.0: `default-features = false, features = ["consulrs"]`. With both, `reqwest`
//! serves unless [`ConnectionConfig::client`] says otherwise. discox behaves the same with either; of
//! `consulrs` you should know:
//!
//! - It was last released in 2022, and takes in some 150 crates of that time. Open advisories against
//!   them: RUSTSEC-2026-0098, -0099, -0104 and -0258.
//! - Building it needs OpenSSL's headers and `pkg-config` (`apt install libssl-dev pkg-config`,
//!   `dnf install openssl-devel pkgconf`), or `OPENSSL_DIR`. It is linked, and
//!   never used.
//! - A future version of Rust will reject its derive macro, as `cargo` reports at every build.
//! - It speaks plain HTTP only here.
//!
//! # Security
//!
//! Everything is in [`ConnectionConfig`]:
//!
//! ```no_run
//! use discox_consul::{ConnectionConfig, RegisterConfig, Secret, TlsConfig};
//!
//! let connection = ConnectionConfig {
//!     tls: Some(TlsConfig {
//!         ca: Some("/etc/consul/ca.pem".into()),         // left out: the operating system's
//!         cert: Some("/etc/consul/client.pem".into()),   // for `verify_incoming`
//!         key: Some(Secret::file("/etc/consul/client.key")),
//!         ..Default::default()
//!     }),
//!     token: Some(Secret::file("/run/secrets/consul-token")),
//!     ..Default::default()
//! };
//! # let _ = RegisterConfig { connection, ..Default::default() };
//! ```
//!
//! - **TLS**, by `rustls`, for `https://` addresses, and with `tls` set for those without a scheme;
//!   `http://` and `unix://` are then mistakes. `tls.server_name` is the name that the certificate must
//!   have and that is asked for, a DNS name.
//! - **Certificates and keys in files** are read anew whenever a connection to an agent is begun again.
//! - **The token** is sent with every request and nowhere else. A token in a file is read anew with
//!   every connection and when Consul refuses the one in use, which is then replaced without a loss.
//! - **`datacenter`** is where discoveries look. Registrations are with the agent, in its datacenter.
//! - **`namespace` and `partition`** are sent with every request. A Consul that is not Enterprise
//!   rejects them, which is told as [`ErrorKind::Config`]; before 1.11 it does not know partitions and
//!   ignores them.
//!
//! What is refused is [`ErrorKind::Denied`], and [`Error::denial`] says what is wrong: token, rights or
//! certificate, ours or theirs. `start` fails with it at once. A registration or discovery that runs
//! keeps what it has, tries again every 30 s (`denied_backoff_max`), and goes on when it is let in again.
//! An instance list that is empty only because it may not be read is denied, not empty.
//!
//! # Rights
//!
//! This policy is enough for registering and discovering services whose names begin with `demo`, as
//! a test of this crate proves:
//!
//! ```hcl
//! service_prefix "demo" { policy = "write" }
//! node_prefix "" { policy = "read" }
//! ```
//!
//! A process that only discovers needs `policy = "read"` for the services. Consul shows an instance only
//! to those who may read its node, so that `node_prefix` cannot be left out. With it, on a server where
//! you may make tokens:
//!
//! ```sh
//! consul acl policy create -name demo -rules @demo.hcl
//! consul acl token create -description demo -policy-name demo     # its SecretID is the token
//! ```

mod catalogue;
mod check;
mod client;
mod connect;
mod error;
mod fold;
#[cfg(test)]
mod fuzz;
mod keep;
mod layout;
mod ledger;
mod link;
mod registrar;
mod source;
mod status;
mod turns;
mod verify;

use std::sync::Arc;

pub use connect::Connector;
pub use discox_core::{
    BackendType, Changes, ClientCrate, Connection, ConnectionConfig, Denial, Discover, DiscoverConfig,
    DiscoverState, DiscoverStatus, EndpointCacher, Entry, Error, ErrorKind, Event, Freshness, FreshnessState,
    LiteEndpoint, Pem, Reader, Register, RegisterConfig, RegisterState, RegisterStatus, Registry,
    RegistryConfig, Result, Secret, Snapshot, TlsConfig, Update,
};
pub use link::Consul;
pub use registrar::Receipt;
pub use source::{ConsulSource, ConsulWatch};

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

fn connection(backend_endpoints: &[String], settings: &ConnectionConfig) -> Result<Connection<Consul>> {
    Connection::new(Connector::parse(backend_endpoints, settings)?, settings)
}
