//! Registering a record, keeping it, and withdrawing it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use discox_core::{
    Error, ErrorKind, Result,
    backend::{Held, Loss, Registered, Take},
    key::Record,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::{
    catalogue::{self, Entries, Rival},
    check,
    client::{Probe, Registration, Service, Services},
    layout::{self, Stamp},
    link::Consul,
};

/// TTL checks that are passed at once.
const PASSES: usize = 16;
/// Up to this many endpoints, the agent is asked for these alone.
pub(crate) const FEW: usize = 16;

/// What was registered, and when.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub(crate) registration: Arc<Registration>,
    pub(crate) stamp: Stamp,
    pub(crate) at: Instant,
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
    let (check, ttl) = check::check(record, &id)?;
    let registration = Arc::new(Registration {
        name: record.service.name().to_owned(),
        address: record.endpoint.host().to_owned(),
        port: record.endpoint.port(),
        meta: layout::meta(record, attr, &stamp),
        id,
        check,
    });
    let id = &registration.id;
    ledger.begin(link.agent, id, record.incarnation, &stamp);
    let stands = take == Take::Back
        && own.is_some_and(|own| is_as_written(&own, &registration))
        && revived(link, record, &registration).await?;
    if !stands {
        link.client.register(&registration).await.map_err(|fault| link.failed(fault))?;
    }
    if !stands && is_ttl(&registration) {
        // A check that was critical stays critical although it is registered as passing.
        if !pass(link, &registration).await? {
            return Err(link.here(Error::new(ErrorKind::Unavailable, "the record was removed at once")));
        }
    }
    ledger.registered(link.agent, id);
    if take == Take::Over || !rivals.is_empty() {
        remove_older(link, record, &stamp).await?;
    }
    let receipt = Receipt { registration: registration.clone(), stamp, at: Instant::now() };
    Ok(Registered { receipt, ttl })
}

/// Passes a record's check if the agent has the record as it should be, and says whether it has. An agent
/// that is back finds its records on disk; to write them all again would take it long.
async fn revived(link: &Consul, record: &Record, registration: &Registration) -> Result<bool> {
    let filter = catalogue::filter("", [record].into_iter());
    let services = link.client.services(&filter).await.map_err(|fault| link.failed(fault))?;
    let same = services.get(&registration.id).is_some_and(|here| is_as_written(here, registration));
    Ok(same && is_ttl(registration) && pass(link, registration).await?)
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
    }
    // Without a receipt, a registration may still be on its way: the record is removed once more.
    Ok(())
}

/// A denial is a loss of all: whoever may not keep a record may not register it either, which is then
/// tried, told and tried again for each.
pub(crate) async fn verify(link: &Consul, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
    match find_losses(link, held).await {
        Err(error) if error.kind() == ErrorKind::Denied => {
            Ok((0..held.len()).map(|position| (position, Loss::Gone)).collect())
        }
        losses => losses,
    }
}

async fn find_losses(link: &Consul, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
    let unknown = pass_all(link, held).await?;
    let filter = agent_filter(held);
    let services = link.client.services(&filter).await.map_err(|fault| link.failed(fault))?;
    let unchecked = without_check(link, held).await?;
    let by_catalogue = catalogue::losses(link, held, &filter).await?;
    let rivals = Rivals::of(&services);
    let mut losses = Vec::new();
    for (position, held) in held.iter().enumerate() {
        let here = services.get(&held.receipt.registration.id);
        let lost = if rivals.newer_than(held) {
            Some(Loss::Superseded)
        } else if here.is_none() || unknown.contains(&position) {
            Some(Loss::Gone)
        } else if here.is_some_and(|here| !is_as_written(here, &held.receipt.registration))
            || unchecked.contains(&position)
        {
            Some(Loss::Altered)
        } else {
            by_catalogue.get(&position).copied()
        };
        if let Some(loss) = lost {
            if loss == Loss::Superseded {
                retreat(link, held, here.is_some()).await?;
            }
            losses.push((position, loss));
        }
    }
    Ok(losses)
}

/// Another incarnation is in force: our record would come to light again when the other one stops.
async fn retreat(link: &Consul, held: &Held<Receipt>, is_here: bool) -> Result<()> {
    let id = &held.receipt.registration.id;
    link.connector.ledger.unwanted(id);
    if is_here {
        link.client.deregister(id).await.map_err(|fault| link.failed(fault))?;
    }
    link.connector.ledger.removed(link.agent, id);
    Ok(())
}

/// Passes all TTL checks. Those that the agent does not know.
async fn pass_all(link: &Consul, held: &[Held<Receipt>]) -> Result<HashSet<usize>> {
    let mut passing = Vec::new();
    for (position, held) in held.iter().enumerate() {
        if is_ttl(&held.receipt.registration) {
            passing.push(pass_one(link, position, &held.receipt.registration));
        }
    }
    let answers: Vec<_> = stream::iter(passing).buffer_unordered(PASSES).try_collect().await?;
    Ok(answers.into_iter().filter_map(|(position, known)| (!known).then_some(position)).collect())
}

async fn pass_one(link: &Consul, position: usize, registration: &Registration) -> Result<(usize, bool)> {
    Ok((position, pass(link, registration).await?))
}

async fn pass(link: &Consul, registration: &Registration) -> Result<bool> {
    link.client.pass(&registration.check.id).await.map_err(|fault| link.failed(fault))
}

/// Records whose check is to be run by Consul and is not there.
async fn without_check(link: &Consul, held: &[Held<Receipt>]) -> Result<HashSet<usize>> {
    let checked = |held: &Held<Receipt>| !is_ttl(&held.receipt.registration);
    if !held.iter().any(checked) {
        return Ok(HashSet::new());
    }
    let filter = format!("Name == \"{}\"", check::HEALTH_CHECK);
    let checks = link.client.checks(&filter).await.map_err(|fault| link.failed(fault))?;
    let missing = held
        .iter()
        .enumerate()
        .filter(|(_, held)| checked(held) && !checks.contains_key(&held.receipt.registration.check.id));
    Ok(missing.map(|(position, _)| position).collect())
}

/// Whether a record is what was registered.
pub(crate) fn is_as_written(service: &Service, registration: &Registration) -> bool {
    service.name == registration.name
        && service.address == registration.address
        && service.port == i64::from(registration.port)
        && service.meta == registration.meta
}

fn is_ttl(registration: &Registration) -> bool {
    matches!(registration.check.probe, Probe::Ttl { .. })
}

/// What to ask the agent for: few endpoints by name, else everything that discox has made.
fn agent_filter(held: &[Held<Receipt>]) -> String {
    if held.len() <= FEW {
        catalogue::filter("", held.iter().map(|held| &*held.record))
    } else {
        "\"discox\" in Meta".to_owned()
    }
}

/// The agent's records by endpoint.
struct Rivals<'a>(std::collections::HashMap<(&'a str, i64), Vec<&'a Service>>);

impl<'a> Rivals<'a> {
    fn of(services: &'a Services) -> Self {
        let mut rivals = std::collections::HashMap::<_, Vec<_>>::new();
        for service in services.values() {
            rivals.entry((service.address.as_str(), service.port)).or_default().push(service);
        }
        Self(rivals)
    }

    fn newer_than(&self, held: &Held<Receipt>) -> bool {
        let endpoint = (held.record.endpoint.host(), i64::from(held.record.endpoint.port()));
        let there = self.0.get(&endpoint).into_iter().flatten();
        there
            .filter(|service| layout::is_rival(service, &held.record))
            .any(|service| Stamp::of(service).as_ref() > Some(&held.receipt.stamp))
    }
}

/// A record that was registered less than this ago may not have reached the catalogue yet.
pub(crate) const SETTLING: Duration = Duration::from_secs(2);
