//! From a list of endpoints to the one that answers the next request.
//!
//! - [`Picker`] chooses endpoints for clients that connect by themselves (reqwest, a database).
//! - [`Balanced`] keeps connections to the endpoints, over any transport that implements [`Connect`],
//!   and chooses among those that are ready.
//!
//! Both follow a [`LiteEndpoint`](discox_core::LiteEndpoint) also while no request comes. A pick reads a
//! table that one manager task publishes; it does not allocate, lock, or write to what other threads
//! read, but for the counters of the endpoint that it picks.
//!
//! ```
//! use std::sync::Arc;
//! use discox_balance::{Options, Picker};
//! use discox_core::{EndpointCacher, Event, LiteEndpoint};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), discox_balance::Unavailable> {
//! let endpoints = Arc::new(LiteEndpoint::new());
//! endpoints.add_or_update("10.0.0.1:80", br#"{"weight":2}"#); // a discovery does this
//! endpoints.on_event(&Event::Synced);
//!
//! let picker = Picker::new(&endpoints, Options::default().named("orders"));
//! let pick = picker.wait().await?;
//! assert_eq!(pick.endpoint(), "10.0.0.1:80");
//! pick.success(); // or `failure()`: five in a row eject the endpoint for a while
//! # Ok(())
//! # }
//! ```

mod attr;
mod balanced;
mod connect;
#[cfg(feature = "tower")]
mod discovered;
mod endpoints;
mod hash;
mod manager;
mod options;
mod picker;
mod ready;
mod set;
mod shared;
mod status;
mod table;
mod unavailable;

#[cfg(feature = "tower")]
pub use crate::discovered::Discovered;
pub use crate::{
    attr::Traits,
    balanced::{Balanced, Failed, How},
    connect::{Connect, Connected, Connection, Target},
    endpoints::Endpoints,
    hash::hash_key,
    options::{Options, Policy},
    picker::{Direct, Picker},
    ready::Pick,
    status::Status,
    unavailable::{Cause, Unavailable},
};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
