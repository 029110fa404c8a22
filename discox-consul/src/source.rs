//! Discovery of one service, by blocking queries.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
};

use discox_core::{
    Cause, Denial, Error, ErrorKind, Result,
    backend::{Change, Exceeded, Listing, Source, WarnOnce, Watch, WhyGone, jittered},
    record::Service,
};
use tokio::time::{Instant, sleep_until};

use crate::{
    agent::Consul,
    client::{Health, Hold},
    dedup_endpoints::dedup_endpoints,
    pacing::{self, Answered, Next, Position},
    query_slots::Watching,
    why_gone::why_gone,
};

/// Discovery of one service: see [`discox_core::backend::Source`].
#[derive(Clone, Debug)]
pub struct ConsulSource {
    link: Arc<Consul>,
    service: Service,
    include_warning: bool,
    skips: Arc<Mutex<WarnOnce>>,
}

impl ConsulSource {
    pub(crate) fn new(link: Arc<Consul>, service: Service, include_warning: bool) -> Self {
        let skips = link.connector.skips(&service);
        Self { link, service, include_warning, skips }
    }

    fn read(&self, health: Health) -> Result<Listing> {
        let most = self.link.connector.settings.max_endpoints;
        if health.instances.len() > most {
            return Err(self.link.here(Exceeded::Endpoints(most).into()));
        }
        Ok(dedup_endpoints(health.instances, &self.service, self.include_warning, &self.skips))
    }

    /// The registry is lost as if it could not be reached: what is missing may be alive, and come back soon.
    fn went_back(&self, from: u64, to: u64) -> Error {
        let message = format!(
            "the index went back from {from} to {to}: Consul has lost its state, or an earlier one was restored"
        );
        self.link.here(Error::new(ErrorKind::Unavailable, message).answered())
    }

    fn datacenter(&self) -> Option<&str> {
        self.link.connector.settings.consul.datacenter.as_deref()
    }

    /// An empty list is no list when we may not read it.
    async fn permitted(&self, health: Health) -> Result<Health> {
        if health.instances.is_empty() {
            let (client, failed) = (&self.link.client, |fault| self.link.failed(fault));
            let may_read = client.may_read(self.service.name(), self.datacenter());
            if health.filtered_by_acl || may_read.await.map_err(failed)? == Some(false) {
                client.forget_token();
                let token = self.link.connector.settings.consul.token.is_some();
                let denial = if token { Denial::MissingRights } else { Denial::NoCredentials };
                let message = "the list is empty because reading the service or its nodes is not permitted";
                return Err(self.link.here(Error::denied(denial, message)));
            }
        }
        Ok(health)
    }

    /// The next answer that is not that of `index`, if there is one before the query's wait ends. With `index` 0 the
    /// query is not held. `had_instances` is what the last answer had: when there are none at the same index, they
    /// can only be hidden from us.
    async fn ask(self, index: u64, had_instances: bool, not_before: Instant) -> Result<Answer> {
        sleep_until(not_before).await;
        let client = &self.link.client;
        let failed = |fault| self.link.failed(fault);
        if index == 0 {
            let began = Instant::now();
            let health = client.health(self.service.name(), self.datacenter()).await.map_err(failed)?;
            return Ok(Answer { health: self.permitted(health).await?, began });
        }
        let wait = self.link.slots.wait();
        let slot = self.link.slots.take(wait).await?;
        let began = Instant::now();
        let hold = Hold { wait, ..self.link.connector.hold() };
        let health = client.health_after(self.service.name(), self.datacenter(), index, hold).await;
        slot.over();
        let health = health.map_err(failed)?;
        let is_known = health.index == index && !had_instances;
        Ok(Answer { health: if is_known { health } else { self.permitted(health).await? }, began })
    }
}

impl Source for ConsulSource {
    type Watch = ConsulWatch;

    async fn open(&self) -> Result<(Listing, ConsulWatch)> {
        let Answer { health, began, .. } = self.clone().ask(0, false, Instant::now()).await?;
        let watch = ConsulWatch {
            position: Position::first(health.index),
            had_instances: !health.instances.is_empty(),
            // The first change is reported at once.
            not_before: began,
            asked: None,
            has_followed: false,
            _watching: self.link.slots.watching(),
            source: self.clone(),
        };
        Ok((self.read(health)?, watch))
    }
}

/// What follows a list: see [`discox_core::backend::Watch`].
pub struct ConsulWatch {
    source: ConsulSource,
    position: Position,
    /// Whether the last answer had instances.
    had_instances: bool,
    not_before: Instant,
    /// The query that is under way. It is kept when `next` is cancelled: the agent would go on with an
    /// abandoned one to its end.
    asked: Option<Asked>,
    /// It has reported more than its list.
    has_followed: bool,
    _watching: Watching,
}

/// A query under way.
type Asked = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// An answer, and when it was asked for.
struct Answer {
    health: Health,
    began: Instant,
}

impl Watch for ConsulWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        let Self { source, position, had_instances, not_before, .. } = self;
        let ask = || Box::pin(source.clone().ask(position.index(), *had_instances, *not_before));
        let answer = self.asked.get_or_insert_with(|| ask()).await;
        self.asked = None;
        self.has_followed = true;
        let Answer { health, began } = answer?;
        let (index, instances) = (health.index, health.instances.len());
        let (last, answered) = (self.position, Answered { index, instances, took: began.elapsed() });
        let (changes, position, pause) = match pacing::next(last, answered) {
            Next::Changed(position, pause) => {
                (vec![Change::Reset(self.source.read(health)?)], position, pause)
            }
            Next::Unchanged(position, pause) => (Vec::new(), position, pause),
            Next::WentBack => return Err(self.source.went_back(last.index(), index)),
        };
        self.position = position;
        self.had_instances = instances > 0;
        self.not_before = began + jittered(pause);
        Ok(changes)
    }

    fn why_gone(&mut self, endpoints: &[Arc<str>]) -> Option<WhyGone> {
        let ConsulSource { link, service, include_warning, .. } = self.source.clone();
        let (endpoints, is_first) = (endpoints.to_vec(), !self.has_followed);
        Some(Box::pin(async move {
            let mut causes = why_gone(link, service, include_warning, endpoints).await;
            // Of what is missing from a first list it is not known whether it was deregistered: Consul may have lost it.
            causes.retain(|(_, cause)| !is_first || !matches!(cause, Cause::Deregistered));
            causes
        }))
    }
}
