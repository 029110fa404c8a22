//! Discovery: a list pinned to one revision, and the watch that follows it.

use std::{
    borrow::Cow,
    mem,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use discox_core::{
    BackendType, Error, ErrorKind, Result,
    backend::{Change, Limits, Listing, Source, WarnOnce, Watch, WhyGone, lock, oldest_first},
    record::Service,
};
use etcd_client::{GetOptions, GetResponse, KeyValue, WatchResponse};

use crate::{
    client::{
        Etcd,
        feed::News,
        streams::Purpose,
        watches::{Range, Watching},
    },
    error,
    why_gone::{Deleted, why_gone},
};

/// Keys a page. etcd counts the whole range for every page, so that they should be few.
const PAGE: i64 = 10_000;

/// Keys of the page after a record that was too long.
const NEXT_PAGE: i64 = 100;

/// Discovery of one service over one connection.
pub struct EtcdSource {
    link: Arc<Etcd>,
    directory: Arc<Directory>,
}

/// The changes of one service.
pub struct EtcdWatch {
    link: Arc<Etcd>,
    directory: Arc<Directory>,
    watching: Watching,
    /// What the last changes have deleted.
    deleted: Vec<Deleted>,
}

/// A part of a list.
struct Page {
    records: Vec<KeyValue>,
    /// The key that the next page begins with, if there is one.
    next: Option<Vec<u8>>,
    revision: i64,
}

/// Where the records of a service are.
struct Directory {
    service: Service,
    /// `{prefix}/{service}/`.
    start: String,
    /// The first key after those that begin with `start`: `/` is followed by `0`.
    end: String,
    skips: Mutex<WarnOnce>,
}

impl EtcdSource {
    pub(crate) fn new(link: Arc<Etcd>, service: &Service) -> Self {
        let directory = Directory {
            service: service.clone(),
            start: format!("{}/", service.directory()),
            end: format!("{}0", service.directory()),
            skips: Mutex::new(WarnOnce::new(BackendType::Etcd, service.clone())),
        };
        Self { link, directory: Arc::new(directory) }
    }

    /// Reads all records as of one revision, and returns it.
    async fn list(&self) -> Result<(Listing, i64)> {
        let (mut list, mut writes) = (Vec::new(), Vec::new());
        let is_named = self.directory.service.is_named();
        let mut budget = Limits::new(&self.link.connector.settings);
        let (mut from, mut limit, mut revision) = (self.directory.start.clone().into_bytes(), PAGE, 0);
        loop {
            let page = match self.page(&from, self.directory.options(limit, revision)).await {
                Ok(page) => page,
                Err(error) if error::is_too_large(&error) && limit > 1 => {
                    limit = (limit / 4).max(1);
                    continue;
                }
                Err(error) if error::is_too_large(&error) => {
                    limit = NEXT_PAGE;
                    self.step_over(&from, revision).await?
                }
                Err(error) => return Err(self.link.failed(error)),
            };
            if revision == 0 {
                revision = page.revision;
            }
            for kv in page.records {
                let written = kv.mod_revision();
                let (key, value) = kv.into_key_value();
                // Count unreadable keys too, so that an endless run of them hits the limit.
                budget.take(key.len() + value.len()).map_err(|exceeded| self.link.here(exceeded.into()))?;
                let Some(name) = self.directory.name(&key, &value) else { continue };
                list.push((name, Bytes::from(value)));
                if is_named {
                    writes.push(written);
                }
            }
            match page.next {
                None if revision > 0 => return Ok((oldest_first(list, &writes), revision)),
                Some(next) if next > from => from = next,
                _ => return Err(self.link.here(Error::new(ErrorKind::Protocol, "the list makes no sense"))),
            }
        }
    }

    async fn page(&self, from: &[u8], options: GetOptions) -> Result<Page, etcd_client::Error> {
        let mut page = self.link.get(Purpose::List, from, options).await?;
        let revision = page.header().map_or(0, |header| header.revision());
        Ok(Page { next: next_page(&page), revision, records: page.take_kvs() })
    }

    /// A page of one record that is longer than what is taken, without the record.
    async fn step_over(&self, from: &[u8], revision: i64) -> Result<Page> {
        let options = self.directory.options(1, revision).with_keys_only();
        let mut page = self.page(from, options).await.map_err(|error| self.link.failed(error))?;
        for kv in mem::take(&mut page.records) {
            self.directory.skip(kv.key(), "its value is longer than what is taken of one answer");
        }
        Ok(page)
    }

    /// Watches from the revision after this one, and returns when the server has confirmed it.
    async fn follow(&self, revision: i64) -> Result<EtcdWatch> {
        let (start, end) = (self.directory.start.clone().into(), self.directory.end.clone().into());
        let range = Range { start, end, revision: revision + 1 };
        let (watching, confirmed) = self.link.watch(range).await?;
        // A server that is behind what it has just listed has lost its data in between; it would
        // keep silent until it has caught up.
        if confirmed < revision {
            return Err(self
                .link
                .here(Error::new(ErrorKind::Stale, "the server is not where it was when it listed")));
        }
        Ok(EtcdWatch {
            link: self.link.clone(),
            directory: self.directory.clone(),
            watching,
            deleted: Vec::new(),
        })
    }
}

impl Source for EtcdSource {
    type Watch = EtcdWatch;

    async fn open(&self) -> Result<(Listing, EtcdWatch)> {
        let (list, revision) = self.list().await?;
        Ok((list, self.follow(revision).await?))
    }
}

impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        self.deleted.clear();
        loop {
            match self.watching.next().await.map_err(|error| self.link.here(error))? {
                News::Confirmed => return Ok(Vec::new()),
                News::Events(response) => {
                    let changes = self.directory.changes(&response);
                    if !changes.is_empty() {
                        self.deleted = self.directory.deleted(&response);
                        return Ok(changes);
                    }
                }
            }
        }
    }

    fn why_gone(&mut self, endpoints: &[Arc<str>]) -> Option<WhyGone> {
        let mut deleted = mem::take(&mut self.deleted);
        deleted.retain(|deleted| endpoints.contains(&deleted.endpoint));
        (!deleted.is_empty()).then(|| Box::pin(why_gone(self.link.clone(), deleted)) as WhyGone)
    }
}

impl Directory {
    /// The records that events have deleted.
    fn deleted(&self, response: &WatchResponse) -> Vec<Deleted> {
        let gone = response.events().iter().filter_map(|event| event.kv()).filter(|kv| kv.version() == 0);
        let deleted = gone.filter_map(|kv| {
            let endpoint = self.child(kv.key()).ok()??.into();
            Some(Deleted { endpoint, key: kv.key().to_vec(), revision: kv.mod_revision() })
        });
        deleted.collect()
    }

    /// For a page of so many keys.
    fn options(&self, limit: i64, revision: i64) -> GetOptions {
        GetOptions::new().with_range(self.end.as_str()).with_limit(limit).with_revision(revision)
    }

    fn changes(&self, response: &WatchResponse) -> Vec<Change> {
        response.events().iter().filter_map(|event| self.change(event.kv()?)).collect()
    }

    /// What an event tells. The version of a record that is there is 1 at least; a deletion's is 0.
    fn change(&self, kv: &KeyValue) -> Option<Change> {
        if kv.version() == 0 {
            self.child(kv.key()).ok().flatten().map(|endpoint| Change::Delete(endpoint.into()))
        } else {
            Some(Change::Put(self.name(kv.key(), kv.value())?, Bytes::copy_from_slice(kv.value())))
        }
    }

    /// The record that a key stands for; one that cannot be read is skipped with a warning.
    fn name(&self, key: &[u8], value: &[u8]) -> Option<Arc<str>> {
        match self.child(key) {
            Ok(endpoint) => endpoint.map(Arc::from),
            Err(reason) => {
                self.skip(key, reason);
                lock(&self.skips).suggest_layout(&self.bare(key), value);
                None
            }
        }
    }

    /// Warns of a record that is not shown, the first time.
    fn skip(&self, key: &[u8], reason: &str) {
        lock(&self.skips).skip(&self.bare(key), reason);
    }

    /// A key without the directory.
    fn bare<'a>(&self, key: &'a [u8]) -> Cow<'a, str> {
        String::from_utf8_lossy(key.strip_prefix(self.start.as_bytes()).unwrap_or(key))
    }

    /// The record that a key stands for, none for what lies deeper than records do, or why it cannot be read.
    fn child<'a>(&self, key: &'a [u8]) -> Result<Option<&'a str>, &'static str> {
        let Some(name) = key.strip_prefix(self.start.as_bytes()) else { return Ok(None) };
        if name.contains(&b'/') && !self.service.is_deep() {
            return Ok(None);
        }
        let name = std::str::from_utf8(name).map_err(|_| "its name is not UTF-8")?;
        self.service.reads(name).map(|()| Some(name))
    }
}

/// The key that the next page begins with, if there is one.
fn next_page(page: &GetResponse) -> Option<Vec<u8>> {
    let last = page.kvs().last().filter(|_| page.more())?;
    Some([last.key(), &[0]].concat())
}

#[cfg(test)]
mod tests {
    use discox_core::record::Endpoint;

    use super::*;

    fn directory() -> Directory {
        let service = Service::parse("/p", "demo").unwrap();
        Directory {
            start: "/p/demo/".into(),
            end: "/p/demo0".into(),
            skips: Mutex::new(WarnOnce::new(BackendType::Etcd, service.clone())),
            service,
        }
    }

    #[test]
    fn whatever_a_key_is_what_it_stands_for_is_an_endpoint() {
        let directory = directory();
        let examples: [&[u8]; 4] =
            [b"/p/demo/10.0.0.1:80", b"/p/demo/a/b:1", b"/p/demo/", b"/p/demo/\xff:80"];
        discox_testkit::fuzz::fuzz(&examples, |key| {
            if let Ok(Some(name)) = directory.child(key) {
                assert_eq!([b"/p/demo/", name.as_bytes()].concat(), key);
                assert!(Endpoint::is_readable(name));
            }
        });
    }

    #[test]
    fn only_what_lies_directly_in_the_directory_is_an_endpoint() {
        let directory = directory();
        assert_eq!(directory.child(b"/p/demo/10.0.0.1:80"), Ok(Some("10.0.0.1:80")));
        assert_eq!(directory.child(b"/p/demo/a/10.0.0.1:80"), Ok(None));
        assert_eq!(directory.child(b"/p/demo2/10.0.0.1:80"), Ok(None));
        assert!(directory.child(b"/p/demo/").is_err());
        assert!(directory.child(b"/p/demo/no-port").is_err());
        assert!(directory.child(b"/p/demo/\xff:80").is_err());
    }
}
