//! What heart beats remember of the catalogue from one to the next.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use discox_core::backend::lock;
use tokio::time::Instant;

/// Services that are looked through in one heart beat; more take turns.
const SERVICES: usize = 64;
/// A record that was registered less than this ago may not have reached the catalogue yet.
pub(crate) const SETTLING: Duration = Duration::from_secs(2);
/// Looking through a service costs Consul time that grows with its instances, of which each may be
/// one of ours: the longer it took, the more seldom it is done.
const PAUSE_FACTOR: u32 = 5000;
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is remembered of the catalogue, for one agent.
#[derive(Debug, Default)]
pub(crate) struct ScanState {
    /// When each service is looked through again.
    again: Mutex<HashMap<String, Instant>>,
    /// The name of the agent's node, once it is known.
    node: Mutex<Option<String>>,
}

/// Forgets all when a heart beat is dropped before its end, because it failed or was given up.
pub(crate) struct ResetOnDrop<'a>(Option<&'a ScanState>);

impl ScanState {
    pub(crate) fn node(&self) -> Option<String> {
        lock(&self.node).clone()
    }

    /// A heart beat begins; others may be under way.
    pub(crate) fn begin(&self) -> ResetOnDrop<'_> {
        ResetOnDrop(Some(self))
    }

    /// Every service is looked through anew, by the next heart beats.
    pub(crate) fn forget(&self) {
        *lock(&self.node) = None;
        lock(&self.again).clear();
    }

    /// The services whose turn it is, those that have waited longest first.
    pub(crate) fn due<'a>(&self, services: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let mut again = lock(&self.again);
        let now = Instant::now();
        // A service that has not been looked through for long is no longer registered.
        again.retain(|_, at| now.saturating_duration_since(*at) < 100 * LONGEST_PAUSE);
        let services = services.map(|service| (again.get(service).copied(), service));
        let mut due: Vec<_> = services.filter(|(at, _)| at.is_none_or(|at| at <= now)).collect();
        due.sort_by_key(|(at, _)| *at);
        due.into_iter().take(SERVICES).map(|(_, service)| service).collect()
    }

    /// The service has been looked through, which took this long. Until one of our records is seen
    /// there, of which we learn the node, it is done again soon.
    pub(crate) fn looked_through(&self, service: &str, took: Duration, node: Option<&str>) {
        let pause = (took * PAUSE_FACTOR).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let pause = if node.is_none() { SETTLING } else { pause };
        if let Some(node) = node.filter(|node| !node.is_empty()) {
            *lock(&self.node) = Some(node.to_owned());
        }
        lock(&self.again).insert(service.to_owned(), Instant::now() + pause);
    }
}

impl ResetOnDrop<'_> {
    pub(crate) fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.0 {
            state.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_for_known_after_a_heart_beat_that_was_not_finished() {
        let state = ScanState::default();
        let looks_through = || state.due(["demo"].into_iter()) == ["demo"];
        let heart_beat = || {
            let beat = state.begin();
            state.looked_through("demo", Duration::ZERO, Some("node"));
            beat.finish();
        };
        heart_beat();
        let given_up = state.begin();
        heart_beat();
        assert!(!looks_through() && state.node().is_some(), "two at a time are no failure");
        drop(given_up);
        assert!(looks_through() && state.node().is_none());
        heart_beat();
        assert!(!looks_through() && state.node().is_some());
    }
}
