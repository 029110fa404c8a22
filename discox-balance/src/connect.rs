//! What a transport does for a balancer.

use std::{fmt, future::Future, sync::Arc};

use futures_util::{future::BoxFuture, stream::BoxStream};

/// Makes connections to endpoints.
pub trait Connect: Send + Sync + 'static {
    /// A connection over which requests are sent.
    type Connection: Connection;

    /// Connects to an endpoint. It is dropped when the endpoint is removed meanwhile, and when
    /// [`connect_timeout`](crate::Options::connect_timeout) has passed.
    ///
    /// # Errors
    /// What went wrong, as a short text: requests that find no endpoint are told.
    fn connect(
        &self,
        target: &Arc<Target>,
    ) -> impl Future<Output = Result<Connected<Self::Connection>, String>> + Send + 'static;

    /// How many connections are made at once. 16 by default.
    fn at_once(&self) -> usize {
        16
    }
}

/// A connection over which requests are sent, shared by all of them.
pub trait Connection: Send + Sync + 'static {
    /// Whether a new request can be sent over it. Asked at every pick: one atomic load.
    fn is_open(&self) -> bool;

    /// Ends the connection at once, and with it the requests in flight.
    fn close(&self) {}
}

/// A connection that has just been made.
pub struct Connected<C> {
    pub(crate) connection: C,
    pub(crate) closed: BoxFuture<'static, ()>,
    pub(crate) health: Option<BoxStream<'static, Result<(), String>>>,
}

impl<C> Connected<C> {
    /// A connection, and what resolves when it takes no more requests.
    pub fn new(connection: C, closed: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { connection, closed: Box::pin(closed), health: None }
    }

    /// What the endpoint says of itself: that it is well, or why it is not. It is not picked before it has said that it
    /// is well, and while it says that it is not. Its last word counts until the connection is
    /// closed; the stream should end by then.
    #[must_use]
    pub fn watched(mut self, health: BoxStream<'static, Result<(), String>>) -> Self {
        self.health = Some(health);
        self
    }
}

impl<C> fmt::Debug for Connected<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected").finish_non_exhaustive()
    }
}

/// Where to connect to: a registered endpoint, parsed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    endpoint: Arc<str>,
    host: Arc<str>,
    port: u16,
}

impl Target {
    /// Reads `host:port`. None for what nothing can connect to.
    ///
    /// ```
    /// use discox_balance::Target;
    ///
    /// let target = Target::parse("[::1]:80").unwrap();
    /// assert_eq!((target.host(), target.port()), ("::1", 80));
    /// assert!(Target::parse("a b:80").is_none());
    /// assert!(Target::parse("host:0").is_none());
    /// ```
    pub fn parse(endpoint: &str) -> Option<Self> {
        let (host, port) = endpoint.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|bare| bare.parse::<std::net::Ipv6Addr>().is_ok())?,
            None => host,
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let readable = host.starts_with('[') || !bare.is_empty() && bare.chars().all(is_name);
        readable.then(|| Self { endpoint: endpoint.into(), host: bare.into(), port })
    }

    /// `host:port`, as registered.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}
