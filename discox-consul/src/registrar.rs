//! Registering a record, keeping it, and withdrawing it.

use std::{sync::Arc, time::Duration};

use discox_core::{
    Error, ErrorKind, Result,
    backend::{Registered, Take},
    key::Record,
};
use futures_util::future::join;
use tokio::time::{Instant, sleep};

use crate::{
    catalogue::{self, Entries, Rival},
    check,
    client::{Probe, Registration, Service},
    layout::{self, Stamp},
    link::Consul,
};

/// How long the agent may take to begin with a request that was sent to it.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

/// A record that was registered less than this ago may not have reached the catalogue yet.
pub(crate) const SETTLING: Duration = Duration::from_secs(2);

/// What was registered.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub(crate) registration: Arc<Registration>,
    pub(crate) stamp: Stamp,
    /// When it has to have reached the catalogue.
    pub(crate) settles: Instant,
}

pub(crate) async fn register(
    link: &Consul,
    record: &Record,
    attr: &str,
    take: Take,
) -> Result<Registered<Receipt>> {
    let ledger = &link.connector.ledger;
    let id = layout::id(record);
    let Entries { own, rivals } = catalogue::entries(link, record, &id).await?;
    let stamp = stamp(record, take, ledger.stamp(record.incarnation), &rivals)
        .inspect_err(|_| ledger.unwanted(&id))?;
    let (registration, ttl) = begin(link, record, attr, &stamp)?;
    let found = own.filter(|own| take == Take::Back && is_as_written(&own.service, &registration));
    let stands = found.is_some() && revived(link, &registration).await?;
    if !stands {
        put(link, &registration).await?;
    }
    let mut receipt =
        end(link, record, registration, stamp, take == Take::Over || !rivals.is_empty()).await?;
    if let Some(own) = found.filter(|_| stands) {
        link.catalogue.found(&own);
        receipt.settles = Instant::now();
    }
    Ok(Registered { receipt, ttl })
}

/// As [`register`] with [`Take::Back`], but looks for rivals while it writes: our stamp stays what it is, so that the
/// record of who started later is in force whatever we write.
pub(crate) async fn update(link: &Consul, record: &Record, attr: &str) -> Result<Registered<Receipt>> {
    let Some(mine) = link.connector.ledger.stamp(record.incarnation) else {
        return register(link, record, attr, Take::Back).await;
    };
    let (registration, ttl) = begin(link, record, attr, &mine)?;
    let id = &registration.id;
    let (written, entries) = join(put(link, &registration), catalogue::entries(link, record, id)).await;
    let rivals = entries?.rivals;
    if let Err(superseded) = stamp(record, Take::Back, Some(mine.clone()), &rivals) {
        retreat(link, id, true).await?;
        return Err(superseded);
    }
    written?;
    let receipt = end(link, record, registration, mine, !rivals.is_empty()).await?;
    Ok(Registered { receipt, ttl })
}

/// What is to be written, and how long it outlives us. From now on the record may be there.
fn begin(link: &Consul, record: &Record, attr: &str, stamp: &Stamp) -> Result<(Arc<Registration>, Duration)> {
    let id = layout::id(record);
    let (check, ttl) = check::check(record, &id)?;
    link.connector.ledger.begin(link.agent, &id, record.incarnation, stamp);
    let registration = Registration {
        name: record.service.name().to_owned(),
        address: record.endpoint.host().to_owned(),
        port: record.endpoint.port(),
        meta: layout::meta(record, attr, stamp),
        id,
        check,
    };
    Ok((Arc::new(registration), ttl))
}

/// Writes a record.
pub(crate) async fn put(link: &Consul, registration: &Registration) -> Result<()> {
    link.client.register(registration).await.map_err(|fault| link.failed(fault))?;
    // A check that was critical stays critical although it is registered as passing.
    if is_ttl(registration) && !pass(link, registration).await? {
        return Err(link.here(Error::new(ErrorKind::Unavailable, "the record was removed at once")));
    }
    Ok(())
}

/// The record is there: older ones go.
async fn end(
    link: &Consul,
    record: &Record,
    registration: Arc<Registration>,
    stamp: Stamp,
    has_rivals: bool,
) -> Result<Receipt> {
    link.connector.ledger.registered(link.agent, &registration.id);
    if has_rivals {
        remove_older(link, record, &stamp).await?;
    }
    Ok(Receipt { registration, stamp, settles: Instant::now() + SETTLING })
}

/// Passes the check of a record that the catalogue has as it should be, and says whether the agent knows it. An agent
/// that is back finds its records on disk; to write them all again would take it long.
async fn revived(link: &Consul, registration: &Registration) -> Result<bool> {
    Ok(is_ttl(registration) && pass(link, registration).await?)
}

/// When this registration counts as started: the later one is in force.
fn stamp(record: &Record, take: Take, mine: Option<Stamp>, rivals: &[Rival]) -> Result<Stamp> {
    let newest = rivals.iter().filter_map(|rival| rival.stamp.as_ref()).max();
    if take == Take::Back {
        if rivals.iter().any(|rival| rival.alive && rival.stamp > mine) {
            return Err(Error::new(ErrorKind::Superseded, "a later registration holds the endpoint"));
        }
        if let Some(mine) = mine.filter(|mine| newest <= Some(mine)) {
            return Ok(mine);
        }
    }
    Ok(Stamp::after(newest, record.incarnation))
}

/// Removes this endpoint's older records from the agent. Those on other agents are theirs to remove.
async fn remove_older(link: &Consul, record: &Record, stamp: &Stamp) -> Result<()> {
    let filter = catalogue::filter("", [record].into_iter());
    let services = link.client.services(&filter).await.map_err(|fault| link.failed(fault))?;
    for service in services.values().filter(|service| layout::is_rival(service, record)) {
        if Stamp::of(service).as_ref() < Some(stamp) {
            link.client.deregister(&service.id).await.map_err(|fault| link.failed(fault))?;
            // It may have been ours, of an earlier registration in this process.
            link.connector.ledger.unwanted(&service.id);
            link.connector.ledger.removed(link.agent, &service.id);
        }
    }
    Ok(())
}

pub(crate) async fn withdraw(link: &Consul, record: &Record, receipt: Option<&Receipt>) -> Result<()> {
    let id = layout::id(record);
    link.connector.ledger.withdrawn(&id, record.incarnation);
    link.client.deregister(&id).await.map_err(|fault| link.failed(fault))?;
    if receipt.is_some() {
        link.connector.ledger.removed(link.agent, &id);
    } else {
        // A registration that was given up may still be on its way. Should it take longer, it is removed as long as
        // the connection lives.
        sleep(ON_ITS_WAY).await;
        link.client.deregister(&id).await.map_err(|fault| link.failed(fault))?;
    }
    Ok(())
}

/// Another incarnation is in force: our record would come to light again when the other one stops.
pub(crate) async fn retreat(link: &Consul, id: &str, is_here: bool) -> Result<()> {
    link.connector.ledger.unwanted(id);
    if is_here {
        link.client.deregister(id).await.map_err(|fault| link.failed(fault))?;
    }
    link.connector.ledger.removed(link.agent, id);
    Ok(())
}

pub(crate) async fn pass(link: &Consul, registration: &Registration) -> Result<bool> {
    link.client.pass(&registration.check.id).await.map_err(|fault| link.failed(fault))
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
