//! How a channel is set up.

use std::{fmt, sync::Arc, time::Duration};

use discox_balance::{Balanced, Endpoints, Options};
use discox_core::TlsConfig;
use http::uri::Authority;

use crate::{Channel, Health, connection::Http, dial::Dial, outgoing::RequestBody};

/// The version of HTTP that endpoints speak.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1: one request at a time over each connection, and as many connections as there are requests.
    #[default]
    Http1,
    /// HTTP/2: all requests over one connection to each endpoint, in plain text by prior knowledge.
    Http2,
}

/// Sets up a [`Channel`].
pub struct Builder<B> {
    endpoints: Endpoints,
    options: Options,
    protocol: Protocol,
    tls: Option<TlsConfig>,
    origin: Option<Authority>,
    keep_alive: Option<Duration>,
    health: Option<Arc<dyn Health<B>>>,
}

impl<B> Builder<B> {
    pub(crate) fn new(endpoints: Endpoints) -> Self {
        Self {
            endpoints,
            options: Options::default(),
            protocol: Protocol::default(),
            tls: None,
            origin: None,
            keep_alive: Some(Duration::from_secs(10)),
            health: None,
        }
    }

    /// How endpoints are chosen, and how long requests wait for one.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The version of HTTP that the endpoints speak: [`Protocol::Http1`] by default.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Speaks TLS. The files are read at each connection; a certificate must be for the endpoint's host, or for
    /// [`server_name`](TlsConfig::server_name).
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// What stands as the authority (the `Host`) of requests that name none, instead of the endpoint.
    pub fn origin(mut self, origin: Authority) -> Self {
        self.origin = Some(origin);
        self
    }

    /// HTTP/2: how often to ask whether the server is there, also while no request is under way; it has as long to
    /// answer. 10 s by default, `None` for never. A server may take frequent questions for an attack: those of
    /// grpc-go allow one in 5 minutes unless they are set otherwise (`keepalive.EnforcementPolicy`).
    pub fn keep_alive(mut self, every: Option<Duration>) -> Self {
        self.keep_alive = every;
        self
    }

    /// HTTP/2: asks each endpoint whether it is well, and picks only those that say so. Off by default: an endpoint is
    /// well while it is connected.
    pub fn health(mut self, health: impl Health<B>) -> Self
    where
        B: RequestBody,
    {
        self.health = Some(Arc::new(health));
        self
    }
}

impl<B: RequestBody> Builder<B> {
    /// The channel. No I/O here: connecting begins as soon as a runtime runs it.
    pub fn build(self) -> Channel<B> {
        let dial = Dial::new(self.tls, self.protocol == Protocol::Http2);
        let scheme = dial.scheme();
        let origin = self.origin.map(Arc::new);
        let connect = Http {
            dial: Arc::new(dial),
            protocol: self.protocol,
            keep_alive: self.keep_alive,
            origin: origin.clone(),
            health: self.health,
        };
        let balanced = Balanced::new(self.endpoints, connect, self.options);
        Channel::over(balanced, scheme, origin)
    }
}

impl<B> fmt::Debug for Builder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("options", &self.options)
            .field("protocol", &self.protocol)
            .field("tls", &self.tls)
            .field("origin", &self.origin)
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
}
