//! Why a request got no endpoint.

use std::{error, fmt, sync::Arc};

/// No endpoint for a request. It was not sent.
///
/// The text names the service and the reason; [`Unavailable::cause`] is for programs.
#[derive(Clone, Debug)]
pub struct Unavailable {
    pub(crate) service: Arc<str>,
    pub(crate) cause: Cause,
    pub(crate) discovery: Option<discox_core::Error>,
}

/// Why there is no endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// The first list has not come while the request waited.
    NotDiscovered,
    /// The discovery has ended without a list.
    Ended,
    /// The list is empty.
    NoEndpoint,
    /// Endpoints are registered, so many, but none may be used: filtered, or no valid target.
    NoneUsable(usize),
    /// No connection was ready while the request waited: why attempts have failed, if any has.
    NotConnected(Option<Arc<str>>),
    /// The last attempt to connect to every endpoint has failed: each with its reason.
    Unreachable(Arc<str>),
    /// The request's deadline has passed.
    Deadline,
    /// The balancer has ended: its runtime has shut down, or a function of its options panicked.
    Closed,
}

impl Unavailable {
    /// Why there is no endpoint.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The discovery's last error, where it explains the cause.
    pub fn discovery(&self) -> Option<&discox_core::Error> {
        self.discovery.as_ref()
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.service;
        match &self.cause {
            Cause::NotDiscovered => write!(f, "{name} is not discovered yet")?,
            Cause::Ended => write!(f, "the discovery of {name} has ended")?,
            Cause::NoEndpoint => write!(f, "no endpoint of {name} is registered")?,
            Cause::NoneUsable(count) => write!(f, "none of the {count} endpoints of {name} may be used")?,
            Cause::NotConnected(None) => write!(f, "no endpoint of {name} is connected yet")?,
            Cause::NotConnected(Some(why)) => write!(f, "no endpoint of {name} is connected yet: {why}")?,
            Cause::Unreachable(why) => write!(f, "no endpoint of {name} can be reached: {why}")?,
            Cause::Deadline => write!(f, "the deadline has passed before an endpoint of {name} was ready")?,
            Cause::Closed => write!(f, "the balancer of {name} has ended")?,
        }
        match &self.discovery {
            Some(error) => write!(f, "; discovery: {error}"),
            None => Ok(()),
        }
    }
}

impl error::Error for Unavailable {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.discovery.as_ref().map(|error| error as _)
    }
}
