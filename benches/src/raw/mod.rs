//! The raw clients, used as somebody who knows them well would: no more than the registry needs, and
//! nothing that discox does for the sake of outages.

pub(crate) mod consul;
mod etcd;
pub(crate) mod zookeeper;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use discox::BackendType;
use tokio::task::JoinHandle;

use crate::client::{Client, Sight, Watching};

/// A raw client, connected. What it registers lives for three heart beats.
///
/// # Errors
/// The registry does not answer.
pub async fn connect(backend: BackendType, address: &str, heart_beat: Duration) -> Result<Box<dyn Raw>> {
    Ok(match backend {
        BackendType::Etcd => Box::new(etcd::Etcd::connect(address, heart_beat).await?),
        BackendType::Zookeeper => Box::new(zookeeper::Zookeeper::connect(address, heart_beat).await?),
        BackendType::Consul => Box::new(consul::Consul::connect(address, heart_beat, false).await?),
        other => anyhow::bail!("{other} has no raw client"),
    })
}

/// What only the raw clients are asked for.
#[async_trait]
pub trait Raw: Client {
    /// Writes the first `n` endpoints of a service, without lease, session or check, as `layout` has
    /// them.
    async fn fill(&self, service: &str, n: usize, layout: Layout) -> Result<()>;

    /// As [`Client::register`], laid out as discox does it, so that discox can read it.
    async fn register_for_discox(
        &self,
        service: &str,
        endpoint: &str,
        attr: &str,
    ) -> Result<Box<dyn crate::client::Entry>> {
        self.register(service, endpoint, attr).await
    }

    /// How many leases the registry has granted; none where it has no such thing.
    async fn leases(&self) -> Result<Option<usize>> {
        Ok(None)
    }
}

/// Whose records they look like. Only on Consul is there a difference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// discox's.
    Discox,
    /// The simplest.
    Plain,
}

/// A cache as one writes it: a map behind a lock.
type Map = RwLock<HashMap<String, Vec<u8>>>;

/// A watched service.
struct Watched {
    map: Arc<Map>,
    task: JoinHandle<()>,
}

#[async_trait]
impl Watching for Watched {
    fn len(&self) -> usize {
        self.map.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    async fn end(&self) {
        self.task.abort();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Changes the map, and shows it.
fn change(map: &Map, sight: &Sight, with: impl FnOnce(&mut HashMap<String, Vec<u8>>)) {
    with(&mut map.write().unwrap_or_else(PoisonError::into_inner));
    let map = map.read().unwrap_or_else(PoisonError::into_inner);
    sight.changed(|endpoint| map.get(endpoint).map(|attr| Bytes::copy_from_slice(attr)));
}
