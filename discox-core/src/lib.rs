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

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "serde")]
mod ages;
pub mod backend;
mod backoff;
mod cache;
mod config;
mod connection;
mod discovery;
mod error;
mod history;
pub mod layout;
mod lock;
pub mod metrics;
pub mod record;
mod registration;
mod registry;
mod shape;

/// What users of every backend need: each backend crate and the facade re-export all of it.
pub mod prelude {
    pub use crate::{
        BackendType, Cause, Changes, ClientCrate, ConnectionConfig, ConsulOptions, Denial, Derived, Discover,
        DiscoverConfig, DiscoverState, DiscoverStatus, EndpointCacher, Entry, Error, ErrorKind, Event,
        EventKind, Freshness, FreshnessState, History, HistoryEvent, Instance, InstanceId, Layout,
        LayoutOptions, LiteEndpoint, Payload, Pem, Reader, Register, RegisterConfig, RegisterState,
        RegisterStatus, Registry, RegistryConfig, Result, Secret, ServiceChange, ServiceChanges, Services,
        Snapshot, TlsConfig, Update, Watching, ZookeeperOptions,
    };
}

pub use cache::{
    Changes, EndpointCacher, Entry, Event, Freshness, FreshnessState, Iter, LiteEndpoint, Reader, Snapshot,
    Update,
};
pub use config::{
    BackendType, ClientCrate, ConnectionConfig, ConsulOptions, DiscoverConfig, Pem, RegisterConfig,
    RegistryConfig, Secret, TlsConfig, ZookeeperOptions,
};
pub use discovery::{
    Derived, Discover, DiscoverState, DiscoverStatus, Loaded, ServiceChange, ServiceChanges, Services,
    Watching,
};
pub use error::{Denial, Error, ErrorKind, Result};
pub use history::{Cause, EventKind, History, HistoryEvent};
pub use layout::{Instance, InstanceId, Layout, LayoutOptions, Payload};
pub use registration::{Register, RegisterState, RegisterStatus};
pub use registry::{Connection, Registry};
