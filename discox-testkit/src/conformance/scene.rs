//! What a behaviour plays in: names of its own on a shared registry, and shorthands.

use std::{fmt::Debug, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use discox_core::{
    Discover, DiscoverConfig, ErrorKind, Register, RegisterConfig, RegisterState, Registry, RegistryConfig,
};
use tokio::task::JoinHandle;

use super::{
    ground::{Ground, Place},
    recorder::{Recorder, What},
};
use crate::wait::eventually;

/// "At once", on a machine that runs many tests at a time. Well below [`TTL`], so that an expiry is
/// not taken for a deregistration.
pub const AT_ONCE: Duration = Duration::from_secs(7);

/// The heart beat period of the suite's registrations.
pub const PERIOD: Duration = Duration::from_secs(1);

/// The TTL of the suite's registrations, but for those that are meant to expire.
pub const TTL: Duration = Duration::from_secs(15);

/// The TTL of those that are meant to expire.
pub const SHORT_TTL: Duration = Duration::from_secs(3);

/// An attr that every registry's own tools can show as it is.
pub const ATTR: &str = r#"{"weight":"1"}"#;

/// Another one.
pub const ATTR2: &str = r#"{"weight":"2"}"#;

/// Names of its own on a registry.
pub struct Scene<'a> {
    /// The registry.
    pub ground: &'a dyn Ground,
    /// The prefix.
    pub prefix: String,
    /// The service.
    pub service: String,
}

impl<'a> Scene<'a> {
    /// With names that nobody else uses.
    pub fn new(ground: &'a dyn Ground) -> Self {
        let unique = fastrand::u64(..);
        Self {
            ground,
            prefix: format!("/conformance/{unique:016x}"),
            service: format!("service-{unique:016x}"),
        }
    }

    /// The same registry and prefix, another service.
    pub fn other_service(&self, suffix: &str) -> Self {
        let service = format!("{}{suffix}", self.service);
        Self { ground: self.ground, prefix: self.prefix.clone(), service }
    }

    /// The same registry and service, another prefix.
    pub fn other_prefix(&self, prefix: &str) -> Self {
        Self { ground: self.ground, prefix: prefix.to_owned(), service: self.service.clone() }
    }

    /// A registration's configuration.
    pub fn registration(&self, endpoint: &str, attr: &str) -> RegisterConfig {
        let (layout, layout_options) = self.ground.layout();
        RegisterConfig {
            backend_endpoints: self.ground.backend_endpoints(),
            discover_prefix: self.prefix.clone(),
            service_name: self.service.clone(),
            service_endpoint: endpoint.to_owned(),
            attr: attr.to_owned(),
            heart_beat_period: PERIOD,
            ttl: Some(TTL),
            layout,
            layout_options,
            connection: self.ground.connection(),
            ..Default::default()
        }
    }

    /// One that expires soon.
    pub fn short_registration(&self, endpoint: &str, attr: &str) -> RegisterConfig {
        RegisterConfig { ttl: Some(SHORT_TTL), ..self.registration(endpoint, attr) }
    }

    /// A discovery's configuration.
    pub fn discovery(&self) -> DiscoverConfig {
        let (layout, layout_options) = self.ground.layout();
        DiscoverConfig {
            layout,
            layout_options,
            backend_endpoints: self.ground.backend_endpoints(),
            discover_prefix: self.prefix.clone(),
            service_name: self.service.clone(),
            connection: self.ground.connection(),
            ..Default::default()
        }
    }

    /// A registration with a connection of its own, not started.
    pub fn register(&self, endpoint: &str, attr: &str) -> Result<Arc<dyn Register>> {
        self.make(self.registration(endpoint, attr))
    }

    /// A registration with a connection of its own, not started.
    pub fn make(&self, config: RegisterConfig) -> Result<Arc<dyn Register>> {
        Ok((self.ground.makers().new_register)(config)?)
    }

    /// A started registration with a connection of its own.
    pub async fn registered(&self, endpoint: &str, attr: &str) -> Result<Arc<dyn Register>> {
        started(self.register(endpoint, attr)?).await
    }

    /// A discovery with a connection of its own, not started.
    pub fn discover(&self) -> Result<Arc<dyn Discover>> {
        Ok((self.ground.makers().new_discover)(self.discovery())?)
    }

    /// A discovery with a connection of its own that has read its first list.
    pub async fn watch(&self) -> Result<Watching> {
        Watching::start(self.discover()?).synced().await
    }

    /// A connection for many.
    pub fn connect(&self) -> Result<Arc<dyn Registry>> {
        let config = RegistryConfig {
            backend_endpoints: self.ground.backend_endpoints(),
            connection: self.ground.connection(),
            ..Default::default()
        };
        Ok((self.ground.makers().connect)(config)?)
    }

    /// Where a record of this service is.
    pub fn place(&self, endpoint: &str) -> Place {
        Place { prefix: self.prefix.clone(), service: self.service.clone(), endpoint: endpoint.to_owned() }
    }

    /// The attr of a record as the registry's own tools show it.
    pub async fn read(&self, endpoint: &str) -> Result<Option<String>> {
        self.ground.tool_read(&self.place(endpoint)).await
    }

    /// Waits until nobody who comes new is told of this endpoint. After an expiry the registry may still
    /// hold the record, as a dead one.
    pub async fn is_unlisted(&self, endpoint: &str, within: Duration) -> Result<()> {
        let watching = self.watch().await?;
        watching.seen.misses(endpoint, within).await?;
        watching.stop().await
    }

    /// Waits until the registry's own tools show this attr, or no record.
    pub async fn reads(&self, endpoint: &str, attr: Option<&str>, within: Duration) -> Result<()> {
        let what = format!("the registry to hold {attr:?} for {endpoint}");
        eventually(within, &what, async || {
            // A registry that was just started may refuse for a moment.
            self.read(endpoint).await.is_ok_and(|read| read.as_deref() == attr)
        })
        .await
    }
}

/// A running discovery and what it has told.
pub struct Watching {
    /// The handle.
    pub discover: Arc<dyn Discover>,
    /// What it has told.
    pub seen: Arc<Recorder>,
    task: JoinHandle<discox_core::Result<()>>,
}

impl Watching {
    /// Starts it, in a task.
    pub fn start(discover: Arc<dyn Discover>) -> Self {
        Self::into(discover, Recorder::default())
    }

    /// Starts it with this recorder, in a task.
    pub fn into(discover: Arc<dyn Discover>, recorder: Recorder) -> Self {
        let seen = Arc::new(recorder);
        let task = tokio::spawn({
            let (discover, seen) = (discover.clone(), seen.clone());
            async move { discover.start(seen).await }
        });
        Self { discover, seen, task }
    }

    /// Waits for the first full list.
    pub async fn synced(self) -> Result<Self> {
        let limit = Duration::from_secs(20);
        self.seen.wait_for(0, "the first list", limit, |what| matches!(what, What::Synced)).await?;
        Ok(self)
    }

    /// Waits until `start` returns, and hands out what it returned.
    pub async fn ended(&mut self, within: Duration) -> Result<discox_core::Result<()>> {
        let ended = tokio::time::timeout(within, &mut self.task).await;
        ended
            .with_context(|| format!("start did not return within {within:?}; seen:{:?}", self.seen))?
            .context("start panicked")
    }

    /// Drops the future of `start`, and waits until it is dropped.
    pub async fn abort(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Stops it; `start` must return Ok.
    pub async fn stop(mut self) -> Result<()> {
        self.discover.stop().await;
        Ok(self.ended(Duration::from_secs(6)).await??)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a registration.
pub async fn started(register: Arc<dyn Register>) -> Result<Arc<dyn Register>> {
    register.start().await.context("start")?;
    Ok(register)
}

/// Waits until a registration is in this state.
pub async fn becomes(register: &dyn Register, state: RegisterState, within: Duration) -> Result<()> {
    let what = format!("the registration to be {state:?}");
    let reached = eventually(within, &what, async || register.status().state == state).await;
    reached.with_context(|| format!("{:?}", register.status()))
}

/// Fails unless both are the same.
pub fn same<T: PartialEq<U> + Debug, U: Debug>(what: &str, found: T, wanted: U) -> Result<()> {
    ensure!(found == wanted, "{what} is {found:?} and should be {wanted:?}");
    Ok(())
}

/// Fails unless it is an error of this kind.
pub fn fails<T: Debug>(what: &str, outcome: discox_core::Result<T>, kind: ErrorKind) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == kind => Ok(()),
        other => anyhow::bail!("{what} gave {other:?} and should give {kind:?}"),
    }
}
