//! What all discox backends share: the traits, the configuration, the [`LiteEndpoint`] cache, and
//! the machinery that keeps a registration registered and a cache right, whatever happens to the
//! registry.
//!
//! Users come here through the facade `discox` or a backend crate. A backend implements
//! [`backend::Link`] and gets everything else from [`Connection`].
//!
//! The two data paths:
//!
//! - registering: [`Register`] → keep-alive loop → [`backend::Link::register`], kept alive and
//!   verified by one heart beat per connection and period, [`backend::Link::verify`];
//! - discovering: [`backend::Source::open`] and [`backend::Watch::next`] → the mirror, which makes the
//!   only diff and holds removals after an outage → [`EndpointCacher::advance`].

pub mod backend;
mod backoff;
mod budget;
mod claims;
mod client_crate;
mod config;
mod connection;
mod denial;
mod departures;
mod discover;
mod discovery;
mod endpoint;
mod error;
mod heartbeat;
mod index;
mod keeper;
pub mod key;
mod link;
mod lite;
mod lock;
mod members;
mod mirror;
mod pulse;
mod register;
mod registration;
mod registry;
mod secret;
mod skips;
mod table;
mod tls;
mod watcher;

pub use client_crate::ClientCrate;
pub use config::{BackendType, DiscoverConfig, RegisterConfig, RegistryConfig};
pub use connection::ConnectionConfig;
pub use denial::Denial;
pub use discover::{Discover, DiscoverState, DiscoverStatus};
pub use endpoint::{EndpointCacher, Event, Update};
pub use error::{Error, ErrorKind, Result};
pub use lite::{Changes, Freshness, FreshnessState, LiteEndpoint, Reader};
pub use register::{Register, RegisterState, RegisterStatus};
pub use registry::{Connection, Registry};
pub use secret::Secret;
pub use table::{Entry, Snapshot};
pub use tls::{Pem, TlsConfig};
