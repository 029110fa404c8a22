//! What is measured of both sides: registering, and watching a service. discox and the raw clients are
//! used through the same few functions.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::oneshot, time::timeout};

/// All services lie under this.
pub const PREFIX: &str = "/bench";

/// Longer than anything takes that is measured.
const FOREVER: Duration = Duration::from_secs(60);

/// One connection to a registry.
#[async_trait]
pub trait Client: Send + Sync {
    /// Registers an endpoint, and returns when the registry has acknowledged it.
    async fn register(&self, service: &str, endpoint: &str, attr: &str) -> Result<Box<dyn Entry>>;

    /// Reads a service's list and follows it from then on; returns with the first list. Each change
    /// is shown to `sight` once it is in the cache.
    async fn watch(&self, service: &str, sight: Arc<Sight>) -> Result<Box<dyn Watching>>;
}

/// A registered endpoint.
#[async_trait]
pub trait Entry: Send + Sync {
    /// Changes the attr; returns when it is acknowledged.
    async fn update(&self, attr: &str) -> Result<()>;

    /// Removes the endpoint; returns when it is acknowledged.
    async fn withdraw(&self) -> Result<()>;
}

/// A service that is watched, until this is dropped.
#[async_trait]
pub trait Watching: Send + Sync {
    /// How many endpoints the cache holds.
    fn len(&self) -> usize;

    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends it properly.
    async fn end(&self);
}

/// Waits for one endpoint of a cache to become as it is wanted, and notes when that was.
#[derive(Default)]
pub struct Sight(Mutex<Option<Wanted>>);

struct Wanted {
    endpoint: String,
    attr: Option<Bytes>,
    seen: oneshot::Sender<Instant>,
}

/// The moment is to come.
pub struct Coming(oneshot::Receiver<Instant>);

impl Sight {
    /// The moment at which the cache shows this endpoint with this attr, or shows it no more.
    pub fn of(&self, endpoint: &str, attr: Option<&str>) -> Coming {
        let (seen, coming) = oneshot::channel();
        let attr = attr.map(|attr| Bytes::copy_from_slice(attr.as_bytes()));
        *self.wanted() = Some(Wanted { endpoint: endpoint.into(), attr, seen });
        Coming(coming)
    }

    /// The cache has changed; `attr` looks an endpoint up in it.
    pub fn changed(&self, attr: impl FnOnce(&str) -> Option<Bytes>) {
        let now = Instant::now();
        let mut wanted = self.wanted();
        if let Some(one) = wanted.take() {
            if attr(&one.endpoint) == one.attr {
                // Nobody waits for it any more: that is no matter of ours.
                let _ = one.seen.send(now);
            } else {
                *wanted = Some(one);
            }
        }
    }

    fn wanted(&self) -> std::sync::MutexGuard<'_, Option<Wanted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Coming {
    /// Waits for the moment, and returns how long after `began` it was.
    ///
    /// # Errors
    /// It did not come.
    pub async fn after(self, began: Instant) -> Result<Duration> {
        let seen = timeout(FOREVER, self.0).await.context("the change was never seen")?;
        Ok(seen.context("the change was never seen")?.saturating_duration_since(began))
    }
}
