//! What the three real registries have in common: one server each, of the test kit.

use std::{marker::PhantomData, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use async_trait::async_trait;
use discox::{BackendType, ClientCrate};
use discox_testkit::{
    conformance::{Data, Ground, Makers, Place, Site, connections_to},
    server::{Kind, Member, Servers},
};

/// What is particular to a registry: its name, its TTLs and its tools.
#[async_trait(?Send)]
pub(super) trait Tools: Default + Send + Sync + 'static {
    const BACKEND: BackendType;
    const KIND: Kind;
    /// What is added to the granted TTL before a killed process is missed (spec 4.3).
    const EXPIRY_TAKES: Duration;

    /// What is granted by this client crate to who asks for `ttl`.
    fn granted(ttl: Duration, _client: Option<ClientCrate>) -> Duration {
        ttl
    }

    async fn put(member: &Member, place: &Place, attr: &str) -> Result<()>;
    async fn delete(member: &Member, place: &Place) -> Result<()>;
    async fn garbage(member: &Member, place: &Place) -> Result<()>;
    async fn read(member: &Member, place: &Place) -> Result<Option<String>>;
}

/// Where servers of this kind can be had, and by which client crate they are reached.
pub(super) struct Server<T> {
    client: Option<ClientCrate>,
    tools: PhantomData<T>,
}

impl<T> Server<T> {
    /// By the default one.
    pub(super) fn new() -> Self {
        Self { client: None, tools: PhantomData }
    }

    /// By this one.
    #[cfg_attr(not(any(feature = "consulrs", feature = "zookeeper-async")), expect(dead_code))]
    pub(super) fn by(client: ClientCrate) -> Self {
        Self { client: Some(client), tools: PhantomData }
    }
}

#[async_trait(?Send)]
impl<T: Tools> Site for Server<T> {
    fn backend(&self) -> BackendType {
        T::BACKEND
    }

    fn name(&self) -> String {
        self.client.map_or_else(|| T::BACKEND.to_string(), |client| format!("{}/{client}", T::BACKEND))
    }

    async fn open(&self) -> Result<Arc<dyn Ground>> {
        let servers = Servers::single(T::KIND).await?;
        Ok(Arc::new(ServerGround::<T> { servers, client: self.client, tools: PhantomData }))
    }
}

struct ServerGround<T> {
    servers: Servers,
    client: Option<ClientCrate>,
    tools: PhantomData<T>,
}

impl<T> ServerGround<T> {
    fn member(&self) -> &Member {
        self.servers.member(0)
    }
}

#[async_trait(?Send)]
impl<T: Tools> Ground for ServerGround<T> {
    fn backend(&self) -> BackendType {
        T::BACKEND
    }

    fn backend_endpoints(&self) -> Vec<String> {
        self.servers.addresses()
    }

    fn makers(&self) -> Makers {
        super::makers(T::BACKEND, self.client)
    }

    fn expiry(&self, ttl: Duration) -> Duration {
        T::granted(ttl, self.client) + T::EXPIRY_TAKES
    }

    fn client(&self) -> Option<ClientCrate> {
        self.client
    }

    fn connections(&self) -> Result<usize> {
        let port = self.member().address().rsplit(':').next().context("no port")?;
        connections_to(port.parse()?)
    }

    fn program(&self) -> Option<PathBuf> {
        Some(super::program())
    }

    async fn tool_put(&self, place: &Place, attr: &str) -> Result<()> {
        T::put(self.member(), place, attr).await.with_context(|| format!("put {place}"))
    }

    async fn tool_delete(&self, place: &Place) -> Result<()> {
        T::delete(self.member(), place).await.with_context(|| format!("delete {place}"))
    }

    async fn tool_garbage(&self, place: &Place) -> Result<()> {
        T::garbage(self.member(), place).await.with_context(|| format!("put {place}"))
    }

    async fn tool_read(&self, place: &Place) -> Result<Option<String>> {
        T::read(self.member(), place).await.with_context(|| format!("read {place}"))
    }

    async fn kill_server(&self) -> Result<()> {
        self.member().kill().await
    }

    async fn start_server(&self, data: Data) -> Result<()> {
        self.member().start(data).await
    }

    async fn hang_server(&self) -> Result<()> {
        self.member().pause().await
    }

    async fn resume_server(&self) -> Result<()> {
        self.member().resume().await
    }

    async fn server_log(&self) -> String {
        self.member().log_tail().await
    }
}
