//! Records that cannot be read are skipped, each with one warning.

use std::{collections::HashSet, fmt::Display};

use tracing::warn;

use crate::{BackendType, Layout, record::Service};

/// How many unreadable records are remembered, so that a hostile registry cannot fill the memory.
const REMEMBERED: usize = 1_000;

/// How much of a name is remembered and told, in characters: no readable name is longer, and others may
/// be as long as a registry likes.
const LONGEST: usize = 300;

/// Remembers which unreadable records of a service have been told.
#[derive(Debug)]
pub struct WarnOnce {
    backend: BackendType,
    service: Service,
    told: HashSet<String>,
    /// Another layout was named.
    told_layout: bool,
}

impl WarnOnce {
    /// None told yet.
    pub fn new(backend: BackendType, service: Service) -> Self {
        Self { backend, service, told: HashSet::new(), told_layout: false }
    }

    /// Warns that the record named `name` is skipped, the first time.
    pub fn skip(&mut self, name: &str, reason: &str) {
        self.tell(name, format_args!("record skipped: {reason}"));
    }

    /// Warns, once, if the record looks like one of another layout.
    pub fn suggest_layout(&mut self, name: &str, value: &[u8]) {
        let Self { backend, service, .. } = &*self;
        let layout = service.layout();
        if self.told_layout {
            return;
        }
        if let Some(other) = Layout::guess(*backend, name, value).filter(|other| *other != layout) {
            warn!(%backend, %service, "records look like those of another layout than `{layout}`: layout = \"{other}\"?");
            self.told_layout = true;
        }
    }

    /// Warns of the record named `name`, the first time.
    pub fn tell(&mut self, name: &str, what: impl Display) {
        let name: String = name.chars().take(LONGEST).collect();
        if self.told.len() < REMEMBERED && self.told.insert(name.clone()) {
            warn!(backend = %self.backend, service = %self.service, record = %name.escape_debug(), "{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut skips = WarnOnce::new(BackendType::Memory, Service::parse("", "demo").unwrap());
        for number in 0..2 * REMEMBERED {
            skips.skip(&format!("{number}{}", "é".repeat(10_000)), "its name is not host:port");
        }
        assert_eq!(skips.told.len(), REMEMBERED);
        assert!(
            skips.told.iter().all(|name| name.chars().count() == LONGEST && name.capacity() < 4 * LONGEST)
        );
    }
}
