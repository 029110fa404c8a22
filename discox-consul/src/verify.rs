//! The heart beat: what keeps records alive, and how a loss shows.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

use discox_core::{
    ErrorKind, Result,
    backend::{Held, Loss},
};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    catalogue, check,
    client::{Registration, Service, Services},
    layout::{self, Stamp},
    link::Consul,
    registrar::{Receipt, is_ttl, pass, retreat},
};

/// TTL checks that are passed at once.
const PASSES: usize = 16;
/// Up to this many endpoints, the agent is asked for these alone.
pub(crate) const FEW: usize = 16;

/// A denial is a loss of all: whoever may not keep a record may not register it either, which is then
/// tried, told and tried again for each.
pub(crate) async fn verify(link: &Consul, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
    let beat = link.catalogue.begin();
    match find_losses(link, held).await.inspect(|_| beat.finish()) {
        Err(error) if error.kind() == ErrorKind::Denied => {
            Ok((0..held.len()).map(|position| (position, Loss::Gone)).collect())
        }
        losses => losses,
    }
}

async fn find_losses(link: &Consul, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
    let unknown = pass_all(link, held).await?;
    let records = catalogue::of_node(link, held, &agent_filter(held)).await?;
    let unchecked = without_check(link, held).await?;
    let by_service = catalogue::losses(link, held).await?;
    let rivals = Rivals::of(&records.services);
    let mut losses = Vec::new();
    for (position, held) in held.iter().enumerate() {
        let lost = if rivals.newer_than(held) {
            Some(Loss::Superseded)
        } else if unknown.contains(&position) {
            Some(Loss::Gone)
        } else if unchecked.contains(&position) {
            Some(Loss::Altered)
        } else {
            records.losses.get(&position).or(by_service.get(&position)).copied()
        };
        if let Some(loss) = lost {
            if loss == Loss::Superseded {
                let id = &held.receipt.registration.id;
                retreat(link, id, records.services.contains_key(id)).await?;
            }
            losses.push((position, loss));
        }
    }
    Ok(losses)
}

/// Passes all TTL checks. Those that the agent does not know. A round that was cut short, because the agent does not
/// come round in time, is followed by one that begins where it ended: nobody is among the last each time.
async fn pass_all(link: &Consul, held: &[Held<Receipt>]) -> Result<HashSet<usize>> {
    let first = link.passed.load(Ordering::Relaxed) % held.len().max(1);
    let mut passing = Vec::new();
    for (position, held) in held.iter().enumerate().cycle().skip(first).take(held.len()) {
        if is_ttl(&held.receipt.registration) {
            passing.push(pass_one(link, position, &held.receipt.registration));
        }
    }
    let answers: Vec<_> = stream::iter(passing).buffer_unordered(PASSES).try_collect().await?;
    Ok(answers.into_iter().filter_map(|(position, known)| (!known).then_some(position)).collect())
}

async fn pass_one(link: &Consul, position: usize, registration: &Registration) -> Result<(usize, bool)> {
    let is_known = pass(link, registration).await?;
    link.passed.fetch_add(1, Ordering::Relaxed);
    Ok((position, is_known))
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

/// What to ask the agent for: few endpoints by name, else everything that discox has made.
fn agent_filter(held: &[Held<Receipt>]) -> String {
    if held.len() <= FEW {
        catalogue::filter("", held.iter().map(|held| &*held.record))
    } else {
        "\"discox\" in Meta".to_owned()
    }
}

/// The agent's records by endpoint.
struct Rivals<'a>(HashMap<(&'a str, i64), Vec<&'a Service>>);

impl<'a> Rivals<'a> {
    fn of(services: &'a Services) -> Self {
        let mut rivals = HashMap::<_, Vec<_>>::new();
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
