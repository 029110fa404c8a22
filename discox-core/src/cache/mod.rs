//! What a discovery feeds, and what its users read.

mod changes;
mod diff;
mod endpoint_cacher;
mod entry;
mod freshness;
mod index;
mod lite_endpoint;
mod snapshot;

pub(crate) use self::snapshot::Place;
pub use self::{
    changes::Changes,
    endpoint_cacher::{EndpointCacher, Event, Update},
    entry::Entry,
    freshness::{Freshness, FreshnessState},
    lite_endpoint::{LiteEndpoint, Reader},
    snapshot::{Iter, Snapshot},
};
