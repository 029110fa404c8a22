//! etcd by `etcd-client`: a lease, puts, and one watch from where the list ended.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use etcd_client::{
    Client as Inner, ConnectOptions, EventType, GetOptions, PutOptions, Txn, TxnOp, WatchOptions, WatchStream,
};
use tokio::{task::JoinHandle, time::interval};

use super::{Layout, Map, Raw, Watched, change};
use crate::{
    client::{Client, Entry, PREFIX, Sight, Watching},
    fleet,
};

/// Keys a page: some 2 MB, of the 4 MB that the client takes.
const PAGE: i64 = 10_000;

/// Operations a transaction, of 128 that the server takes.
const BATCH: usize = 128;

pub(super) struct Etcd {
    client: Inner,
    lease: i64,
    keeping: JoinHandle<()>,
}

impl Etcd {
    pub(super) async fn connect(address: &str, heart_beat: Duration) -> Result<Self> {
        let options = ConnectOptions::new().with_connect_timeout(Duration::from_secs(2));
        let mut client = Inner::connect([address], Some(options)).await?;
        let lease = client.lease_grant(i64::try_from(3 * heart_beat.as_secs())?, None).await?.id();
        let keeping = tokio::spawn({
            let client = client.clone();
            async move { drop(keep(client, lease, heart_beat).await) }
        });
        Ok(Self { client, lease, keeping })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

async fn keep(mut client: Inner, lease: i64, heart_beat: Duration) -> Result<()> {
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    let mut ticks = interval(heart_beat);
    loop {
        ticks.tick().await;
        keeper.keep_alive().await?;
        answers.message().await?;
    }
}

fn key(service: &str, endpoint: &str) -> String {
    format!("{PREFIX}/{service}/{endpoint}")
}

#[async_trait]
impl Client for Etcd {
    async fn register(&self, service: &str, endpoint: &str, attr: &str) -> Result<Box<dyn Entry>> {
        let entry =
            Registered { client: self.client.clone(), lease: self.lease, key: key(service, endpoint) };
        entry.update(attr).await?;
        Ok(Box::new(entry))
    }

    async fn watch(&self, service: &str, sight: Arc<Sight>) -> Result<Box<dyn Watching>> {
        let directory = key(service, "");
        let map = Arc::new(Map::default());
        let revision = list(&self.client, &directory, &map).await?;
        let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let watch = self.client.watch_client().watch(directory.as_str(), Some(options)).await?;
        let following = follow(watch, directory, map.clone(), sight);
        let task = tokio::spawn(async move { drop(following.await) });
        Ok(Box::new(Watched { map, task }))
    }
}

/// Reads the list in pages, and returns its revision.
async fn list(client: &Inner, directory: &str, map: &Map) -> Result<i64> {
    let mut client = client.kv_client();
    let end = format!("{}0", directory.trim_end_matches('/'));
    let (mut from, mut revision) = (directory.as_bytes().to_vec(), 0);
    loop {
        let options = GetOptions::new().with_range(end.as_str()).with_limit(PAGE).with_revision(revision);
        let mut page = client.get(from, Some(options)).await?;
        if revision == 0 {
            revision = page.header().context("no header")?.revision();
        }
        let more = page.more();
        let records = page.take_kvs();
        from = records.last().map(|last| [last.key(), &[0]].concat()).unwrap_or_default();
        let Ok(mut map) = map.write() else { bail!("poisoned") };
        for record in records {
            let (key, attr) = record.into_key_value();
            map.insert(String::from_utf8(key[directory.len()..].to_vec())?, attr);
        }
        if !more {
            return Ok(revision);
        }
    }
}

async fn follow(mut watch: WatchStream, directory: String, map: Arc<Map>, sight: Arc<Sight>) -> Result<()> {
    while let Some(response) = watch.message().await? {
        change(&map, &sight, |map| {
            for event in response.events() {
                let Some(record) = event.kv() else { continue };
                let Ok(name) = std::str::from_utf8(&record.key()[directory.len()..]) else { continue };
                match event.event_type() {
                    EventType::Put => drop(map.insert(name.to_owned(), record.value().to_vec())),
                    EventType::Delete => drop(map.remove(name)),
                }
            }
        });
    }
    Ok(())
}

struct Registered {
    client: Inner,
    lease: i64,
    key: String,
}

#[async_trait]
impl Entry for Registered {
    async fn update(&self, attr: &str) -> Result<()> {
        let options = PutOptions::new().with_lease(self.lease);
        self.client.kv_client().put(self.key.as_str(), attr, Some(options)).await?;
        Ok(())
    }

    async fn withdraw(&self) -> Result<()> {
        self.client.kv_client().delete(self.key.as_str(), None).await?;
        Ok(())
    }
}

#[async_trait]
impl Raw for Etcd {
    async fn fill(&self, service: &str, n: usize, _: Layout) -> Result<()> {
        let mut client = self.client.kv_client();
        let all: Vec<usize> = (0..n).collect();
        for batch in all.chunks(BATCH) {
            let put = |i: &usize| TxnOp::put(key(service, &fleet::endpoint(*i)), fleet::attr(*i, 0), None);
            client.txn(Txn::new().and_then(batch.iter().map(put).collect::<Vec<_>>())).await?;
        }
        Ok(())
    }

    async fn leases(&self) -> Result<Option<usize>> {
        Ok(Some(self.client.lease_client().leases().await?.leases().len()))
    }
}
