//! ZooKeeper by `zookeeper-client`: ephemeral nodes, one recursive watch a service, multi-reads.

use std::{collections::HashSet, future::poll_fn, pin::pin, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use async_trait::async_trait;
use futures_util::{
    future::{join3, try_join_all},
    stream::{self, StreamExt, TryStreamExt},
};
use spawns_core::{Spawn, Task};
use zookeeper_client::{
    Acls, AddWatchMode, Client as Inner, CreateMode, Error, EventType, MultiReadResult, PersistentWatcher,
};

use super::{Layout, Map, Raw, Watched, change};
use crate::{
    client::{Client, Entry, PREFIX, Sight, Watching},
    fleet,
};

/// Nodes a multi-read, and such requests under way at once.
const BATCH: usize = 256;
const AT_ONCE: usize = 8;

pub(super) struct Zookeeper(Arc<Inner>);

/// Where the client's task runs. Its feature `tokio` would do the same, for discox too.
struct OnTokio;

impl Spawn for OnTokio {
    fn spawn(&self, task: Task) {
        tokio::spawn(Box::into_pin(task.future));
    }
}

/// A session of its own.
pub(crate) async fn connect(address: &str, heart_beat: Duration) -> Result<Inner> {
    let connector = Inner::connector().with_session_timeout(3 * heart_beat);
    let mut connecting = pin!(connector.connect(address));
    let client = poll_fn(|context| {
        let _scope = spawns_core::enter(&OnTokio);
        connecting.as_mut().poll(context)
    });
    Ok(client.await?)
}

impl Zookeeper {
    pub(super) async fn connect(address: &str, heart_beat: Duration) -> Result<Self> {
        Ok(Self(Arc::new(connect(address, heart_beat).await?)))
    }

    async fn make_directory(&self, service: &str) -> Result<()> {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        for path in [PREFIX, &directory(service)] {
            match self.0.create(path, b"", &options).await {
                Ok(_) | Err(Error::NodeExists) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn directory(service: &str) -> String {
    format!("{PREFIX}/{service}")
}

fn path(service: &str, endpoint: &str) -> String {
    format!("{PREFIX}/{service}/{endpoint}")
}

#[async_trait]
impl Client for Zookeeper {
    async fn register(&self, service: &str, endpoint: &str, attr: &str) -> Result<Box<dyn Entry>> {
        let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
        let path = path(service, endpoint);
        if let Err(Error::NoNode) = self.0.create(&path, attr.as_bytes(), &options).await {
            self.make_directory(service).await?;
            self.0.create(&path, attr.as_bytes(), &options).await?;
        }
        Ok(Box::new(Registered { client: self.0.clone(), path }))
    }

    async fn watch(&self, service: &str, sight: Arc<Sight>) -> Result<Box<dyn Watching>> {
        let directory = directory(service);
        let (watch, synced, names) = join3(
            self.0.watch(&directory, AddWatchMode::PersistentRecursive),
            self.0.sync(&directory),
            self.0.list_children(&directory),
        )
        .await;
        synced?;
        let names = match names {
            Err(Error::NoNode) => Vec::new(),
            names => names?,
        };
        let batches = names.chunks(BATCH).map(|names| read(&self.0, &directory, names));
        let batches = batches.collect::<Vec<_>>();
        let nodes: Vec<_> = stream::iter(batches).buffered(AT_ONCE).try_concat().await?;
        let map = names.into_iter().zip(nodes).filter_map(|(name, data)| Some((name, data?)));
        let map = Arc::new(Map::new(map.collect()));
        let following = follow(self.0.clone(), watch?, directory, map.clone(), sight);
        let task = tokio::spawn(async move { drop(following.await) });
        Ok(Box::new(Watched { map, task }))
    }
}

/// The data of these nodes, none for those that are gone.
async fn read(client: &Inner, directory: &str, names: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
    let mut reader = client.new_multi_reader();
    for name in names {
        reader.add_get_data(&format!("{directory}/{name}"))?;
    }
    let nodes = reader.commit().await?.into_iter().map(|result| match result {
        MultiReadResult::Data { data, .. } => Ok(Some(data)),
        MultiReadResult::Error { err: Error::NoNode } => Ok(None),
        _ => bail!("not data"),
    });
    nodes.collect()
}

async fn follow(
    client: Arc<Inner>,
    mut watch: PersistentWatcher,
    directory: String,
    map: Arc<Map>,
    sight: Arc<Sight>,
) -> Result<()> {
    use futures_util::FutureExt;
    loop {
        let mut touched = HashSet::new();
        let mut gone = HashSet::new();
        let mut next = Some(watch.changed().await);
        while let Some(event) = next {
            if let Some(name) = event.path.strip_prefix(&directory).and_then(|path| path.strip_prefix('/')) {
                if event.event_type == EventType::NodeDeleted {
                    touched.remove(name);
                    gone.insert(name.to_owned());
                } else {
                    gone.remove(name);
                    touched.insert(name.to_owned());
                }
            }
            next = watch.changed().now_or_never();
        }
        let names: Vec<String> = touched.into_iter().collect();
        let nodes = if let [name] = &names[..] {
            match client.get_data(&format!("{directory}/{name}")).await {
                Ok((data, _)) => vec![Some(data)],
                Err(Error::NoNode) => vec![None],
                Err(error) => return Err(error.into()),
            }
        } else {
            try_join_all(names.chunks(BATCH).map(|names| read(&client, &directory, names))).await?.concat()
        };
        change(&map, &sight, |map| {
            for (name, data) in names.into_iter().zip(nodes) {
                match data {
                    Some(data) => drop(map.insert(name, data)),
                    None => drop(map.remove(&name)),
                }
            }
            for name in gone {
                map.remove(&name);
            }
        });
    }
}

struct Registered {
    client: Arc<Inner>,
    path: String,
}

#[async_trait]
impl Entry for Registered {
    async fn update(&self, attr: &str) -> Result<()> {
        self.client.set_data(&self.path, attr.as_bytes(), None).await?;
        Ok(())
    }

    async fn withdraw(&self) -> Result<()> {
        self.client.delete(&self.path, None).await?;
        Ok(())
    }
}

#[async_trait]
impl Raw for Zookeeper {
    async fn fill(&self, service: &str, n: usize, _: Layout) -> Result<()> {
        self.make_directory(service).await?;
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        let all: Vec<usize> = (0..n).collect();
        for batch in all.chunks(BATCH) {
            let mut writer = self.0.new_multi_writer();
            for i in batch {
                let path = path(service, &fleet::endpoint(*i));
                writer.add_create(&path, fleet::attr(*i, 0).as_bytes(), &options)?;
            }
            writer.commit().await?;
        }
        Ok(())
    }
}
