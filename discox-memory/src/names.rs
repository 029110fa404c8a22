//! Discovery of the names of services.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use discox_core::{
    Error, ErrorKind, Result,
    backend::{Change, Listing, Source, Watch},
    record::{Endpoint, Prefix},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::connect::MemoryLink;

/// How often a quiet watch looks at the store: what expires is noticed by looking.
const LOOK: Duration = Duration::from_millis(500);

/// Between two looks while changes go on: they are reported together.
const FLOOR: Duration = Duration::from_millis(5);

/// The names of the services under a prefix.
#[derive(Debug)]
pub(crate) struct MemoryNames {
    link: Arc<MemoryLink>,
    prefix: Prefix,
}

/// Follows them.
#[derive(Debug)]
pub(crate) struct MemoryNamesWatch {
    link: Arc<MemoryLink>,
    prefix: Prefix,
    known: BTreeSet<Arc<str>>,
    changed: watch::Receiver<u64>,
}

impl MemoryNames {
    pub(crate) fn new(link: Arc<MemoryLink>, prefix: Prefix) -> Self {
        Self { link, prefix }
    }
}

impl Source for MemoryNames {
    type Watch = MemoryNamesWatch;

    async fn open(&self) -> Result<(Listing, MemoryNamesWatch)> {
        let (link, prefix) = (self.link.clone(), self.prefix.clone());
        let changed = link.store.changed();
        let known = names(&link, &prefix).await?;
        let list = known.iter().map(|name| (name.clone(), Bytes::new())).collect();
        Ok((list, MemoryNamesWatch { link, prefix, known, changed }))
    }
}

impl Watch for MemoryNamesWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        sleep(FLOOR).await;
        if let Ok(changed) = timeout(LOOK, self.changed.changed()).await {
            changed.map_err(|_| Error::new(ErrorKind::Unavailable, "no store"))?;
        }
        self.changed.mark_unchanged();
        let now = names(&self.link, &self.prefix).await?;
        let puts = now.difference(&self.known).map(|name| Change::Put(name.clone(), Bytes::new()));
        let deletes = self.known.difference(&now).map(|name| Change::Delete(name.clone()));
        let changes = puts.chain(deletes).collect();
        self.known = now;
        Ok(changes)
    }
}

/// The names of the services that have a record which can be read.
async fn names(link: &MemoryLink, prefix: &Prefix) -> Result<BTreeSet<Arc<str>>> {
    link.served().await?;
    let mut topics = link.store.topics();
    let here = topics.iter_mut().filter(|(service, _)| service.prefix() == prefix.as_str());
    let served = here.filter_map(|(service, topic)| topic.has(Endpoint::is_readable).then_some(service));
    Ok(served.map(|service| service.name().into()).collect())
}
