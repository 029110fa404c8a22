//! Picks without connections of our own.

use std::{future::Future, ops::Deref, sync::Arc};

use crate::{Balanced, Connect, Connected, Connection, Endpoints, Options, Target};

/// Chooses endpoints for clients that connect by themselves: [`Balanced`] without connections.
///
/// ```
/// # use std::sync::Arc;
/// # use discox_balance::{Options, Picker};
/// # use discox_core::{EndpointCacher, Event, LiteEndpoint};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let endpoints = Arc::new(LiteEndpoint::new());
/// let picker = Picker::new(&endpoints, Options::default().named("orders"));
/// assert!(picker.pick().is_none()); // not discovered yet
/// endpoints.on_event(&Event::Synced); // as a discovery does after the first list
/// let error = picker.wait().await.unwrap_err();
/// assert_eq!(error.to_string(), "no endpoint of orders is registered");
/// # }
/// ```
#[derive(Clone)]
pub struct Picker(Balanced<Direct>);

/// The transport of a [`Picker`]: every endpoint is ready at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Connect for Direct {
    type Connection = Direct;

    fn connect(
        &self,
        _target: &Arc<Target>,
    ) -> impl Future<Output = Result<Connected<Direct>, String>> + Send + 'static {
        std::future::ready(Ok(Connected::new(Direct, std::future::pending())))
    }

    fn at_once(&self) -> usize {
        usize::MAX
    }
}

impl Connection for Direct {
    fn is_open(&self) -> bool {
        true
    }
}

impl Picker {
    /// Follows `endpoints`: see [`Balanced::new`].
    pub fn new(endpoints: impl Into<Endpoints>, options: Options) -> Self {
        Self(Balanced::new(endpoints, Direct, options))
    }
}

impl Deref for Picker {
    type Target = Balanced<Direct>;

    fn deref(&self) -> &Balanced<Direct> {
        &self.0
    }
}
