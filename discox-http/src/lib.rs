//! From a service name to an answered HTTP request.
//!
//! [`Channel`] follows a service that discox discovers, keeps connections to its endpoints, and sends each request
//! over one of them: HTTP/1.1 or HTTP/2, in plain text or TLS. What a request may rely on is told by
//! [`discox_balance`], which chooses: what has provably not been sent is sent to another endpoint, and nothing else
//! is ever repeated unless its caller says that it may be ([`Repeatable`]).
//!
//! [`leave`] takes an instance out of service without a failed request, and [`Traffic`] counts for it.
//!
//! ```
//! use discox_http::{Channel, Options};
//! use discox_core::LiteEndpoint;
//! # use http_body_util::Empty;
//! use std::{sync::Arc, time::Duration};
//! use tower_service::Service;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let orders = Arc::new(LiteEndpoint::new()); // or what `registry.watch("orders")` returns
//! let options = Options::default().named("orders").wait(Duration::from_millis(10));
//! let mut channel = Channel::builder(&orders).options(options).build();
//!
//! let request = http::Request::get("/orders/7").body(Empty::<bytes::Bytes>::new())?;
//! let error = channel.call(request).await.unwrap_err();
//! assert_eq!(error.to_string(), "orders is not discovered yet"); // nobody feeds the cache here
//! # Ok(())
//! # }
//! ```

mod address;
mod answer;
mod builder;
mod channel;
mod connection;
mod dial;
mod error;
mod executor;
mod greeting;
mod health;
mod leaving;
mod outgoing;
mod pool;
mod send;
mod serve;
mod traffic;

pub use discox_balance::{Options, Policy, Status};

pub use crate::{
    answer::Answer,
    builder::{Builder, Protocol},
    channel::{Channel, Wish},
    error::Error,
    health::{Direct, Health},
    leaving::{Leaving, Left, leave},
    outgoing::{Repeatable, RequestBody},
    serve::{serve, terminated},
    traffic::{Counted, Traffic},
};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
