#![doc = include_str!("docs.md")]

mod client;
mod connect;
mod connector;
mod error;
mod keep;
mod link;
mod names;
mod registrar;
mod source;
mod verify;
mod why_gone;

#[doc(hidden)]
pub use client::Etcd;
#[doc(hidden)]
pub use connector::Connector;
pub use discox_core::prelude::*;
#[doc(hidden)]
pub use names::{EtcdNames, EtcdNamesWatch};
#[doc(hidden)]
pub use registrar::Receipt;
#[doc(hidden)]
pub use source::{EtcdSource, EtcdWatch};

discox_core::backend_functions!(Etcd, Connector::parse);

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
