//! Registering a record, keeping it, and withdrawing it.

use std::{sync::Arc, time::Duration};

use discox_core::{
    Error, ErrorKind, Result,
    backend::{Registered, Replace},
    record::Record,
};
use futures_util::future::join;
use tokio::time::{Instant, sleep_until};

use crate::{
    agent::Consul,
    catalogue::{self, Entries, Rival},
    check,
    layout::{self, Stamp},
    model::Registration,
    record::{self, Receipt, is_as_written, is_ttl, pass, put},
    scan_state::SETTLING,
};

/// How long the agent may take to begin with a request that was sent to it.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

pub(crate) async fn register(
    link: &Consul,
    record: &Record,
    attr: &str,
    replace: Replace,
) -> Result<Registered<Receipt>> {
    let placements = &link.connector.placements;
    let id = layout::id(record);
    let Entries { own, rivals } = catalogue::entries(link, record, &id).await?;
    let stamp =
        stamp(record, replace, placements.stamp(&id), &rivals).inspect_err(|_| placements.unwanted(&id))?;
    let (registration, ttl) = begin(link, record, attr, &stamp)?;
    let found = own.filter(|own| replace == Replace::OnlyOwn && is_as_written(&own.service, &registration));
    let stands = found.is_some() && revived(link, &registration).await?;
    if !stands {
        put(link, &registration).await?;
    }
    let mut receipt =
        end(link, record, registration, stamp, replace == Replace::Anyone || !rivals.is_empty()).await?;
    if let Some(own) = found.filter(|_| stands) {
        // As good as a look through: it is there, and no rival of it.
        link.scan.looked_through(&own.service.name, Duration::ZERO, Some(&own.node.name));
        receipt.settles = Instant::now();
    }
    Ok(Registered { receipt, ttl })
}

/// As [`register`] with [`Replace::OnlyOwn`], but looks for rivals while it writes: our stamp stays what it is, so that the
/// record of who started later is in force whatever we write.
pub(crate) async fn update(link: &Consul, record: &Record, attr: &str) -> Result<Registered<Receipt>> {
    let Some(mine) = link.connector.placements.stamp(&layout::id(record)) else {
        return register(link, record, attr, Replace::OnlyOwn).await;
    };
    let (registration, ttl) = begin(link, record, attr, &mine)?;
    let id = &registration.id;
    let (written, entries) = join(put(link, &registration), catalogue::entries(link, record, id)).await;
    let rivals = entries?.rivals;
    if let Err(superseded) = stamp(record, Replace::OnlyOwn, Some(mine), &rivals) {
        retreat(link, &registration, true).await?;
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
    link.connector.placements.begin(link.agent, record.service.name(), &id, stamp);
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

/// The record is there: older ones go.
async fn end(
    link: &Consul,
    record: &Record,
    registration: Arc<Registration>,
    stamp: Stamp,
    has_rivals: bool,
) -> Result<Receipt> {
    link.connector.placements.registered(link.agent, &registration.id);
    if has_rivals {
        remove_older(link, record, &stamp).await?;
    }
    Ok(Receipt { registration, stamp, settles: Instant::now() + SETTLING })
}

/// Passes the check of a record that the catalogue has as it should be, and says whether the agent keeps it. An agent
/// that is back finds its records on disk; to write them all again would take it long.
async fn revived(link: &Consul, registration: &Registration) -> Result<bool> {
    let may_stand = is_ttl(registration) && record::has_current_token(link, &registration.id);
    Ok(may_stand && pass(link, registration).await?)
}

/// When this registration counts as started: the later one is in force.
fn stamp(record: &Record, replace: Replace, mine: Option<Stamp>, rivals: &[Rival]) -> Result<Stamp> {
    let newest = rivals.iter().filter_map(|rival| rival.stamp.as_ref()).max();
    if replace == Replace::OnlyOwn {
        if let Some(rival) = rivals.iter().find(|rival| rival.alive && rival.stamp > mine) {
            let by = rival.stamp.as_ref().map_or_else(String::new, Stamp::to_string);
            let message = format!("a later registration holds the endpoint: {by}");
            return Err(Error::new(ErrorKind::Superseded, message));
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
            // It may be ours, of an earlier registration in this process.
            link.connector.placements.unwanted(&service.id);
            record::remove(link, &service.name, &service.id).await?;
            link.connector.placements.removed(link.agent, &service.id);
        }
    }
    Ok(())
}

/// Removes our record. A write that was given up may begin with the agent after that: then it is removed again, and
/// once more by the connection as long as it lives.
pub(crate) async fn withdraw(link: &Consul, record: &Record) -> Result<()> {
    let (id, service) = (layout::id(record), record.service.name());
    let placements = &link.connector.placements;
    placements.unwanted(&id);
    record::remove(link, service, &id).await?;
    let Some(given_up) = placements.given_up(link.agent, &id) else {
        placements.removed(link.agent, &id);
        return Ok(());
    };
    if given_up.elapsed() < ON_ITS_WAY {
        sleep_until(given_up + ON_ITS_WAY).await;
        record::remove(link, service, &id).await?;
    }
    Ok(())
}

/// Another incarnation is in force: our record would come to light again when the other one stops.
pub(crate) async fn retreat(link: &Consul, registration: &Registration, is_here: bool) -> Result<()> {
    link.connector.placements.unwanted(&registration.id);
    if is_here {
        record::remove(link, &registration.name, &registration.id).await?;
    }
    link.connector.placements.removed(link.agent, &registration.id);
    Ok(())
}
