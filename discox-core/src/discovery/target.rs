//! What a discovery watches: the endpoints of a service, or the names of services.

use std::sync::Arc;

use crate::{
    Result,
    backend::{Change, Link, Listing, Source, SourceOptions, Watch, WhyGone},
    record::{Prefix, Service},
};

/// What is watched.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// The endpoints of a service, with their attrs.
    Endpoints(Service, SourceOptions),
    /// The names of the services under a prefix: names in the place of endpoints, without attrs.
    Names(Prefix),
}

impl Target {
    /// Reads the list, and returns it with the watch that follows it.
    pub(crate) async fn open<L: Link>(&self, link: &Arc<L>) -> Result<(Listing, TargetWatch<L>)> {
        match self {
            Self::Endpoints(service, options) => {
                let (list, watch) = link.source(service, options).open().await?;
                Ok((list, TargetWatch::Endpoints(watch)))
            }
            Self::Names(prefix) => {
                let (list, watch) = link.names(prefix).open().await?;
                Ok((list, TargetWatch::Names(watch)))
            }
        }
    }
}

/// A watch of either.
pub(crate) enum TargetWatch<L: Link> {
    /// Of a service.
    Endpoints(<L::Source as Source>::Watch),
    /// Of names.
    Names(<L::Names as Source>::Watch),
}

impl<L: Link> Watch for TargetWatch<L> {
    async fn next(&mut self) -> Result<Vec<Change>> {
        match self {
            Self::Endpoints(watch) => watch.next().await,
            Self::Names(watch) => watch.next().await,
        }
    }

    fn why_gone(&mut self, endpoints: &[Arc<str>]) -> Option<WhyGone> {
        match self {
            Self::Endpoints(watch) => watch.why_gone(endpoints),
            Self::Names(watch) => watch.why_gone(endpoints),
        }
    }
}
