//! How a channel is set up.

use std::time::Duration;

use discox_balance::{Endpoints, Options};
use discox_core::TlsConfig;
use discox_http::Protocol;
use http::{HeaderValue, uri::Authority};
use tonic::body::Body;

use crate::{Channel, health::Watch};

/// What a channel calls itself.
const USER_AGENT: &str = concat!("discox-tonic/", env!("CARGO_PKG_VERSION"));

/// Sets up a [`Channel`].
#[derive(Debug)]
pub struct Builder {
    http: discox_http::Builder<Body>,
    timeout: Option<Duration>,
    user_agent: HeaderValue,
}

impl Builder {
    pub(crate) fn new(endpoints: Endpoints) -> Self {
        let http = discox_http::Channel::builder(endpoints).protocol(Protocol::Http2);
        Self { http, timeout: None, user_agent: HeaderValue::from_static(USER_AGENT) }
    }

    /// How endpoints are chosen, and how long calls wait for one.
    pub fn options(mut self, options: Options) -> Self {
        self.http = self.http.options(options);
        self
    }

    /// Speaks TLS. The files are read at each connection; a certificate must be for the endpoint's host, or for
    /// [`server_name`](TlsConfig::server_name).
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.http = self.http.tls(tls);
        self
    }

    /// The `:authority` of calls, instead of the endpoint.
    pub fn origin(mut self, origin: Authority) -> Self {
        self.http = self.http.origin(origin);
        self
    }

    /// How long a call may take until its answer begins, where it has no shorter deadline of its own
    /// ([`tonic::Request::set_timeout`]). None by default.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// What stands before our own name in the `user-agent` of calls that have none.
    pub fn user_agent(mut self, name: &HeaderValue) -> Self {
        let name = [name.as_bytes(), b" ", USER_AGENT.as_bytes()].concat();
        if let Ok(user_agent) = HeaderValue::from_bytes(&name) {
            self.user_agent = user_agent;
        }
        self
    }

    /// How often to ask a server whether it is there, also while no call is under way; it has as long to answer. 10 s
    /// by default, `None` for never. Servers of grpc-go allow one in 5 minutes unless they are set otherwise
    /// (`keepalive.EnforcementPolicy`), and end the connection of who asks more often: it is made anew, and no call
    /// fails of it.
    pub fn keep_alive(mut self, every: Option<Duration>) -> Self {
        self.http = self.http.keep_alive(every);
        self
    }

    /// Watches the health of a service of each server by gRPC's health protocol (gRFC A17), "" for the server as a whole:
    /// one that says that it is not serving gets no calls. A server that does not know of health is well
    /// (`UNIMPLEMENTED`); one whose watch fails is not, and is asked again after 1 s, doubling to 30 s. Off by default.
    pub fn health(mut self, service: &str) -> Self {
        self.http = self.http.health(Watch { service: service.to_owned() });
        self
    }

    /// The channel. No I/O here: connecting begins as soon as a runtime runs it.
    pub fn build(self) -> Channel {
        Channel { http: self.http.build(), timeout: self.timeout, user_agent: self.user_agent }
    }
}
