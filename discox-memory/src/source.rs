//! Discovery: a list, and the changes that follow it.

use std::{future::ready, sync::Arc, time::Duration};

use discox_core::{
    BackendType, Error, ErrorKind, Result,
    backend::{Change, Listing, Source, WarnOnce, Watch, WhyGone},
    record::{Endpoint, Service},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{connect::MemoryLink, store::Condition};

/// How often a quiet watch looks at the store, to confirm that nothing has changed.
const CONFIRM: Duration = Duration::from_secs(1);

/// Discovery of one service.
#[derive(Debug)]
pub(crate) struct MemorySource {
    link: Arc<MemoryLink>,
    service: Service,
}

/// A place in the feed of changes.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    link: Arc<MemoryLink>,
    service: Service,
    position: u64,
    newest: watch::Receiver<u64>,
    condition: watch::Receiver<Condition>,
    skips: WarnOnce,
}

impl MemorySource {
    pub(crate) fn new(link: Arc<MemoryLink>, service: Service) -> Self {
        Self { link, service }
    }
}

impl Source for MemorySource {
    type Watch = MemoryWatch;

    async fn open(&self) -> Result<(Listing, MemoryWatch)> {
        let Self { link, service } = self;
        let condition = link.store.condition();
        let opened =
            link.request(service, |topic| (topic.list(), topic.position(), topic.subscribe())).await?;
        let (mut list, position, newest) = opened;
        let mut skips = WarnOnce::new(BackendType::Memory, service.clone());
        list.retain(|(endpoint, _)| readable(endpoint, &mut skips));
        let (link, service) = (link.clone(), service.clone());
        Ok((list, MemoryWatch { link, service, position, newest, condition, skips }))
    }
}

impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        let mut quiet = false;
        loop {
            let position = self.position;
            let since = self.link.request(&self.service, |topic| topic.since(position)).await??;
            let (mut changes, position, expiry) = since;
            self.position = position;
            changes.retain(|change| match change {
                Change::Put(endpoint, _) | Change::Delete(endpoint) => readable(endpoint, &mut self.skips),
                _ => true,
            });
            if quiet || !changes.is_empty() {
                return Ok(changes);
            }
            // Nothing is awaited between here and the next look, so that no change can be missed.
            tokio::select! {
                changed = self.newest.changed() => {
                    changed.map_err(|_| Error::new(ErrorKind::Unavailable, "the store was wiped"))?;
                }
                _ = self.condition.changed() => {}
                () = sleep_until(expiry.unwrap_or_else(Instant::now)), if expiry.is_some() => {}
                () = sleep(CONFIRM) => quiet = true,
            }
        }
    }

    fn why_gone(&mut self, endpoints: &[Arc<str>]) -> Option<WhyGone> {
        let causes = self.link.store.topic(&self.service, |topic| {
            let cause = |endpoint: &Arc<str>| Some((endpoint.clone(), topic.why_gone(endpoint)?));
            endpoints.iter().filter_map(cause).collect()
        });
        Some(Box::pin(ready(causes)))
    }
}

fn readable(endpoint: &str, skips: &mut WarnOnce) -> bool {
    let readable = Endpoint::is_readable(endpoint);
    if !readable {
        skips.skip(endpoint, "its name is not host:port");
    }
    readable
}
