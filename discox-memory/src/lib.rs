#![doc = include_str!("docs.md")]

mod connect;
mod names;
mod registrar;
mod source;
mod store;
mod topic;

use connect::{Connector, MemoryLink};
pub use discox_core::prelude::*;
pub use store::{Store, store};

discox_core::backend_functions!(MemoryLink, Connector::parse);

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
