//! Discovery of one service, by blocking queries.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use discox_core::{
    Denial, Error, Result,
    backend::{Change, Exceeded, Skips, Snapshot, Source, Watch, jittered},
    key::Service,
};
use tokio::time::{Instant, sleep_until};

use crate::{
    client::{Health, Hold},
    fold::fold,
    link::Consul,
    turns::Watching,
};

/// Between the beginnings of two queries when changes come thick and fast: they are told together.
const FLOOR: Duration = Duration::from_millis(100);
/// To which it doubles while they go on, and with which a watch begins: where everybody comes back at once, each change
/// wakes all who watch.
const BUSY_FLOOR: Duration = Duration::from_millis(400);
/// Doublings from the one to the other.
const BUSY: u32 = 2;
/// And this much more for each instance of a long list, which costs time to send and to read.
const FLOOR_PER_INSTANCE: Duration = Duration::from_micros(50);
/// Between two queries when nothing has changed: with the jitter taken off, more than a second.
const QUIET: Duration = Duration::from_millis(1500);

/// Discovery of one service: see [`discox_core::backend::Source`].
#[derive(Clone, Debug)]
pub struct ConsulSource {
    link: Arc<Consul>,
    service: Service,
    include_warning: bool,
    skips: Arc<Mutex<Skips>>,
}

impl ConsulSource {
    pub(crate) fn new(link: Arc<Consul>, service: Service, include_warning: bool) -> Self {
        let skips = link.connector.skips(&service);
        Self { link, service, include_warning, skips }
    }

    fn read(&self, health: Health) -> Result<Snapshot> {
        let most = self.link.connector.settings.max_endpoints;
        if health.instances.len() > most {
            return Err(self.link.here(Exceeded::Endpoints(most).into()));
        }
        Ok(fold(health.instances, &self.service, self.include_warning, &self.skips))
    }

    fn datacenter(&self) -> Option<&str> {
        self.link.connector.settings.datacenter.as_deref()
    }

    /// An empty list is no list when we may not read it.
    async fn permitted(&self, health: Health) -> Result<Health> {
        if health.instances.is_empty() {
            let (client, failed) = (&self.link.client, |fault| self.link.failed(fault));
            let may_read = client.may_read(self.service.name(), self.datacenter());
            if health.filtered_by_acl || may_read.await.map_err(failed)? == Some(false) {
                client.forget_token();
                let token = self.link.connector.settings.token.is_some();
                let denial = if token { Denial::MissingRights } else { Denial::NoCredentials };
                let message = "the list is empty because reading the service or its nodes is not permitted";
                return Err(self.link.here(Error::denied(denial, message)));
            }
        }
        Ok(health)
    }

    /// The next answer that is not that of `index`, if there is one before the query's wait ends. `some` is
    /// whether that one had instances: without a new index they can only be out of our sight.
    async fn ask(self, index: u64, some: bool, not_before: Instant) -> Result<Answer> {
        sleep_until(not_before).await;
        let client = &self.link.client;
        let failed = |fault| self.link.failed(fault);
        if index == 0 {
            let began = Instant::now();
            let health = client.health(self.service.name(), self.datacenter()).await.map_err(failed)?;
            return Ok(Answer { health: self.permitted(health).await?, began, in_time: true });
        }
        let wait = self.link.turns.wait();
        let turn = self.link.turns.take(wait).await?;
        let began = Instant::now();
        let hold = Hold { wait, ..self.link.connector.hold() };
        let health = client.health_after(self.service.name(), self.datacenter(), index, hold).await;
        turn.over();
        let in_time = began.elapsed() >= wait;
        let health = health.map_err(failed)?;
        let unchanged = health.index == index && !some;
        Ok(Answer { health: if unchanged { health } else { self.permitted(health).await? }, began, in_time })
    }
}

impl Source for ConsulSource {
    type Watch = ConsulWatch;

    async fn open(&self) -> Result<(Snapshot, ConsulWatch)> {
        let Answer { health, began, .. } = self.clone().ask(0, false, Instant::now()).await?;
        let watch = ConsulWatch {
            index: health.index,
            let_go: false,
            some: !health.instances.is_empty(),
            // The first change is told at once.
            not_before: began,
            busy: BUSY,
            asked: None,
            _watching: self.link.turns.watching(),
            source: self.clone(),
        };
        Ok((self.read(health)?, watch))
    }
}

/// What follows a list: see [`discox_core::backend::Watch`].
pub struct ConsulWatch {
    source: ConsulSource,
    /// Where the last answer was; 0 begins anew.
    index: u64,
    /// The last query was let go before its time, and with nothing new: when a snapshot is restored, Consul answers so
    /// with what was there before it, and would hold the next query as long as the restored index is behind.
    let_go: bool,
    /// It had instances.
    some: bool,
    not_before: Instant,
    /// Answers in succession that did not keep us waiting.
    busy: u32,
    /// The query that is under way. It is kept when `next` is cancelled: the agent would go on with an
    /// abandoned one to its end.
    asked: Option<Asked>,
    _watching: Watching,
}

/// A query under way.
type Asked = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// An answer, and when it was asked for.
struct Answer {
    health: Health,
    began: Instant,
    /// It came when the query's wait had ended, or was not held.
    in_time: bool,
}

impl Watch for ConsulWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        loop {
            let Self { source, index, let_go, some, not_before, .. } = self;
            let (index, some, not_before) = (*index, *some, *not_before);
            let behind = if *let_go { 0 } else { index };
            let asked =
                self.asked.get_or_insert_with(|| Box::pin(source.clone().ask(behind, some, not_before)));
            let answer = asked.await;
            self.asked = None;
            let Answer { health, began, in_time } = answer?;
            let (next, news) = follow(index, health.index);
            let floor = floor(health.instances.len(), self.busy);
            self.index = next;
            self.let_go = news == News::None && !in_time;
            self.some = !health.instances.is_empty();
            self.not_before = began + jittered(if news == News::Ahead { floor } else { QUIET.max(floor) });
            self.busy = if began.elapsed() < floor { self.busy.saturating_add(1) } else { 0 };
            if news != News::None {
                return Ok(vec![Change::Reset(self.source.read(health)?)]);
            }
        }
    }
}

/// What an answer's index says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum News {
    /// Nothing has changed.
    None,
    /// The list has changed.
    Ahead,
    /// The index does not go on from the last one: the list is what it is now.
    Anew,
}

/// Where to go on from, by Consul's rules: an index that went back, or is none, begins anew.
fn follow(last: u64, now: u64) -> (u64, News) {
    match now {
        0 => (0, News::Anew),
        _ if last == 0 => (now, News::Anew),
        _ if now < last => (0, News::Anew),
        _ if now == last => (now, News::None),
        _ => (now, News::Ahead),
    }
}

/// Between the beginnings of two queries for a list of this length, of which this many were answered at once.
fn floor(instances: usize, busy: u32) -> Duration {
    let quiet = FLOOR + FLOOR_PER_INSTANCE * u32::try_from(instances).unwrap_or(u32::MAX);
    let busy = FLOOR.saturating_mul(2_u32.saturating_pow(busy)).min(BUSY_FLOOR);
    quiet.max(busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_grows_with_the_list_and_while_changes_go_on() {
        let millis = |instances, busy| floor(instances, busy).as_millis();
        assert_eq!([0, 1, 2, 3, u32::MAX].map(|busy| millis(0, busy)), [100, 200, 400, 400, 400]);
        assert_eq!([0, 9].map(|busy| millis(10_000, busy)), [600, 600]);
    }

    #[test]
    fn an_index_that_goes_back_begins_anew() {
        assert_eq!(follow(5, 5), (5, News::None));
        assert_eq!(follow(5, 9), (9, News::Ahead));
        assert_eq!(follow(141, 12), (0, News::Anew));
        assert_eq!(follow(0, 12), (12, News::Anew));
        assert_eq!(follow(5, 0), (0, News::Anew));
    }
}
