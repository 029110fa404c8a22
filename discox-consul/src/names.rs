//! Discovery of the names of services. Consul's catalogue has the names of all prefixes; whose a service is, its records
//! say.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use discox_core::{
    Result,
    backend::{Change, Limits, Listing, Source, Watch, jittered},
    record::Prefix,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep_until};

use crate::{
    agent::Consul,
    client::{Catalogue, Hold},
    layout,
    pacing::{self, Answered, Next, Position},
    query_slots::Watching,
};

/// Services that are looked at at once.
const AT_ONCE: usize = 8;

/// A service of another prefix may have become one of ours, or the other way round: after a change in the catalogue
/// all are looked at again, but not more often than this, and for a twentieth of the time at most.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(5);
const SHARE: u32 = 20;

/// The names of the services under a prefix.
#[derive(Clone, Debug)]
pub struct ConsulNames {
    link: Arc<Consul>,
    prefix: Prefix,
}

/// Follows them.
pub struct ConsulNamesWatch {
    source: ConsulNames,
    /// All names of the catalogue, and whether they are ours.
    names: BTreeMap<Arc<str>, bool>,
    /// Names that are to be looked at.
    unknown: BTreeSet<Arc<str>>,
    /// What was found and has not been told.
    changes: Vec<Change>,
    /// When all names are to be looked at again, if so.
    next_round: Option<Instant>,
    rounds_from: Instant,
    position: Position,
    not_before: Instant,
    /// The query that is under way, kept when `next` is cancelled: the agent would go on with it.
    asked: Option<Asked>,
    _watching: Watching,
}

/// A query under way.
type Asked = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// An answer, and when it was asked for.
struct Answer {
    catalogue: Catalogue,
    began: Instant,
}

impl ConsulNames {
    pub(crate) fn new(link: Arc<Consul>, prefix: Prefix) -> Self {
        Self { link, prefix }
    }

    fn datacenter(&self) -> Option<&str> {
        self.link.connector.settings.consul.datacenter.as_deref()
    }

    /// The next answer that is not that of `index`, if there is one before the query's wait ends. With `index` 0 the
    /// query is not held.
    async fn ask(self, index: u64, not_before: Instant) -> Result<Answer> {
        sleep_until(not_before).await;
        let client = &self.link.client;
        let (catalogue, began) = if index == 0 {
            let began = Instant::now();
            (client.names(self.datacenter()).await, began)
        } else {
            let wait = self.link.slots.wait();
            let slot = self.link.slots.take(wait).await?;
            let began = Instant::now();
            let hold = Hold { wait, ..self.link.connector.hold() };
            let catalogue = client.names_after(self.datacenter(), index, hold).await;
            slot.over();
            (catalogue, began)
        };
        let catalogue = self.permitted(catalogue.map_err(|fault| self.link.failed(fault))?).await?;
        Ok(Answer { catalogue, began })
    }

    /// No names are none when we may not read them.
    async fn permitted(&self, catalogue: Catalogue) -> Result<Catalogue> {
        if catalogue.names.is_empty() {
            let (client, failed) = (&self.link.client, |fault| self.link.failed(fault));
            let may_read = client.may_read("", self.datacenter());
            if catalogue.filtered_by_acl || may_read.await.map_err(failed)? == Some(false) {
                client.forget_token();
                let message = "there are no names because reading services or nodes is not permitted";
                return Err(self.link.hidden(message));
            }
        }
        Ok(catalogue)
    }

    /// Which of these services have a record that belongs to the prefix.
    async fn ours(&self, names: &BTreeSet<Arc<str>>) -> Result<Vec<(Arc<str>, bool)>> {
        let look = |name: Arc<str>| async move {
            let records = self.link.client.owned(&name, self.datacenter()).await;
            let records = records.map_err(|fault| self.link.failed(fault))?;
            let mut belong =
                records.iter().map(|record| layout::belongs(&record.service_meta, self.prefix.as_str()));
            Ok((name, belong.any(|belongs| belongs)))
        };
        let looks: Vec<_> = names.iter().cloned().map(look).collect();
        stream::iter(looks).buffer_unordered(AT_ONCE).try_collect().await
    }
}

impl Source for ConsulNames {
    type Watch = ConsulNamesWatch;

    async fn open(&self) -> Result<(Listing, ConsulNamesWatch)> {
        let Answer { catalogue, began } = self.clone().ask(0, Instant::now()).await?;
        let mut watch = ConsulNamesWatch {
            source: self.clone(),
            names: BTreeMap::new(),
            unknown: BTreeSet::new(),
            changes: Vec::new(),
            next_round: None,
            rounds_from: began,
            position: Position::first(catalogue.index),
            not_before: began,
            asked: None,
            _watching: self.link.slots.watching(),
        };
        watch.compare(catalogue)?;
        watch.look().await?;
        watch.next_round = None;
        let list = mem::take(&mut watch.changes).into_iter().filter_map(|change| match change {
            Change::Put(name, attr) => Some((name, attr)),
            _ => None,
        });
        Ok((list.collect(), watch))
    }
}

impl Watch for ConsulNamesWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        loop {
            if !self.unknown.is_empty() {
                self.look().await?;
            }
            if !self.changes.is_empty() {
                return Ok(mem::take(&mut self.changes));
            }
            let (source, position, not_before) = (&self.source, self.position, self.not_before);
            let ask = || Box::pin(source.clone().ask(position.index(), not_before));
            let next_round = self.next_round;
            tokio::select! {
                biased;
                answer = self.asked.get_or_insert_with(|| ask()) => {
                    self.asked = None;
                    if !self.answered(answer?)? {
                        return Ok(Vec::new());
                    }
                }
                () = sleep_until(next_round.unwrap_or(not_before)), if next_round.is_some() => {
                    self.next_round = None;
                    self.unknown.extend(self.names.keys().cloned());
                }
            }
        }
    }
}

impl ConsulNamesWatch {
    /// Whether the catalogue has changed.
    fn answered(&mut self, Answer { catalogue, began }: Answer) -> Result<bool> {
        let (last, index, instances) = (self.position, catalogue.index, catalogue.names.len());
        let (has_changed, position, pause) =
            match pacing::next(last, Answered { index, instances, took: began.elapsed() }) {
                Next::Changed(position, pause) => (true, position, pause),
                Next::Unchanged(position, pause) => (false, position, pause),
                Next::WentBack => return Err(self.source.link.went_back(last.index(), index)),
            };
        (self.position, self.not_before) = (position, began + jittered(pause));
        if has_changed {
            self.compare(catalogue)?;
        }
        Ok(has_changed)
    }

    /// Notes which names are new in the catalogue, and which are gone.
    fn compare(&mut self, catalogue: Catalogue) -> Result<()> {
        let mut budget = Limits::new(&self.source.link.connector.settings);
        let names = catalogue.names.into_keys().filter(|name| Prefix::is_name(name));
        let mut now = BTreeSet::<Arc<str>>::new();
        for name in names {
            budget.take(name.len()).map_err(|exceeded| self.source.link.here(exceeded.into()))?;
            now.insert(name.into());
        }
        let gone: Vec<_> = self.names.keys().filter(|name| !now.contains(*name)).cloned().collect();
        for name in gone {
            self.unknown.remove(&name);
            if self.names.remove(&name) == Some(true) {
                self.changes.push(Change::Delete(name));
            }
        }
        self.unknown.extend(now.into_iter().filter(|name| !self.names.contains_key(name)));
        self.next_round.get_or_insert(self.rounds_from);
        Ok(())
    }

    /// Looks at the names that are to be looked at.
    async fn look(&mut self) -> Result<()> {
        let began = Instant::now();
        let found = self.source.ours(&self.unknown).await?;
        if self.unknown.len() >= self.names.len() {
            let pause = BETWEEN_ROUNDS.max(began.elapsed() * SHARE);
            self.rounds_from = Instant::now() + jittered(pause);
        }
        self.unknown.clear();
        for (name, is_ours) in found {
            let was_ours = self.names.insert(name.clone(), is_ours).unwrap_or_default();
            match (was_ours, is_ours) {
                (false, true) => self.changes.push(Change::Put(name, Bytes::new())),
                (true, false) => self.changes.push(Change::Delete(name)),
                _ => {}
            }
        }
        Ok(())
    }
}
