#![doc = include_str!("docs.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod agent;
mod candidate;
mod catalogue;
mod check;
mod client;
mod connect;
mod elements;
mod error;
#[cfg(test)]
mod fuzz;
mod keep;
mod known_list;
mod layout;
mod link;
mod meta;
mod model;
mod names;
mod pacing;
mod placements;
mod query_slots;
mod record;
mod registrar;
mod restored;
mod scan_state;
mod source;
mod status;
mod verify;
mod why_gone;

#[doc(hidden)]
pub use agent::Consul;
#[doc(hidden)]
pub use connect::Connector;
pub use discox_core::prelude::*;
#[doc(hidden)]
pub use names::{ConsulNames, ConsulNamesWatch};
#[doc(hidden)]
pub use record::Receipt;
#[doc(hidden)]
pub use source::{ConsulSource, ConsulWatch};

discox_core::backend_functions!(Consul, Connector::parse);

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
