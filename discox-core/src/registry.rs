//! One connection from which many endpoints are registered and many services discovered.

use std::{
    fmt::{self, Debug},
    sync::Arc,
};

use async_trait::async_trait;

use crate::{
    ConnectionConfig, Discover, DiscoverConfig, Error, Layout, LayoutOptions, Register, RegisterConfig,
    Result,
    backend::Link,
    connection::Hub,
    discovery::{Discovery, first_list},
    registration::Registration,
};

/// One connection, with its session or leases, that many registrations and discoveries share.
///
/// It connects with the first `start`. It lives as long as this handle or anything made from it, on the runtime of
/// that `start`; when the runtime ends, the next call goes on with everything on its own.
///
/// Implemented by discox only: methods may be added in any version.
#[async_trait]
pub trait Registry: Debug + Send + Sync + 'static {
    /// A registration over this connection. The configuration's backend, addresses and connection
    /// settings are ignored. No I/O.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    fn register(&self, config: RegisterConfig) -> Result<Arc<dyn Register>>;

    /// A discovery over this connection. The configuration's backend, addresses and connection
    /// settings are ignored. No I/O.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    fn discover(&self, config: DiscoverConfig) -> Result<Arc<dyn Discover>>;

    /// A discovery of the names of the services under a prefix: its cacher is told each name as an endpoint with an
    /// empty attr. The empty prefix is that of the configuration. No I/O. `registry.watch_services(prefix)` is the
    /// handle for everyday use.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field, also where the layout cannot list services.
    fn discover_services(&self, prefix: &str) -> Result<Arc<dyn Discover>>;

    /// The names of the services under a prefix that have a record, sorted. The empty prefix is that of the
    /// configuration. Asks the registry once, and waits for at most `request_timeout`. Needs a Tokio runtime.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field; else why the registry could not be asked.
    async fn services(&self, prefix: &str) -> Result<Vec<String>>;

    /// Ends the connection for good, and with it everything that was made from it: discoveries end
    /// with [`Stopped`](crate::ErrorKind::Stopped), registrations are stopped and their records withdrawn, then the
    /// session is closed or the leases are revoked. Takes at most `request_timeout`: what could not be withdrawn by
    /// then ends with its TTL, and its `stop` says so. Idempotent. Once it has been polled it happens, also when it is
    /// cancelled.
    async fn close(&self);

    /// Why the connection is not up, if it is not. None before the first `start`.
    fn trouble(&self) -> Option<Error>;
}

/// The [`Registry`] of one backend, for the backend crates.
pub struct Connection<L: Link> {
    hub: Arc<Hub<L>>,
    /// Of what is made from it and has none of its own.
    discover_prefix: String,
    layout: Layout,
    layout_options: LayoutOptions,
}

impl<L: Link> Connection<L> {
    /// Checks the settings. No I/O; works outside a runtime.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    pub fn new(connector: L::Connector, settings: &ConnectionConfig) -> Result<Self> {
        settings.check(L::BACKEND)?;
        Ok(Self {
            hub: Arc::new(Hub::new(connector, settings)),
            discover_prefix: String::new(),
            layout: Layout::default(),
            layout_options: LayoutOptions::default(),
        })
    }

    /// Sets the prefix of what is made from this connection and has none of its own.
    #[must_use]
    pub fn with_prefix(mut self, discover_prefix: impl Into<String>) -> Self {
        self.discover_prefix = discover_prefix.into();
        self
    }

    /// Sets the layout of what is made from this connection and has none of its own.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout, options: LayoutOptions) -> Self {
        (self.layout, self.layout_options) = (layout, options);
        self
    }

    fn set_defaults(&self, prefix: &mut String, layout: &mut Layout, options: &mut LayoutOptions) {
        if prefix.is_empty() {
            prefix.clone_from(&self.discover_prefix);
        }
        if *layout == Layout::default() {
            *layout = self.layout;
        }
        if *options == LayoutOptions::default() {
            options.clone_from(&self.layout_options);
        }
    }

    /// The one-service shortcut: a registration that owns this connection and ends it by `stop`.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    pub fn single_register(self, config: &RegisterConfig) -> Result<Arc<dyn Register>> {
        Ok(Arc::new(Registration::new(self.hub, true, config)?))
    }

    /// The one-service shortcut: a discovery that owns this connection and ends it by `stop`.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the field.
    pub fn single_discover(self, config: &DiscoverConfig) -> Result<Arc<dyn Discover>> {
        Ok(Arc::new(Discovery::new(self.hub, true, config)?))
    }
}

/// The three functions of a backend crate, of its [`Link`] and the parser of its connector.
#[doc(hidden)]
#[macro_export]
macro_rules! backend_functions {
    ($link:ty, $parse:path) => {
        /// A registration of one endpoint over a connection of its own. No I/O; works outside a runtime.
        ///
        /// # Errors
        /// [`Config`]($crate::ErrorKind::Config), naming the field and the reason.
        pub fn new_register(
            config: $crate::RegisterConfig,
        ) -> $crate::Result<::std::sync::Arc<dyn $crate::Register>> {
            connection(&config.backend_endpoints, &config.connection)?.single_register(&config)
        }

        /// A discovery of one service over a connection of its own. No I/O; works outside a runtime.
        ///
        /// # Errors
        /// [`Config`]($crate::ErrorKind::Config), naming the field and the reason.
        pub fn new_discover(
            config: $crate::DiscoverConfig,
        ) -> $crate::Result<::std::sync::Arc<dyn $crate::Discover>> {
            connection(&config.backend_endpoints, &config.connection)?.single_discover(&config)
        }

        /// One connection for many registrations and discoveries. It connects with the first `start`. No
        /// I/O; works outside a runtime.
        ///
        /// # Errors
        /// [`Config`]($crate::ErrorKind::Config), naming the field and the reason.
        pub fn connect(
            config: $crate::RegistryConfig,
        ) -> $crate::Result<::std::sync::Arc<dyn $crate::Registry>> {
            let connection = connection(&config.backend_endpoints, &config.connection)?;
            let connection = connection.with_layout(config.layout, config.layout_options);
            Ok(::std::sync::Arc::new(connection.with_prefix(config.discover_prefix)))
        }

        fn connection(
            backend_endpoints: &[String],
            settings: &$crate::ConnectionConfig,
        ) -> $crate::Result<$crate::Connection<$link>> {
            $crate::Connection::new($parse(backend_endpoints, settings)?, settings)
        }
    };
}

impl<L: Link> Debug for Connection<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = L::place(&self.hub.connector);
        f.debug_struct("Connection").field("backend", &L::BACKEND).field("at", &at).finish_non_exhaustive()
    }
}

#[async_trait]
impl<L: Link> Registry for Connection<L> {
    fn register(&self, mut config: RegisterConfig) -> Result<Arc<dyn Register>> {
        self.set_defaults(&mut config.discover_prefix, &mut config.layout, &mut config.layout_options);
        Ok(Arc::new(Registration::new(self.hub.clone(), false, &config)?))
    }

    fn discover(&self, mut config: DiscoverConfig) -> Result<Arc<dyn Discover>> {
        self.set_defaults(&mut config.discover_prefix, &mut config.layout, &mut config.layout_options);
        Ok(Arc::new(Discovery::new(self.hub.clone(), false, &config)?))
    }

    fn discover_services(&self, prefix: &str) -> Result<Arc<dyn Discover>> {
        if self.layout != Layout::Discox {
            return Err(Error::config(
                "layout",
                self.layout,
                "services can be listed in discox's own layout only",
            ));
        }
        let prefix = if prefix.is_empty() { &self.discover_prefix } else { prefix };
        Ok(Arc::new(Discovery::of_names(self.hub.clone(), prefix)?))
    }

    async fn services(&self, prefix: &str) -> Result<Vec<String>> {
        let discover = self.discover_services(prefix)?;
        let list = first_list(&*discover, self.hub.settings.request_timeout).await;
        list.map(|names| names.endpoints()).map_err(|error| self.hub.place(error))
    }

    async fn close(&self) {
        self.hub.close(self.hub.settings.request_timeout).await;
    }

    fn trouble(&self) -> Option<Error> {
        self.hub.trouble()
    }
}
