//! The channels that are compared.

use std::sync::Arc;

use anyhow::Result;
use discox::{EndpointCacher, Event, LiteEndpoint, balance::Options, tonic::Channel};
use tonic::transport;

/// tonic's own: one endpoint is a plain channel, more are `balance_list`.
pub(crate) async fn plain(endpoints: &[String]) -> Result<transport::Channel> {
    let parse = |endpoint: &String| transport::Endpoint::from_shared(format!("http://{endpoint}"));
    let mut endpoints: Vec<_> = endpoints.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(match (endpoints.pop(), endpoints.is_empty()) {
        (Some(only), true) => only.connect().await?,
        (last, _) => transport::Channel::balance_list(endpoints.into_iter().chain(last)),
    })
}

/// Ours, when all are ready.
pub(crate) async fn balanced(endpoints: &[String], options: Options) -> Channel {
    let channel = Channel::builder(cache(endpoints.iter().map(String::as_str))).options(options).build();
    channel.ready(endpoints.len()).await;
    channel
}

pub(crate) fn cache<'a>(endpoints: impl IntoIterator<Item = &'a str>) -> Arc<LiteEndpoint> {
    let cache = Arc::new(LiteEndpoint::new());
    for endpoint in endpoints {
        cache.add_or_update(endpoint, b"");
    }
    cache.on_event(&Event::Synced);
    cache
}
