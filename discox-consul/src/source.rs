//! Discovery of one service, by blocking queries.

use std::{future::Future, mem, pin::Pin, sync::Arc};

use discox_core::{
    Cause, Result,
    backend::{Change, Listing, Source, Watch, WhyGone, jittered},
    record::Service,
};
use tokio::time::{Instant, sleep_until};

use crate::{
    agent::Consul,
    candidate::Served,
    client::Hold,
    known_list::KnownList,
    pacing::{self, Answered, Next, Position},
    query_slots::Watching,
    why_gone::why_gone,
};

/// Discovery of one service: see [`discox_core::backend::Source`].
#[derive(Clone, Debug)]
pub struct ConsulSource {
    link: Arc<Consul>,
    served: Arc<Served>,
}

impl ConsulSource {
    pub(crate) fn new(link: Arc<Consul>, service: Service, include_warning: bool) -> Self {
        let skips = link.connector.skips(&service);
        Self { link, served: Arc::new(Served { service, include_warning, skips }) }
    }

    fn service(&self) -> &str {
        self.served.service.name()
    }

    fn datacenter(&self) -> Option<&str> {
        self.link.connector.settings.consul.datacenter.as_deref()
    }

    /// An empty list is no list when we may not read it.
    async fn permitted(&self, is_filtered: bool) -> Result<()> {
        let (client, failed) = (&self.link.client, |fault| self.link.failed(fault));
        let may_read = client.may_read(self.service(), self.datacenter());
        if is_filtered || may_read.await.map_err(failed)? == Some(false) {
            client.forget_token();
            let message = "the list is empty because reading the service or its nodes is not permitted";
            return Err(self.link.hidden(message));
        }
        Ok(())
    }

    /// The next answer that is not that of `index`, if there is one before the query's wait ends. With `index` 0 the
    /// query is not held. `last` is the last answer: where it had instances and there are none at the same index, they
    /// can only be hidden from us.
    async fn ask(self, index: u64, last: KnownList, not_before: Instant) -> Result<Answer> {
        sleep_until(not_before).await;
        let client = &self.link.client;
        let failed = |fault| self.link.failed(fault);
        let was_empty = last.is_empty();
        let mut reader = last.reader(self.served.clone(), self.link.connector.settings.max_endpoints);
        let (head, began) = if index == 0 {
            let began = Instant::now();
            (client.list(self.service(), self.datacenter(), &mut reader).await, began)
        } else {
            let wait = self.link.slots.wait();
            let slot = self.link.slots.take(wait).await?;
            let began = Instant::now();
            let hold = Hold { wait, ..self.link.connector.hold() };
            let head = client.list_after(self.service(), self.datacenter(), index, hold, &mut reader).await;
            slot.over();
            (head, began)
        };
        let head = head.map_err(failed)?;
        let (list, changes) = reader.finish().map_err(failed)?;
        let is_known = index != 0 && head.index == index && was_empty;
        if list.is_empty() && !is_known {
            self.permitted(head.filtered_by_acl).await?;
        }
        Ok(Answer { index: head.index, list, changes, began })
    }
}

impl Source for ConsulSource {
    type Watch = ConsulWatch;

    async fn open(&self) -> Result<(Listing, ConsulWatch)> {
        let Answer { index, list, changes, began } =
            self.clone().ask(0, KnownList::default(), Instant::now()).await?;
        let put =
            |change| if let Change::Put(endpoint, attr) = change { Some((endpoint, attr)) } else { None };
        let listing = changes.into_iter().filter_map(put).collect();
        let watch = ConsulWatch {
            position: Position::first(index),
            list,
            // The first change is reported at once.
            not_before: began,
            asked: None,
            has_followed: false,
            _watching: self.link.slots.watching(),
            source: self.clone(),
        };
        Ok((listing, watch))
    }
}

/// What follows a list: see [`discox_core::backend::Watch`].
pub struct ConsulWatch {
    source: ConsulSource,
    position: Position,
    /// The last answer; a query that is under way has it.
    list: KnownList,
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

/// An answer.
struct Answer {
    index: u64,
    list: KnownList,
    /// Its difference to the last one.
    changes: Vec<Change>,
    /// When it was asked for.
    began: Instant,
}

impl Watch for ConsulWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        let Self { source, position, list, not_before, .. } = self;
        let mut ask = || Box::pin(source.clone().ask(position.index(), mem::take(list), *not_before));
        let answer = self.asked.get_or_insert_with(|| ask()).await;
        self.asked = None;
        self.has_followed = true;
        let Answer { index, list, changes, began } = answer?;
        let answered = Answered { index, instances: list.len(), took: began.elapsed() };
        let (position, pause) = match pacing::next(self.position, answered) {
            Next::Changed(position, pause) | Next::Unchanged(position, pause) => (position, pause),
            Next::WentBack => return Err(self.source.link.went_back(self.position.index(), index)),
        };
        self.position = position;
        self.list = list;
        self.not_before = began + jittered(pause);
        Ok(changes)
    }

    fn why_gone(&mut self, endpoints: &[Arc<str>]) -> Option<WhyGone> {
        let ConsulSource { link, served } = self.source.clone();
        let (endpoints, is_first) = (endpoints.to_vec(), !self.has_followed);
        Some(Box::pin(async move {
            let mut causes = why_gone(link, served.service.clone(), served.include_warning, endpoints).await;
            // Of what is missing from a first list it is not known whether it was deregistered: Consul may have lost it.
            causes.retain(|(_, cause)| !is_first || !matches!(cause, Cause::Deregistered));
            causes
        }))
    }
}
