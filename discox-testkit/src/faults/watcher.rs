//! A watcher on stage: a user's cache, with everything that it was told written down beside.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use discox_core::{Discover, DiscoverState, EndpointCacher, Error, Event, LiteEndpoint, Update};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::book::Expected;
use crate::conformance::{Recorder, What};

/// A running discovery and what it has told.
pub(crate) struct Watcher {
    pub(crate) name: String,
    pub(crate) discover: Arc<dyn Discover>,
    pub(crate) seen: Arc<Recorder>,
    pub(crate) cache: Arc<LiteEndpoint>,
    task: JoinHandle<discox_core::Result<()>>,
}

impl Watcher {
    /// Starts it, in a task.
    pub(crate) fn start(name: impl Into<String>, discover: Arc<dyn Discover>) -> Self {
        let (seen, cache) = (Arc::new(Recorder::default()), Arc::new(LiteEndpoint::new()));
        let both = Arc::new(Both { seen: seen.clone(), cache: cache.clone() });
        let task = tokio::spawn({
            let discover = discover.clone();
            async move { discover.start(both).await }
        });
        Self { name: name.into(), discover, seen, cache, task }
    }

    /// Waits for the first full list.
    pub(crate) async fn synced(&self, within: Duration) -> Result<Instant> {
        self.seen.wait_for(0, "the first list", within, |what| matches!(what, What::Synced)).await
    }

    /// What is wrong at the moment, if anything is: it is not synced, was not confirmed since `confirmed`, or
    /// shows something else than what is expected.
    pub(crate) fn problem(&self, expected: &Expected, confirmed: Option<Instant>) -> Option<String> {
        let status = self.discover.status();
        if status.state != DiscoverState::Synced {
            return Some(format!("watcher {} is {:?}: {:?}", self.name, status.state, status.last_error));
        }
        let confirmed = confirmed.map(Instant::into_std);
        if confirmed.is_some_and(|wanted| status.last_confirmed.is_none_or(|last| last < wanted)) {
            return Some(format!("watcher {} has not been confirmed", self.name));
        }
        self.differs(expected)
    }

    /// How what it shows differs from what is expected, if it does.
    pub(crate) fn differs(&self, expected: &Expected) -> Option<String> {
        let seen = self.seen.endpoints();
        let told = seen
            .iter()
            .map(|(endpoint, attr)| (endpoint.clone(), String::from_utf8_lossy(attr).into_owned()));
        let told: BTreeMap<_, _> = told.collect();
        let snapshot = self.cache.snapshot();
        let held: BTreeMap<_, _> = snapshot
            .iter()
            .map(|entry| (entry.endpoint().to_owned(), String::from_utf8_lossy(entry.attr()).into_owned()))
            .collect();
        [("was told", told), ("'s cache holds", held)].into_iter().find_map(|(how, shown)| {
            let differences = expected.differences(&shown);
            (!differences.is_empty()).then(|| format!("watcher {} {how}: {differences}", self.name))
        })
    }

    /// No removal is held any more.
    pub(crate) fn is_settled(&self) -> bool {
        let status = self.discover.status();
        status.state == DiscoverState::Synced && status.held == 0 && status.grace_left.is_zero()
    }

    /// Ends it, and says if it had ended by itself or does not end.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let within = Duration::from_secs(10);
        timeout(within, self.discover.stop())
            .await
            .with_context(|| format!("watcher {}: stop hangs", self.name))?;
        let ended = timeout(within, &mut self.task).await;
        let ended = ended.with_context(|| format!("watcher {}: start does not return", self.name))?;
        ended.context("start panicked")?.with_context(|| format!("watcher {} ended", self.name))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tells two: the cache first, so that what has been seen is in the cache.
struct Both {
    seen: Arc<Recorder>,
    cache: Arc<LiteEndpoint>,
}

impl EndpointCacher for Both {
    fn add_or_update(&self, endpoint: &str, attribute: &[u8]) {
        self.cache.add_or_update(endpoint, attribute);
        self.seen.add_or_update(endpoint, attribute);
    }

    fn delete(&self, endpoint: &str) {
        self.cache.delete(endpoint);
        self.seen.delete(endpoint);
    }

    fn add_error(&self, error: &Error) {
        self.cache.add_error(error);
        self.seen.add_error(error);
    }

    fn apply(&self, batch: &[Update]) {
        self.cache.apply(batch);
        self.seen.apply(batch);
    }

    fn on_event(&self, event: &Event) {
        self.cache.on_event(event);
        self.seen.on_event(event);
    }
}
