//! A store as a ground of the conformance suite.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use discox_memory::{BackendType, Store};
use discox_testkit::conformance::{Data, Ground, Makers, Need, Place, Site};

/// Stores of this process.
pub(crate) struct Memory;

#[async_trait(?Send)]
impl Site for Memory {
    fn backend(&self) -> BackendType {
        BackendType::Memory
    }

    fn cannot(&self, need: Need) -> Option<&'static str> {
        (need == Need::Processes).then_some("an embedded registry ends with its process")
    }

    async fn open(&self) -> Result<Arc<dyn Ground>> {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);
        let name = format!("conformance-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        Ok(Arc::new(MemoryGround { store: discox_memory::store(&name), name }))
    }
}

struct MemoryGround {
    name: String,
    store: Store,
}

#[async_trait(?Send)]
impl Ground for MemoryGround {
    fn backend(&self) -> BackendType {
        BackendType::Memory
    }

    fn backend_endpoints(&self) -> Vec<String> {
        vec![format!("memory://{}", self.name)]
    }

    fn makers(&self) -> Makers {
        Makers {
            new_register: discox_memory::new_register,
            new_discover: discox_memory::new_discover,
            connect: discox_memory::connect,
        }
    }

    fn expiry(&self, ttl: Duration) -> Duration {
        ttl + Duration::from_secs(2)
    }

    fn connections(&self) -> Result<usize> {
        Ok(self.store.connections())
    }

    async fn tool_put(&self, place: &Place, attr: &str) -> Result<()> {
        Ok(self.store.put(&place.prefix, &place.service, &place.endpoint, attr.to_owned())?)
    }

    async fn tool_delete(&self, place: &Place) -> Result<()> {
        self.store.delete(&place.prefix, &place.service, &place.endpoint)?;
        Ok(())
    }

    async fn tool_garbage(&self, place: &Place) -> Result<()> {
        self.tool_put(place, "not host:port").await
    }

    async fn tool_read(&self, place: &Place) -> Result<Option<String>> {
        let attr = self.store.read(&place.prefix, &place.service, &place.endpoint)?;
        Ok(attr.map(|attr| String::from_utf8(attr.to_vec())).transpose()?)
    }

    async fn kill_server(&self) -> Result<()> {
        self.store.fail(true);
        Ok(())
    }

    async fn start_server(&self, data: Data) -> Result<()> {
        if data == Data::Wiped {
            self.store.wipe();
        }
        self.store.fail(false);
        Ok(())
    }

    async fn hang_server(&self) -> Result<()> {
        self.store.hang(true);
        Ok(())
    }

    async fn resume_server(&self) -> Result<()> {
        self.store.hang(false);
        Ok(())
    }

    async fn server_log(&self) -> String {
        format!("{:?}", self.store)
    }
}
