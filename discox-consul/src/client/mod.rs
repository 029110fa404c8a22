//! The seam to the HTTP client. The requests to a Consul agent are written once, in `calls.rs`. A client crate does
//! one thing, in the file of its name: it sends a request and reads the answer. No type of a client crate leaves
//! this module.

mod calls;
#[cfg(feature = "consulrs")]
mod consulrs;
mod exchange;
mod fault;
mod http;
#[cfg(feature = "reqwest")]
mod reqwest;
mod token;

pub(crate) use self::{
    calls::Catalogue,
    exchange::{Client, serving},
    fault::{Cause, Fault},
    http::{Body, Hold, Target},
    token::{Token, TokenVersion, is_sendable},
};

#[cfg(not(any(feature = "consulrs", feature = "reqwest")))]
compile_error!("discox-consul needs a client crate: enable the feature `reqwest` or `consulrs`");
