#![doc = include_str!("docs.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod acl;
mod address;
mod client;
mod connect;
mod error;
mod link;
mod member;
mod names;
mod oneshot;
mod recursive;
mod registrar;
mod security;
mod source;
mod verify;

#[doc(hidden)]
pub use connect::Connector;
pub use discox_core::prelude::*;
#[doc(hidden)]
pub use link::Zookeeper;
#[doc(hidden)]
pub use names::{ZookeeperNames, ZookeeperNamesWatch};
#[doc(hidden)]
pub use registrar::Receipt;
#[doc(hidden)]
pub use source::{ZookeeperSource, ZookeeperWatch};

discox_core::backend_functions!(Zookeeper, Connector::parse);

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
