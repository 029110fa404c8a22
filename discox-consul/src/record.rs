//! One record with its agent: writing it, passing its check, removing it.

use std::sync::Arc;

use discox_core::{Error, ErrorKind, Result, backend::Loss};
use tokio::time::Instant;

use crate::{
    agent::Consul,
    client::{Client, Fault},
    layout::Stamp,
    model::{Probe, Registration, Service},
};

/// What was registered.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub(crate) registration: Arc<Registration>,
    pub(crate) stamp: Stamp,
    /// When it has to have reached the catalogue.
    pub(crate) settles: Instant,
}

/// Writes a record.
pub(crate) async fn put(link: &Consul, registration: &Registration) -> Result<()> {
    let writing = link.connector.placements.writing(link.agent, &registration.id);
    let token = link.client.register(registration).await.map_err(|fault| link.failed(fault))?;
    writing.done(token);
    // A check that was critical stays critical although it is registered as passing.
    if is_ttl(registration) && !pass(link, registration).await? {
        return Err(
            link.here(Error::new(ErrorKind::Unavailable, "the record was removed at once").answered())
        );
    }
    Ok(())
}

/// Passes a record's TTL check; false when the agent does not know it.
pub(crate) async fn pass(link: &Consul, registration: &Registration) -> Result<bool> {
    link.client.pass(&registration.check.id).await.map_err(|fault| link.failed(fault))
}

/// Whether the agent writes to the catalogue with the token that is in use now. It goes on with the one that it
/// was given with the record, which may be deleted by now or have fewer rights.
pub(crate) fn has_current_token(link: &Consul, id: &str) -> bool {
    link.connector.placements.token(link.agent, id) == Some(link.connector.token.version())
}

/// Writes a record again in a heart beat.
pub(crate) async fn put_again(
    link: &Consul,
    position: usize,
    registration: &Registration,
) -> Result<Option<(usize, Loss)>> {
    let answer = put(link, registration).await.map(|()| None);
    Ok(or_denied(link, registration, answer)?.map(|loss| (position, loss)))
}

/// A denial concerns this record alone.
pub(crate) fn or_denied(
    link: &Consul,
    registration: &Registration,
    answer: Result<Option<Loss>>,
) -> Result<Option<Loss>> {
    match answer {
        Err(error) if error.kind() == ErrorKind::Denied => {
            link.connector.placements.denied(link.agent, &registration.id);
            Ok(Some(Loss::Denied))
        }
        answer => answer,
    }
}

/// Removes a record from this agent.
pub(crate) async fn remove(link: &Consul, service: &str, id: &str) -> Result<()> {
    remove_from(link, &link.client, service, id).await.map_err(|fault| link.failed(fault))
}

/// Removes a record from the agent of `client`; from the catalogue too where the agent could not, because the token
/// that the record was put with is worthless: the agent says nothing of that.
pub(crate) async fn remove_from(
    link: &Consul,
    client: &Client,
    service: &str,
    id: &str,
) -> std::result::Result<(), Fault> {
    client.deregister(id).await?;
    // Without a token nothing is refused to the agent but not to us. And where the record is wanted with another
    // agent, the catalogue has that one.
    if link.connector.settings.consul.token.is_none() || link.connector.placements.is_wanted(id) {
        return Ok(());
    }
    // The agent has told the catalogue by now, if it may.
    for node in client.nodes_of(service, id).await? {
        client.deregister_node_service(&node, id).await?;
    }
    Ok(())
}

/// Whether a record is what was registered.
pub(crate) fn is_as_written(service: &Service, registration: &Registration) -> bool {
    service.name == registration.name
        && service.address == registration.address
        && service.port == i64::from(registration.port)
        && service.meta == registration.meta
}

pub(crate) fn is_ttl(registration: &Registration) -> bool {
    matches!(registration.check.probe, Probe::Ttl { .. })
}
