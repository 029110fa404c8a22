//! Service discovery and registration on [Apache ZooKeeper](https://zookeeper.apache.org): the
//! ZooKeeper backend of discox.
//!
//! ```no_run
//! use std::sync::Arc;
//! use discox_zookeeper::{DiscoverConfig, LiteEndpoint, RegisterConfig};
//!
//! # async fn example() -> discox_zookeeper::Result<()> {
//! let register = discox_zookeeper::new_register(RegisterConfig {
//!     backend_endpoints: vec!["127.0.0.1:2181".into()],
//!     discover_prefix: "/discox/demo".into(),
//!     service_name: "demo".into(),
//!     service_endpoint: "127.0.0.1:8111".into(),
//!     attr: r#"{"weight":1}"#.into(),
//!     ..Default::default()
//! })?;
//! register.start().await?; // Ok: the endpoint is in ZooKeeper
//!
//! let discover = discox_zookeeper::new_discover(DiscoverConfig {
//!     backend_endpoints: vec!["127.0.0.1:2181".into()],
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
//! `backend_endpoints` are the members of the ensemble, `host:2181`; the last may carry a chroot,
//! `host:2181/apps`, which is created when a first record needs it.
//!
//! # What is stored
//!
//! One ephemeral node a record, `{chroot}{prefix}/{service}/{endpoint}`; its data is the attr, byte
//! for byte, at most 1,000,000 bytes ([`Zookeeper`]'s `ATTR_LIMIT`: ZooKeeper takes requests of 1 MiB
//! unless `jute.maxbuffer` says otherwise). Missing parents are created as persistent nodes, and stay.
//! Discovery reads only what lies directly under `{prefix}/{service}/`. ZooKeeper keeps `/zookeeper`
//! for itself, and stores no characters above U+FFFF in paths; both are rejected as configuration.
//!
//! # TTL
//!
//! All records of a connection end with its session: the TTL is the session timeout. What is asked for
//! is [`session_timeout`](ConnectionConfig::session_timeout) if it is set, else the TTL of the first
//! record to be registered over the connection, else 15 s; never less than 1 s. The servers grant what
//! lies between 2 and 20 of their ticks (4 to 40 s by default), and what they granted is in the
//! registration's status. The session is kept alive by the client, whatever the heart beat period; the
//! heart beat verifies that each record is there, ours and unaltered, 256 records a request.
//!
//! # Who may write a record
//!
//! The later `start` takes the record over, as one change. From then on a registration writes the
//! record only where it is absent, of its own sessions, or persistent (made by hand), and deletes it
//! only where it is of its own sessions. ZooKeeper has no "delete if mine"; so whoever takes over also
//! writes the service node's data (the bytes that are there), and whoever writes or deletes checks
//! that node's version. What no fence can see is a record that vanishes by hand or by expiry and is
//! created anew by another process within the one round trip between reading and deleting.
//!
//! # When things fail
//!
//! A connection is to one member of the ensemble, chosen at random. It is lost when the member dies or
//! loses its quorum (noticed at once) or does not answer for
//! [`connect_timeout`](ConnectionConfig::connect_timeout) (or 2/5 of a session that is not longer than
//! 5/3 of it); a member that does not answer is passed over after the same time. The next connection
//! goes on with the session if it is still there: a restart of the servers with their data, however
//! long, costs no write and no removal, and neither does the loss of a member. Watches end with their
//! connection; lists are read again, after a `sync`.
//!
//! Servers before 3.6 know neither recursive watches nor multi-read: there a watch is set on each
//! record, and 256 reads go out together. Servers before 3.5 are not supported.
//!
//! # Client crates
//!
//! The feature `zookeeper-client` (default) stands on the crate of that name, the feature
//! `zookeeper-async` on the other. With both compiled in the first one serves, unless
//! [`ConnectionConfig::client`] says otherwise. What `zookeeper-async` 5 cannot do, or not well, is
//! fenced off or rejected, and is this:
//!
//! | | `zookeeper-client` | `zookeeper-async` |
//! |---|---|---|
//! | TLS, SASL, [`guard`](ConnectionConfig::guard) | yes | no: rejected by `new_*` |
//! | session | outlives its connection | ends with its connection: after each loss, a restart of the servers too, records are written again, watchers see no change |
//! | session timeout | from 1 s | from 6 s |
//! | take-over of a record | one transaction | a deletion and a creation, sent together. Watchers on `zookeeper-async` look again before they tell a deletion; others may see the record gone for a moment |
//! | fence of a withdrawal | one transaction | two requests: a record that another process takes over between them is removed, and back within its heart beat |
//! | list and heart beat | 256 records a request | one request a record, 8 under way at a time |
//! | watch of a service | one | one for each record, as on servers before 3.6 |
//! | `sync` | a request of its own | a write that the servers refuse: an entry in their log for each list, and each third of `detection` |
//! | a silent member is left after | `connect_timeout` | the session timeout, or `detection` if that is shorter |
//! | threads | none | one a connection |
//! | log lines | its own | none: they show the session's password. Its session is read from them: with a feature of `tracing` that takes them out (`release_max_level_warn`), `new_*` rejects it |
//! | damage by a malicious server | bounded with a guard, see below | it trusts the lengths that a server writes |
//!
//! # TLS
//!
//! [`tls`](ConnectionConfig::tls) set means the ensemble's secure client port, on all members: an
//! address has no scheme. Certificates are read anew at every connection, so that they can be rotated
//! without a restart; the cryptography is what the process has installed for `rustls`, else aws-lc-rs. The name that a server's certificate must have is the host of its address,
//! or [`tls.server_name`](TlsConfig::server_name). The client crate knows no other name than that of the host, so that
//! with `server_name` it goes through a relay, as with a guard (see below). So it does where we log in with `user` and
//! `password` over TLS: servers answer there by Netty, often the login before the request for a session, which has to go
//! to their disk, and the crate takes that for an error. The relay holds the login back meanwhile.
//! When nobody lets us in, a handshake with each member, within
//! [`connect_timeout`](ConnectionConfig::connect_timeout), finds out [which side](Denial) did not trust
//! which certificate.
//!
//! # Servers that are not trusted
//!
//! The client crate makes room for what a server claims to send, and keeps what it sends, up to 2 GiB. Where somebody
//! else may answer in a server's place (without TLS, across networks of others), set
//! [`guard`](ConnectionConfig::guard): the crate then speaks to a relay in this process, on the loopback, which speaks
//! to the server and passes on only what does no harm. An answer that is longer than
//! [`max_service_bytes`](ConnectionConfig::max_service_bytes) and 128 bytes for each of
//! [`max_endpoints`](ConnectionConfig::max_endpoints) is passed over and told as [`ErrorKind::TooLarge`]; a server that
//! lies, or leaves more than 100,000 requests unanswered, is left.
//!
//! A connection has three sockets then instead of one, and one for each member that listens, and each request and event
//! takes a few hundredths of a millisecond longer on its way over the loopback. With TLS the way from the crate to the
//! relay is TLS as well, by a certificate whose key never leaves the process: nobody else on the machine can use the
//! relay. In plain text anybody on the machine can, and is to the servers who its address says he is.
//!
//! # Who we are
//!
//! `user` and `password` by the `digest` scheme, or with [`sasl`](ConnectionConfig::sasl) by SASL
//! DIGEST-MD5, at every connection, those that go on with a session included. With mutual TLS the
//! servers know us by our certificate as well (`x509:CN=…`). Servers take everybody at his word in the
//! `digest` scheme: a wrong password there shows only as [`Denial::MissingRights`] when a node is
//! closed to it; by SASL it is [`Denial::WrongCredentials`].
//!
//! # Who may do what
//!
//! ZooKeeper asks the *parent* who may create and delete a node, and has no such right for one child.
//! So what protects a record from being deleted or taken over is the ACL of its service's node, and
//! whoever may deregister one endpoint of a service may deregister all. What we create has these ACLs:
//!
//! | node | without credentials | with `user` | with `acl` |
//! |---|---|---|---|
//! | record | `world:anyone:cdrwa` | `world:anyone:r`, `auth::cdrwa` | `acl` |
//! | service | `world:anyone:cdrwa` | `world:anyone:cdrw`, `auth::cdrwa` | `acl`, and `world:anyone:cdrw` |
//! | service, with [`lock_service`](ConnectionConfig::lock_service) | rejected | as the record | `acl` |
//! | parents | `world:anyone:cdrwa` | `world:anyone:cr`, `auth::cdrwa` | `acl`, and `world:anyone:cr` |
//!
//! `auth` stands for all that the servers know us by at the moment of creation. Others can create their
//! services below the parents, with credentials of their own, and nobody but their creator can delete
//! a service's node there, which would undo its lock. Nodes that exist keep the ACL that they have: to
//! lock a service that is open already, to keep others from being the first, or to give rights to
//! several users, create the nodes by hand.
//!
//! # The least rights
//!
//! Registering needs `cdrw` on the service's node: to create and delete records, to see who holds one,
//! and to write the node's data when one is taken over. Discovering needs `r` on the service's node and on the
//! records. Neither needs anything else, if the service's node exists. For `zkCli.sh`, as a user who
//! may do this, with a user `registrar` (by SASL; in the `digest` scheme it is
//! `digest:registrar:HASH:cdrw`, in mutual TLS `x509:CN=registrar:cdrw`):
//!
//! ```text
//! create /apps
//! create /apps/demo
//! setAcl /apps/demo world:anyone:r,sasl:registrar:cdrw
//! setAcl /apps world:anyone:r
//! ```
//!
//! Then `discover_prefix` is `/apps` and `service_name` is `demo`; whoever discovers needs no
//! credentials. Where not everybody may read, leave `world:anyone:r` out, add `sasl:READER:r`, and let the
//! registrars set [`acl`](ConnectionConfig::acl) to `auth::cdrwa` and `sasl:READER:r`.
//!
//! When a right is missing, the first `start` fails with [`ErrorKind::Denied`]; a registration that
//! runs and a discovery go on trying slowly, and mend when the ACL is changed back. From 3.9.2 on servers
//! keep from a watch what it may not read, without a word: a running discovery that loses its right to
//! read keeps its list until its next connection.

mod acl;
mod address;
mod client;
mod connect;
mod error;
mod link;
mod oneshot;
mod recursive;
mod registrar;
mod security;
mod source;
mod verify;

use std::sync::Arc;

pub use connect::Connector;
pub use discox_core::{
    BackendType, Changes, ClientCrate, Connection, ConnectionConfig, Denial, Discover, DiscoverConfig,
    DiscoverState, DiscoverStatus, EndpointCacher, Entry, Error, ErrorKind, Event, Freshness, FreshnessState,
    LiteEndpoint, Pem, Reader, Register, RegisterConfig, RegisterState, RegisterStatus, Registry,
    RegistryConfig, Result, Secret, Snapshot, TlsConfig, Update,
};
pub use link::Zookeeper;
pub use registrar::Receipt;
pub use source::{ZookeeperSource, ZookeeperWatch};

/// A registration of one endpoint over a session of its own. No I/O; works outside a runtime.
///
/// # Errors
/// [`ErrorKind::Config`], naming the field and the reason.
pub fn new_register(config: RegisterConfig) -> Result<Arc<dyn Register>> {
    connection(&config.backend_endpoints, &config.connection)?.single_register(&config)
}

/// A discovery of one service over a session of its own. No I/O; works outside a runtime.
///
/// # Errors
/// [`ErrorKind::Config`], naming the field and the reason.
pub fn new_discover(config: DiscoverConfig) -> Result<Arc<dyn Discover>> {
    connection(&config.backend_endpoints, &config.connection)?.single_discover(&config)
}

/// One session for many registrations and discoveries. No I/O; works outside a runtime.
///
/// # Errors
/// [`ErrorKind::Config`], naming the field and the reason.
pub fn connect(config: RegistryConfig) -> Result<Arc<dyn Registry>> {
    Ok(Arc::new(connection(&config.backend_endpoints, &config.connection)?))
}

fn connection(backend_endpoints: &[String], settings: &ConnectionConfig) -> Result<Connection<Zookeeper>> {
    Connection::new(Connector::parse(backend_endpoints, settings)?, settings)
}
