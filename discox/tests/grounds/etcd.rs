//! etcd, by `etcdctl`.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use discox::BackendType;
use discox_testkit::{
    conformance::Place,
    server::{Kind, Member},
};

use super::server::Tools;

#[derive(Default)]
pub(super) struct Etcd;

#[async_trait(?Send)]
impl Tools for Etcd {
    const BACKEND: BackendType = BackendType::Etcd;
    const KIND: Kind = Kind::Etcd;
    const EXPIRY_TAKES: Duration = Duration::from_secs(2);

    async fn put(member: &Member, place: &Place, attr: &str) -> Result<()> {
        member.tool(&["put", &place.key(), attr]).await.map(drop)
    }

    async fn delete(member: &Member, place: &Place) -> Result<()> {
        member.tool(&["del", &place.key()]).await.map(drop)
    }

    async fn garbage(member: &Member, place: &Place) -> Result<()> {
        Self::put(member, place, "not host:port").await
    }

    async fn read(member: &Member, place: &Place) -> Result<Option<String>> {
        // The value and a line end, or nothing at all.
        let printed = member.tool(&["get", "--print-value-only", &place.key()]).await?;
        Ok(printed.strip_suffix('\n').map(str::to_owned))
    }
}
