//! From a service name to an answered gRPC call.
//!
//! [`Channel`] is what every client that tonic generates takes. It follows a service that discox discovers, keeps
//! HTTP/2 connections to its endpoints, also while no call is made, and sends each call to one of them.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use discox_core::LiteEndpoint;
//! use discox_tonic::{Channel, Options};
//! use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let orders = Arc::new(LiteEndpoint::new()); // or what `registry.watch("orders")` returns
//! let options = Options::default().named("orders").wait(Duration::from_millis(10));
//! let mut client = HealthClient::new(Channel::builder(&orders).options(options).build());
//!
//! let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
//! assert_eq!(status.code(), tonic::Code::Unavailable);
//! assert_eq!(status.message(), "orders is not discovered yet"); // nobody feeds the cache here
//! # }
//! ```
//!
//! # What a call may rely on
//!
//! | when | then |
//! |---|---|
//! | there is no list yet, or no connection yet | it waits, for [`Options::wait`] at most and its deadline: then `UNAVAILABLE`, or `DEADLINE_EXCEEDED` |
//! | nobody is registered, or everybody refuses | `UNAVAILABLE` at once, saying so, unless it waits for ready ([`Wish`]) |
//! | its server refuses it unseen, or was not reached | it goes to another one, at most twice, whatever it is |
//! | its connection breaks before the answer begins | `UNAVAILABLE`; sent again only where it is marked as [`Repeatable`] |
//! | the registry is lost | the last endpoints serve, as long as their connections do |
//! | an endpoint leaves the list | no new call from that moment; calls under way end |
//!
//! # In place of `tonic::transport::Channel::balance_channel`
//!
//! That one does not read updates while no call comes (tonic issue 1581), keeps dead endpoints as ready and dials them
//! without a pause (643, 2839), hangs past every deadline while its list is empty, and tells a call that was never
//! sent as `Cancelled` (2257). `tests/channel.rs` of this crate has a test for each, by its number.
//!
//! # Health
//!
//! [`Builder::health`] watches what each server says of its health (gRFC A17), over its own connection: one that says
//! `NOT_SERVING` gets no calls. Off by default, since an instance that leaves can say so by its attr.
//!
//! # Keep-alive
//!
//! Servers are asked every 10 s whether they are there, also while no call is under way; see
//! [`Builder::keep_alive`] for servers that take this for an attack.

mod builder;
mod channel;
mod deadline;
mod health;
mod status;

pub use discox_balance::{How, Options, Policy, Status};
pub use discox_http::{Leaving, Left, Repeatable, Traffic, Wish, leave};

pub use crate::{builder::Builder, channel::Channel};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
