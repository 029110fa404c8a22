//! What discox's own tests stand on: real registries ([`server`]), a TCP proxy that misbehaves on demand
//! ([`proxy`]), waiting without sleeping ([`wait`]), the suite that every backend must pass ([`conformance`]),
//! the suite of faults that every backend must survive ([`faults`]), the suite of registries that mean no good
//! ([`hostile`]), fuzzing ([`fuzz`]), a gRPC service to be registered ([`grpc`]), and clients
//! that are not ours ([`curator`]).
//!
//! The servers come from `scripts/fetch-test-servers`; this crate is not published.

pub mod authority;
mod client;
pub mod conformance;
pub mod curator;
pub mod faults;
pub mod fuzz;
pub mod grpc;
pub mod hostile;
pub mod proxy;
pub mod secured;
pub mod server;
pub mod wait;
pub mod zookeeper;

pub use client::{client, guard};
