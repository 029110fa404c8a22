//! A ground that lives in a runtime of its own.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use async_trait::async_trait;
use discox_core::{BackendType, ConnectionConfig, Layout, LayoutOptions};
use tokio::runtime::Handle;

use super::ground::{Data, Ground, Makers, Place};

/// Does everything that a ground does in the runtime where the servers were started: what a client of
/// Docker or a child process has open belongs to that runtime, and its tasks must not be counted as
/// those of a behaviour.
pub(crate) struct Remote {
    pub(crate) ground: Arc<dyn Ground>,
    pub(crate) servers: Handle,
}

impl Remote {
    /// The futures of grounds need not be `Send`, so that each is made and finished on one thread.
    async fn there<T, F>(&self, work: impl FnOnce(Arc<dyn Ground>) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let (ground, servers) = (self.ground.clone(), self.servers.clone());
        let done = self.servers.spawn_blocking(move || servers.block_on(work(ground)));
        done.await.context("the ground panicked")?
    }
}

#[async_trait(?Send)]
impl Ground for Remote {
    fn backend(&self) -> BackendType {
        self.ground.backend()
    }

    fn backend_endpoints(&self) -> Vec<String> {
        self.ground.backend_endpoints()
    }

    fn connection(&self) -> ConnectionConfig {
        self.ground.connection()
    }

    fn layout(&self) -> (Layout, LayoutOptions) {
        self.ground.layout()
    }

    fn program_arguments(&self) -> Result<Vec<String>> {
        self.ground.program_arguments()
    }

    fn makers(&self) -> Makers {
        self.ground.makers()
    }

    fn expiry(&self, ttl: Duration) -> Duration {
        self.ground.expiry(ttl)
    }

    fn connections(&self) -> Result<usize> {
        self.ground.connections()
    }

    fn program(&self) -> Option<PathBuf> {
        self.ground.program()
    }

    async fn tool_put(&self, place: &Place, attr: &str) -> Result<()> {
        let (place, attr) = (place.clone(), attr.to_owned());
        self.there(|ground| async move { ground.tool_put(&place, &attr).await }).await
    }

    async fn tool_delete(&self, place: &Place) -> Result<()> {
        let place = place.clone();
        self.there(|ground| async move { ground.tool_delete(&place).await }).await
    }

    async fn tool_garbage(&self, place: &Place) -> Result<()> {
        let place = place.clone();
        self.there(|ground| async move { ground.tool_garbage(&place).await }).await
    }

    async fn tool_read(&self, place: &Place) -> Result<Option<String>> {
        let place = place.clone();
        self.there(|ground| async move { ground.tool_read(&place).await }).await
    }

    async fn kill_server(&self) -> Result<()> {
        self.there(|ground| async move { ground.kill_server().await }).await
    }

    async fn start_server(&self, data: Data) -> Result<()> {
        self.there(move |ground| async move { ground.start_server(data).await }).await
    }

    async fn hang_server(&self) -> Result<()> {
        self.there(|ground| async move { ground.hang_server().await }).await
    }

    async fn resume_server(&self) -> Result<()> {
        self.there(|ground| async move { ground.resume_server().await }).await
    }

    async fn server_log(&self) -> String {
        let log = self.there(|ground| async move { Ok(ground.server_log().await) }).await;
        log.unwrap_or_else(|error| format!("{error:#}"))
    }
}
