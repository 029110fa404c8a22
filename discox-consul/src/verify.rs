//! The heart beat: keeps records alive, and finds those that are lost.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::Ordering,
};

use discox_core::{
    ErrorKind, Result,
    backend::{Held, Loss},
};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    agent::Consul,
    catalogue::{self, FEW},
    check,
    layout::{self, Stamp},
    model::{Registration, Service, Services},
    record::{Receipt, has_current_token, is_ttl, or_denied, pass, put_again},
    registrar::retreat,
};

/// Requests of one heart beat that are under way at once.
const AT_ONCE: usize = 16;

/// What became of the records, by their positions and in that order.
type Losses = BTreeMap<usize, Loss>;

/// Passes the checks and compares the records. What is denied to all requests, such as an unknown token, is denied
/// to all records; each is then registered, and told of, by itself.
pub(crate) async fn verify(link: &Consul, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
    let beat = link.scan.begin();
    match find_losses(link, held).await.inspect(|_| beat.finish()) {
        Err(error) if error.kind() == ErrorKind::Denied => {
            for held in held {
                link.connector.placements.denied(link.agent, &held.receipt.registration.id);
            }
            Ok((0..held.len()).map(|position| (position, Loss::Denied)).collect())
        }
        losses => Ok(losses?.into_iter().collect()),
    }
}

async fn find_losses(link: &Consul, held: &[Held<Receipt>]) -> Result<Losses> {
    let mut losses = pass_all(link, held).await?;
    if !losses.is_empty() && losses.len() == held.len() && losses.values().all(|loss| *loss == Loss::Denied) {
        return Ok(losses);
    }
    let records = catalogue::of_node(link, held, &agent_filter(held)).await?;
    let unchecked = without_check(link, held).await?;
    let by_service = catalogue::losses(link, held).await?;
    for (position, loss) in unchecked.into_iter().chain(records.losses).chain(by_service) {
        losses.entry(position).or_insert(loss);
    }
    retreat_all(link, held, &records.services, &mut losses).await?;
    put_with_current_token(link, held, &mut losses).await?;
    Ok(losses)
}

/// Passes all TTL checks, and finds those that the agent does not know, or that we may not pass. A round that was cut
/// short, because the agent is slow, is followed by one that begins where it ended: no record is among the last each
/// time.
async fn pass_all(link: &Consul, held: &[Held<Receipt>]) -> Result<Losses> {
    let first = link.passed.load(Ordering::Relaxed) % held.len().max(1);
    let mut passing = Vec::new();
    for (position, held) in held.iter().enumerate().cycle().skip(first).take(held.len()) {
        if is_ttl(&held.receipt.registration) {
            passing.push(pass_one(link, position, &held.receipt.registration));
        }
    }
    let answers: Vec<_> = stream::iter(passing).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

async fn pass_one(
    link: &Consul,
    position: usize,
    registration: &Registration,
) -> Result<Option<(usize, Loss)>> {
    let answer = pass(link, registration).await.map(|is_known| (!is_known).then_some(Loss::Gone));
    let loss = or_denied(link, registration, answer)?;
    link.passed.fetch_add(1, Ordering::Relaxed);
    Ok(loss.map(|loss| (position, loss)))
}

/// Records whose check is to be run by Consul and is not there.
async fn without_check(link: &Consul, held: &[Held<Receipt>]) -> Result<Losses> {
    let checked = |held: &Held<Receipt>| !is_ttl(&held.receipt.registration);
    if !held.iter().any(checked) {
        return Ok(Losses::new());
    }
    let filter = format!("Name == \"{}\"", check::HEALTH_CHECK);
    let checks = link.client.checks(&filter).await.map_err(|fault| link.failed(fault))?;
    let missing = held
        .iter()
        .enumerate()
        .filter(|(_, held)| checked(held) && !checks.contains_key(&held.receipt.registration.check.id));
    Ok(missing.map(|(position, _)| (position, Loss::Altered)).collect())
}

/// Removes our records of endpoints that another incarnation has taken over.
async fn retreat_all(
    link: &Consul,
    held: &[Held<Receipt>],
    services: &Services,
    losses: &mut Losses,
) -> Result<()> {
    let rivals = Rivals::of(services);
    for (position, held) in held.iter().enumerate() {
        if rivals.newer_than(held) {
            losses.insert(position, Loss::Superseded);
        }
        if losses.get(&position) == Some(&Loss::Superseded) {
            let registration = &held.receipt.registration;
            let is_here = services.contains_key(&registration.id);
            match retreat(link, registration, is_here).await {
                // It is left, and removed when we may.
                Err(error) if error.kind() == ErrorKind::Denied => {}
                retreated => retreated?,
            }
        }
    }
    Ok(())
}

/// Puts the records again that the agent was given with another token than the one in use: it goes on with that one,
/// also to tell the catalogue that a check has failed.
async fn put_with_current_token(link: &Consul, held: &[Held<Receipt>], losses: &mut Losses) -> Result<()> {
    let is_due = |(position, held): &(usize, &Held<Receipt>)| {
        !losses.contains_key(position) && !has_current_token(link, &held.receipt.registration.id)
    };
    let due = held.iter().enumerate().filter(is_due);
    let putting: Vec<_> =
        due.map(|(position, held)| put_again(link, position, &held.receipt.registration)).collect();
    let denied: Vec<_> = stream::iter(putting).buffer_unordered(AT_ONCE).try_collect().await?;
    losses.extend(denied.into_iter().flatten());
    Ok(())
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
