//! What the catalogue says of our endpoints: records of other incarnations, on any agent, and whether
//! our own records have reached it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write,
    slice::from_ref,
};

use discox_core::{
    Result,
    backend::{Held, Loss},
    record::Record,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::{
    agent::Consul,
    layout::{self, Stamp},
    model::{Check, Instance, Registration, Services},
    record::{Receipt, is_as_written, is_ttl, put_again},
    status::Status,
};

/// Services that are looked through at once.
const AT_ONCE: usize = 8;
/// Up to this many endpoints are asked for by name.
pub(crate) const FEW: usize = 16;

/// Another incarnation's record of an endpoint.
pub(crate) struct Rival {
    pub(crate) stamp: Option<Stamp>,
    /// Its process keeps it: it is not critical, or an operator has put it into maintenance.
    pub(crate) alive: bool,
}

/// What the catalogue has of an endpoint.
pub(crate) struct Entries {
    /// This incarnation's record, on whichever agent.
    pub(crate) own: Option<Instance>,
    /// Other incarnations' records.
    pub(crate) rivals: Vec<Rival>,
}

/// What our agent's node has.
#[derive(Default)]
pub(crate) struct OfNode {
    pub(crate) services: Services,
    /// What has become of our records there.
    pub(crate) losses: HashMap<usize, Loss>,
}

/// What the catalogue has of the record's endpoint. `id` is this incarnation's.
pub(crate) async fn entries(link: &Consul, record: &Record, id: &str) -> Result<Entries> {
    let filter = filter("Service.", [record].into_iter());
    let instances =
        link.client.instances(record.service.name(), &filter).await.map_err(|fault| link.failed(fault))?;
    let rivals = rivals_among(&instances, record).collect();
    let own = instances.into_iter().find(|instance| instance.service.id == id);
    Ok(Entries { own, rivals })
}

/// What another agent has taken over, or what the catalogue has not.
pub(crate) async fn losses(link: &Consul, held: &[Held<Receipt>]) -> Result<HashMap<usize, Loss>> {
    let mut services = BTreeMap::<&str, Vec<usize>>::new();
    for (position, held) in held.iter().enumerate() {
        services.entry(held.record.service.name()).or_default().push(position);
    }
    let mut looking = Vec::new();
    for service in link.scan.due(services.keys().copied()) {
        looking.push(look_through(link, service, &services[service], held));
    }
    Ok(stream::iter(looking).buffer_unordered(AT_ONCE).try_concat().await?.into_iter().collect())
}

/// The records of our agent's node: as the catalogue has them, which is what others see and follows the agent within
/// milliseconds; and as the agent has them as long as there are new ones among them, or its node is not known.
pub(crate) async fn of_node(link: &Consul, held: &[Held<Receipt>], filter: &str) -> Result<OfNode> {
    let mut of_node = OfNode::default();
    let node = link.scan.node();
    if let Some(node) = &node {
        let services = link.client.node_services(node, filter).await.map_err(|fault| link.failed(fault))?;
        of_node.losses = unlike_written(held, &services, is_settled);
        of_node.services = services;
        if !of_node.losses.is_empty() {
            // Perhaps the node is called otherwise now.
            link.scan.forget();
            of_node.losses = without_unreadable(link, held, of_node.losses).await?;
        }
    }
    if node.is_none() || !held.iter().all(is_settled) {
        let services = link.client.services(filter).await.map_err(|fault| link.failed(fault))?;
        of_node.losses.extend(unlike_written(held, &services, |_| true));
        of_node.services = services;
    }
    Ok(of_node)
}

/// What we may not see is not gone.
async fn without_unreadable(
    link: &Consul,
    held: &[Held<Receipt>],
    mut losses: HashMap<usize, Loss>,
) -> Result<HashMap<usize, Loss>> {
    let service = |position: &usize| held.get(*position).map_or("", |held| held.record.service.name());
    let gone = losses.iter().filter(|(_, loss)| **loss == Loss::Gone);
    let services: BTreeSet<_> = gone.map(|(position, _)| service(position)).collect();
    let hidden = link.client.unreadable(services).await.map_err(|fault| link.failed(fault))?;
    losses.retain(|position, loss| *loss != Loss::Gone || !hidden.contains(service(position)));
    Ok(losses)
}

/// Looks for other incarnations' records among all instances of a service.
async fn look_through(
    link: &Consul,
    service: &str,
    positions: &[usize],
    held: &[Held<Receipt>],
) -> Result<Vec<(usize, Loss)>> {
    let ours = || positions.iter().filter_map(|position| Some((*position, held.get(*position)?)));
    let filter = if positions.len() <= FEW {
        filter("Service.", ours().map(|(_, held)| &*held.record))
    } else {
        "\"discox\" in Service.Meta".to_owned()
    };
    let began = Instant::now();
    let instances = link.client.instances(service, &filter).await.map_err(|fault| link.failed(fault))?;
    let took = began.elapsed();

    let mut by_endpoint = HashMap::<_, Vec<&Instance>>::new();
    for instance in &instances {
        let endpoint = (instance.service.address.as_str(), instance.service.port);
        by_endpoint.entry(endpoint).or_default().push(instance);
    }
    let mut losses = HashMap::new();
    let mut node = None;
    let mut untold = Vec::new();
    for (position, held) in ours() {
        let endpoint = (held.record.endpoint.host(), i64::from(held.record.endpoint.port()));
        let there = by_endpoint.get(&endpoint).map(Vec::as_slice).unwrap_or_default();
        let newer = |rival: Rival| rival.alive && rival.stamp.as_ref() > Some(&held.receipt.stamp);
        let own = there.iter().find(|instance| instance.service.id == held.receipt.registration.id);
        if rivals_among(there.iter().copied(), &held.record).any(newer) {
            losses.insert(position, Loss::Superseded);
        } else if own.is_none() && is_settled(held) {
            losses.insert(position, Loss::Gone);
        } else if own.is_some_and(|own| fails(own, &held.receipt.registration)) {
            untold.push(put_again(link, position, &held.receipt.registration));
        }
        node = node.or(own.map(|own| own.node.name.as_str()));
    }
    link.scan.looked_through(service, took, node);
    let denied: Vec<_> = stream::iter(untold).buffer_unordered(AT_ONCE).try_collect().await?;
    losses.extend(denied.into_iter().flatten());
    Ok(without_unreadable(link, held, losses).await?.into_iter().collect())
}

/// Whether the catalogue shows our check as critical although the agent has just passed it. Agents tell the catalogue
/// only changes: one that was lost on the way would be told again in a minute. Writing the record again forces it.
fn fails(own: &Instance, registration: &Registration) -> bool {
    let ours = |check: &&Check| check.id == registration.check.id;
    let check = own.checks.iter().find(ours).filter(|_| is_ttl(registration));
    check.is_some_and(|check| Status::of(from_ref(check)) == Status::Critical)
}

/// What we have registered has had the time to reach the catalogue.
fn is_settled(held: &Held<Receipt>) -> bool {
    held.receipt.settles <= Instant::now()
}

/// Which of these records are otherwise there, or not at all.
fn unlike_written(
    held: &[Held<Receipt>],
    there: &Services,
    judged: impl Fn(&Held<Receipt>) -> bool,
) -> HashMap<usize, Loss> {
    let loss = |held: &Held<Receipt>| match there.get(&held.receipt.registration.id) {
        None => Some(Loss::Gone),
        Some(service) => (!is_as_written(service, &held.receipt.registration)).then_some(Loss::Altered),
    };
    let judged = held.iter().enumerate().filter(|(_, held)| judged(held));
    judged.filter_map(|(position, held)| Some((position, loss(held)?))).collect()
}

fn rivals_among<'a>(
    instances: impl IntoIterator<Item = &'a Instance>,
    record: &Record,
) -> impl Iterator<Item = Rival> {
    let rivals = instances.into_iter().filter(|instance| layout::is_rival(&instance.service, record));
    rivals.map(|instance| Rival {
        stamp: Stamp::of(&instance.service),
        alive: Status::of(&instance.checks) != Status::Critical,
    })
}

/// A filter expression for the endpoints of some records. `at` is where the service's fields are.
pub(crate) fn filter<'a>(at: &str, records: impl Iterator<Item = &'a Record>) -> String {
    let mut filter = String::new();
    for record in records {
        let (host, port) = (record.endpoint.host(), record.endpoint.port());
        let or = if filter.is_empty() { "" } else { " or " };
        // A host consists of letters, digits and `.-_:`.
        let _ = write!(filter, "{or}({at}Address == \"{host}\" and {at}Port == {port})");
    }
    filter
}
