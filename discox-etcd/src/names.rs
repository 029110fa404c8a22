//! Discovery of the names of services: the keys under a prefix, counted by service.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use discox_core::{
    Error, ErrorKind, Result,
    backend::{Change, Limits, Listing, Source, Watch},
    record::{Endpoint, Prefix},
};
use etcd_client::{EventType, GetOptions, GetResponse, WatchResponse};

use crate::{
    client::{
        Etcd,
        feed::News,
        streams::Purpose,
        watches::{Range, Watching},
    },
    error,
};

/// Keys a page. etcd counts the whole range for every page, so that they should be few.
const PAGE: i64 = 10_000;

/// The names of the services under a prefix.
pub struct EtcdNames {
    link: Arc<Etcd>,
    range: Arc<Keys>,
}

/// Follows them.
pub struct EtcdNamesWatch {
    link: Arc<Etcd>,
    range: Arc<Keys>,
    watching: Watching,
    records: Counts,
}

/// Where the records are.
struct Keys {
    /// `{prefix}/`.
    start: String,
    /// The first key after those that begin with `start`: `/` is followed by `0`.
    end: String,
}

/// How many records each service has.
type Counts = HashMap<Arc<str>, usize>;

impl EtcdNames {
    pub(crate) fn new(link: Arc<Etcd>, prefix: &Prefix) -> Self {
        let range = Keys { start: format!("{prefix}/"), end: format!("{prefix}0") };
        Self { link, range: Arc::new(range) }
    }

    /// Counts all records as of one revision, and returns it.
    async fn count(&self) -> Result<(Counts, i64)> {
        let mut records = Counts::new();
        let mut budget = Limits::new(&self.link.connector.settings);
        let (mut from, mut limit, mut revision) = (self.range.start.clone().into_bytes(), PAGE, 0);
        loop {
            let options = GetOptions::new().with_range(self.range.end.as_str()).with_keys_only();
            let options = options.with_limit(limit).with_revision(revision);
            let page = match self.link.get(Purpose::List, &from, options).await {
                Err(error) if error::is_too_large(&error) && limit > 1 => {
                    limit = (limit / 4).max(1);
                    continue;
                }
                page => page.map_err(|error| self.link.failed(error))?,
            };
            if revision == 0 {
                revision = page.header().map_or(0, |header| header.revision());
            }
            for name in page.kvs().iter().filter_map(|kv| self.range.service(kv.key())) {
                if let Some(count) = records.get_mut(name) {
                    *count += 1;
                } else {
                    budget.take(name.len()).map_err(|exceeded| self.link.here(exceeded.into()))?;
                    records.insert(name.into(), 1);
                }
            }
            match next_page(&page) {
                None if revision > 0 => return Ok((records, revision)),
                Some(next) if next > from => from = next,
                _ => return Err(self.link.here(Error::new(ErrorKind::Protocol, "the list makes no sense"))),
            }
        }
    }
}

impl Source for EtcdNames {
    type Watch = EtcdNamesWatch;

    async fn open(&self) -> Result<(Listing, EtcdNamesWatch)> {
        let (records, revision) = self.count().await?;
        let list = records.keys().map(|name| (name.clone(), Bytes::new())).collect();
        let (start, end) = (self.range.start.clone().into(), self.range.end.clone().into());
        let range = Range { start, end, revision: revision + 1 };
        let (watching, confirmed) = self.link.watch(range).await?;
        if confirmed < revision {
            let error = Error::new(ErrorKind::Stale, "the server is not where it was when it listed");
            return Err(self.link.here(error));
        }
        Ok((list, EtcdNamesWatch { link: self.link.clone(), range: self.range.clone(), watching, records }))
    }
}

impl Watch for EtcdNamesWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        loop {
            match self.watching.next().await.map_err(|error| self.link.here(error))? {
                News::Confirmed => return Ok(Vec::new()),
                News::Events(response) => {
                    let changes = self.range.changes(&mut self.records, &response);
                    if !changes.is_empty() {
                        return Ok(changes);
                    }
                }
            }
        }
    }
}

impl Keys {
    /// The service that a key is a record of; none for what no discovery would show.
    fn service<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        let below = std::str::from_utf8(key.strip_prefix(self.start.as_bytes())?).ok()?;
        let (name, endpoint) = below.split_once('/')?;
        (Endpoint::is_readable(endpoint) && Prefix::is_name(name)).then_some(name)
    }

    /// Counts what comes and goes, and says which services are there behind it.
    fn changes(&self, records: &mut Counts, response: &WatchResponse) -> Vec<Change> {
        let mut touched = BTreeSet::new();
        for event in response.events() {
            let Some((kv, name)) = event.kv().and_then(|kv| Some((kv, self.service(kv.key())?))) else {
                continue;
            };
            // A record that is written again has a higher version.
            let is_new = event.event_type() == EventType::Put && kv.version() == 1;
            let is_gone = event.event_type() == EventType::Delete;
            if is_new || is_gone {
                let count = records.entry(name.into()).or_default();
                *count = if is_new { *count + 1 } else { count.saturating_sub(1) };
                touched.insert(name);
            }
        }
        touched.into_iter().map(|name| change(records, name)).collect()
    }
}

/// What a service whose count has changed is now.
fn change(records: &mut Counts, name: &str) -> Change {
    if records.get(name).is_some_and(|count| *count > 0) {
        Change::Put(name.into(), Bytes::new())
    } else {
        records.remove(name);
        Change::Delete(name.into())
    }
}

/// The key that the next page begins with, if there is one.
fn next_page(page: &GetResponse) -> Option<Vec<u8>> {
    let last = page.kvs().last().filter(|_| page.more())?;
    Some([last.key(), &[0]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_records_directly_below_a_name_count() {
        let keys = Keys { start: "/p/".into(), end: "/p0".into() };
        assert_eq!(keys.service(b"/p/demo/10.0.0.1:80"), Some("demo"));
        for key in
            ["/p/demo", "/p/demo/", "/p/demo/no-port", "/p/a/demo/10.0.0.1:80", "/p//10.0.0.1:80", "/q/a/b:1"]
        {
            assert_eq!(keys.service(key.as_bytes()), None, "{key}");
        }
        assert_eq!(keys.service(b"/p/\xff/10.0.0.1:80"), None);
        let root = Keys { start: "/".into(), end: "0".into() };
        assert_eq!(root.service(b"/demo/10.0.0.1:80"), Some("demo"));
    }
}
