//! ZooKeeper, by its wire protocol: its shell starts a Java machine for every look, which takes longer
//! than what is looked at. (That the shell sees the same is tested with discox-zookeeper.)

use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use discox::{BackendType, ClientCrate};
use discox_testkit::{
    conformance::Place,
    server::{Kind, Member},
    zookeeper::Session,
};
use tokio::time::timeout;

use super::server::Tools;

/// A server that is well answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Default)]
pub(super) struct Zookeeper;

#[async_trait(?Send)]
impl Tools for Zookeeper {
    const BACKEND: BackendType = BackendType::Zookeeper;
    const KIND: Kind = Kind::Zookeeper;
    /// Two ticks of 500 ms, and a second.
    const EXPIRY_TAKES: Duration = Duration::from_secs(2);

    fn granted(ttl: Duration, client: Option<ClientCrate>) -> Duration {
        // Its sessions are not shorter.
        if client == Some(ClientCrate::ZookeeperAsync) { ttl.max(Duration::from_secs(6)) } else { ttl }
    }

    async fn put(member: &Member, place: &Place, attr: &str) -> Result<()> {
        within(async {
            let mut session = Session::open(member).await?;
            if session.set(&place.key(), attr.as_bytes()).await? {
                return Ok(());
            }
            let key = place.key();
            for (end, _) in key.match_indices('/').skip(1) {
                session.create(&key[..end], b"").await?;
            }
            session.create(&key, attr.as_bytes()).await
        })
        .await
    }

    async fn delete(member: &Member, place: &Place) -> Result<()> {
        within(async { Session::open(member).await?.delete(&place.key()).await }).await
    }

    async fn garbage(member: &Member, place: &Place) -> Result<()> {
        Self::put(member, place, "not host:port").await
    }

    async fn read(member: &Member, place: &Place) -> Result<Option<String>> {
        let data = within(async { Session::open(member).await?.get(&place.key()).await }).await?;
        Ok(data.map(String::from_utf8).transpose()?)
    }
}

async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, work).await.context("no answer")?
}
