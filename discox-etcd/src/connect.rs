//! From the addresses to a connection to one member.

use std::sync::Arc;

use discox_core::{BackendType, Result};

use crate::{
    client::{
        Etcd,
        dial::{self, Tls},
        wire::WireNews,
    },
    connector::{Connector, Member},
};

/// Connects to the first member that answers a request which needs the quorum: one that hangs, or is cut off from
/// the others, is passed over. Files are read anew, once for all members.
pub(crate) async fn connect(connector: &Arc<Connector>) -> Result<Etcd> {
    let tls = tls(connector).await.map_err(|error| error.with_backend(BackendType::Etcd))?;
    let tls = tls.as_ref();
    connector.members.first(connector.settings.connect_timeout, |member| to(member, tls, connector)).await
}

async fn tls(connector: &Connector) -> Result<Option<Tls>> {
    match connector.members.all().iter().find_map(|member| member.tls.clone()) {
        None => Ok(None),
        Some(settings) => {
            connector.files.read(&discox_tls::files(&settings), move || Tls::read(&settings)).await.map(Some)
        }
    }
}

async fn to(member: &Member, tls: Option<&Tls>, connector: &Arc<Connector>) -> Result<Etcd> {
    let tls = tls.filter(|_| member.tls.is_some());
    let error = match (try_to(member, tls, connector).await, tls) {
        (Ok(link), _) => return Ok(link),
        (Err(error), Some(tls)) => dial::why_refused(&member.uri, tls, error).await,
        (Err(error), None) => error,
    };
    Err(error.with_backend(BackendType::Etcd).with_address(&member.address))
}

async fn try_to(member: &Member, tls: Option<&Tls>, connector: &Arc<Connector>) -> Result<Etcd> {
    let news = Arc::new(WireNews::default());
    let channel = dial::channel(&member.endpoint, tls, news.clone()).await?;
    Etcd::begin(connector.clone(), &member.address, channel, news).await
}
