//! Says in the log which endpoints came, changed and went: each at debug, their number at info.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{Level, debug, enabled, info};

use crate::{Snapshot, Update, record::Service};

/// At most one line a second sums up the changes of a service, however fast they come.
const PAUSE: Duration = Duration::from_secs(1);

/// What has changed since the last line.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    added: usize,
    changed: usize,
    removed: usize,
    last_line: Option<Instant>,
}

impl Summary {
    /// Takes note of updates that lead on from `before`, and says each at debug.
    pub(crate) fn note(&mut self, service: &Service, before: &Snapshot, updates: &[Update]) {
        if !enabled!(Level::INFO) {
            return;
        }
        for update in updates {
            let (count, endpoint, what) = match update {
                Update::Delete(endpoint) => (&mut self.removed, endpoint, "endpoint removed"),
                Update::Put(endpoint, _) if before.attr(endpoint).is_some() => {
                    (&mut self.changed, endpoint, "endpoint changed")
                }
                Update::Put(endpoint, _) => (&mut self.added, endpoint, "endpoint added"),
            };
            *count += 1;
            debug!(%service, %endpoint, "{what}");
        }
    }

    /// Sums up at info, unless nothing has changed or the last line was a moment ago: then the next call does.
    pub(crate) fn tell(&mut self, service: &Service, endpoints: usize) {
        let Self { added, changed, removed, last_line } = *self;
        let is_early = last_line.is_some_and(|last| last.elapsed() < PAUSE);
        if is_early || added + changed + removed == 0 {
            return;
        }
        info!(%service, added, changed, removed, endpoints, "endpoints changed");
        *self = Self { last_line: Some(Instant::now()), ..Self::default() };
    }
}
