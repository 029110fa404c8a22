//! The one place where an instance, as Consul answers it, becomes an endpoint and its attr.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use discox_core::{
    backend::{WarnOnce, lock},
    record::Service,
};

use crate::{
    layout::{self, Reading, Stamp},
    model::Instance,
    status::Status,
};

/// What makes one record of an endpoint the one that is served: passing first, then the newest. A
/// record without a stamp is older than one with; two of one incarnation, on two agents, differ in
/// when they were written.
pub(crate) type Rank = (Status, Option<Stamp>, u64);

/// A record that may be served.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) endpoint: Arc<str>,
    pub(crate) attr: Bytes,
    pub(crate) rank: Rank,
}

/// Which instances are served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) service: Service,
    pub(crate) include_warning: bool,
    /// Records that cannot be read, of which users have been warned.
    pub(crate) skips: Arc<Mutex<WarnOnce>>,
}

impl Served {
    /// What may be served of an instance: nothing when its checks fail, when it belongs to another service or
    /// prefix, or when it cannot be read, of which is warned.
    pub(crate) fn candidate(&self, instance: &Instance) -> Option<Candidate> {
        let worst = if self.include_warning { Status::Warning } else { Status::Passing };
        let status = Status::of(&instance.checks);
        // Consul's catalogue does not tell `Demo` from `demo`.
        if status < worst || instance.service.name != self.service.name() {
            return None;
        }
        let (endpoint, attr) = match read(instance, &self.service) {
            Ok(read) => read?,
            Err(reason) => {
                lock(&self.skips).skip(&instance.service.id, reason);
                return None;
            }
        };
        let rank = (status, Stamp::of(&instance.service), instance.service.modify_index);
        Some(Candidate { endpoint: endpoint.into(), attr, rank })
    }
}

/// The instance's endpoint and attr; none when it belongs to another prefix.
fn read(instance: &Instance, service: &Service) -> Result<Option<(String, Bytes)>, &'static str> {
    match layout::read(&instance.service.meta, service.prefix()) {
        Reading::OtherPrefix => Ok(None),
        Reading::Damaged(reason) => Err(reason),
        Reading::Attr(attr) => layout::endpoint(instance).map(|endpoint| Some((endpoint, attr))),
    }
}
