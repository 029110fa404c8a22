//! From the named records of another system to endpoints: several records may show one endpoint, and one record
//! several. In discox's own layout there is no fold: there the name is the endpoint.
//!
//! A name is in one of two states:
//!
//! - *good*: its value was read. It shows the endpoints of its last good value, for as long as its key lives: a value
//!   that cannot be read changes nothing. Left when the key is gone.
//! - *unknown*: no value of it could be read, or there is none. Left by a value that can.
//!
//! An endpoint shows the attr of its best record, and goes with its last one.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    BackendType, ConnectionConfig,
    backend::{Change, Exceeded, Limits, Listing, WarnOnce},
    layout::{Decoded, Found},
    record::Service,
};

/// Makes endpoints of named records.
pub(super) struct Fold {
    service: Service,
    limits: Limits,
    records: Records,
    skips: WarnOnce,
}

/// What was read.
struct Records {
    named: HashMap<Arc<str>, Named>,
    /// Which records show an endpoint. Never empty.
    showing: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// Counts what is written, so that the newest record of an endpoint is known.
    writes: u64,
    budget: Limits,
}

/// One record.
struct Named {
    found: Vec<Found>,
    written: u64,
}

impl Fold {
    /// For a service in another system's layout; none for one in discox's own.
    pub(super) fn of(backend: BackendType, service: &Service, settings: &ConnectionConfig) -> Option<Self> {
        service.is_named().then(|| Self {
            service: service.clone(),
            limits: Limits::new(settings),
            records: Records::new(Limits::new(settings)),
            skips: WarnOnce::new(backend, service.clone()),
        })
    }

    /// The endpoints of a whole list of named records, the oldest first.
    ///
    /// # Errors
    /// They are more than a service may have. What was known before stays.
    pub(super) fn reset(&mut self, list: Listing) -> Result<Listing, Exceeded> {
        let mut records = Records::new(self.limits.clone());
        for (name, value) in list {
            let found = match self.read(&name, &value) {
                Some(found) => found,
                None => match self.records.named.get(&name) {
                    Some(last_good) => last_good.found.clone(),
                    None => continue,
                },
            };
            records.put(name, found)?;
        }
        self.records = records;
        let showing = self.records.showing.keys();
        Ok(showing.filter_map(|endpoint| Some((endpoint.clone(), self.records.attr(endpoint)?))).collect())
    }

    /// What changes of named records, the oldest first, mean for endpoints.
    ///
    /// # Errors
    /// As [`Fold::reset`]; the changes up to there are known.
    pub(super) fn change(&mut self, changes: Vec<Change>) -> Result<Vec<Change>, Exceeded> {
        let mut touched = HashSet::new();
        let mut list = None;
        for change in changes {
            match change {
                Change::Put(name, value) => {
                    if let Some(found) = self.read(&name, &value) {
                        touched.extend(self.records.delete(&name));
                        touched.extend(found.iter().map(|found| found.endpoint.clone()));
                        self.records.put(name, found)?;
                    }
                }
                Change::Delete(name) => touched.extend(self.records.delete(&name)),
                Change::Reset(new) => {
                    touched.clear();
                    list = Some(self.reset(new)?);
                }
            }
        }
        let told = touched.into_iter().map(|endpoint| match self.records.attr(&endpoint) {
            Some(attr) => Change::Put(endpoint, attr),
            None => Change::Delete(endpoint),
        });
        Ok(list.map(Change::Reset).into_iter().chain(told).collect())
    }

    /// The endpoints of a value that are to be served; none if it cannot be read, which is told once.
    fn read(&mut self, name: &str, value: &Bytes) -> Option<Vec<Found>> {
        let (shape, format) = self.service.foreign()?;
        match (format.decode?)(name, value, &self.service, &shape.options) {
            Ok(Decoded { mut found, complaint }) => {
                found.retain(|found| found.enabled || shape.options.include_disabled);
                if let Some(complaint) = complaint {
                    self.skips.tell(name, format_args!("record read in part: {complaint}"));
                }
                Some(found)
            }
            Err(reason) => {
                self.skips.skip(name, &reason.to_string());
                self.skips.suggest_layout(name, value);
                None
            }
        }
    }
}

impl Records {
    fn new(budget: Limits) -> Self {
        Self { named: HashMap::new(), showing: HashMap::new(), writes: 0, budget }
    }

    /// A record that was written just now.
    fn put(&mut self, name: Arc<str>, found: Vec<Found>) -> Result<(), Exceeded> {
        self.delete(&name);
        let mut kept: Vec<Found> = Vec::with_capacity(found.len());
        self.writes += 1;
        let mut outcome = Ok(());
        for found in found {
            // A record that names an endpoint twice means the first.
            if kept.iter().any(|kept| kept.endpoint == found.endpoint) {
                continue;
            }
            outcome = self.budget.take(size(&found));
            if outcome.is_err() {
                break;
            }
            self.showing.entry(found.endpoint.clone()).or_default().push(name.clone());
            kept.push(found);
        }
        self.named.insert(name, Named { found: kept, written: self.writes });
        outcome
    }

    /// Forgets a record, and returns the endpoints that it showed.
    fn delete(&mut self, name: &str) -> Vec<Arc<str>> {
        let Some(Named { found, .. }) = self.named.remove(name) else { return Vec::new() };
        for found in &found {
            self.budget.give_back(size(found));
            if let Some(names) = self.showing.get_mut(&found.endpoint) {
                names.retain(|other| **other != *name);
                if names.is_empty() {
                    self.showing.remove(&found.endpoint);
                }
            }
        }
        found.into_iter().map(|found| found.endpoint).collect()
    }

    /// The attr of the best record of an endpoint: one that is enabled, else the newest.
    fn attr(&self, endpoint: &str) -> Option<Bytes> {
        let shown_by = self.showing.get(endpoint)?.iter().filter_map(|name| {
            let Named { found, written } = self.named.get(name)?;
            let found = found.iter().find(|found| *found.endpoint == *endpoint)?;
            Some((found.enabled, *written, found))
        });
        shown_by
            .max_by_key(|(enabled, written, _)| (*enabled, *written))
            .map(|(_, _, found)| found.attr.clone())
    }
}

/// What it takes of a budget.
fn size(found: &Found) -> usize {
    found.endpoint.len() + found.attr.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::layout::{Directory, Format, Reason, Update};

    /// A record is `endpoint=attr`, several separated by a space, `-` before one that is disabled; `?` cannot be read.
    static FORMAT: Format = Format {
        directory: |_, _| Ok(Directory { path: "demo".into(), is_deep: false }),
        name: |record, _, _| Ok(record.endpoint.to_string()),
        encode: None,
        decode: Some(decode),
        update: Update::InPlace,
        default_prefix: Some(""),
        looks_like: |_, _| false,
    };

    fn decode(
        _: &str,
        value: &[u8],
        _: &Service,
        _: &crate::LayoutOptions,
    ) -> std::result::Result<Decoded, Reason> {
        let text = std::str::from_utf8(value).map_err(|_| Reason::new("not UTF-8"))?;
        let one = |part: &str| {
            let (endpoint, attr) = part.split_once('=').ok_or_else(|| Reason::new("no attr"))?;
            let enabled = !endpoint.starts_with('-');
            let endpoint = endpoint.trim_start_matches('-').into();
            Ok(Found { endpoint, attr: Bytes::copy_from_slice(attr.as_bytes()), enabled })
        };
        let found = text.split_whitespace().map(one).collect::<std::result::Result<_, Reason>>()?;
        Ok(Decoded { found, complaint: None })
    }

    fn fold(include_disabled: bool) -> Fold {
        let options = crate::LayoutOptions { include_disabled, ..Default::default() };
        let service = Service::with_format(&FORMAT, options);
        Fold::of(BackendType::Etcd, &service, &ConnectionConfig::default()).unwrap()
    }

    fn put(name: &str, value: &str) -> Change {
        Change::Put(name.into(), Bytes::copy_from_slice(value.as_bytes()))
    }

    fn delete(name: &str) -> Change {
        Change::Delete(name.into())
    }

    fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
        changes.sort_by_key(|change| match change {
            Change::Put(endpoint, _) | Change::Delete(endpoint) => endpoint.clone(),
            Change::Reset(_) => "".into(),
        });
        changes
    }

    #[test]
    fn discox_has_no_fold() {
        let service = Service::parse("/p", "demo").unwrap();
        assert!(Fold::of(BackendType::Etcd, &service, &ConnectionConfig::default()).is_none());
    }

    #[test]
    fn an_endpoint_goes_with_its_last_record_and_shows_the_newest() {
        let mut fold = fold(false);
        assert_eq!(fold.change(vec![put("x", "a:1=1")]), Ok(vec![put("a:1", "1")]));
        assert_eq!(fold.change(vec![put("y", "a:1=2")]), Ok(vec![put("a:1", "2")]));
        assert_eq!(fold.change(vec![delete("y")]), Ok(vec![put("a:1", "1")]));
        assert_eq!(fold.change(vec![put("y", "a:1=3"), put("x", "a:1=4")]), Ok(vec![put("a:1", "4")]));
        assert_eq!(fold.change(vec![delete("x"), delete("y")]), Ok(vec![delete("a:1")]));
        assert_eq!(fold.change(vec![delete("x")]), Ok(vec![]));
    }

    #[test]
    fn a_record_may_have_several_endpoints_and_change_them() {
        let mut fold = fold(false);
        let told = fold.change(vec![put("x", "a:1=1 b:1=1 a:1=2")]).map(sorted);
        assert_eq!(told, Ok(vec![put("a:1", "1"), put("b:1", "1")]));
        let told = fold.change(vec![put("x", "b:1=2 c:1=2")]).map(sorted);
        assert_eq!(told, Ok(vec![delete("a:1"), put("b:1", "2"), put("c:1", "2")]));
    }

    #[test]
    fn what_cannot_be_read_keeps_its_last_good_value_as_long_as_its_key_lives() {
        let mut fold = fold(false);
        assert_eq!(fold.change(vec![put("x", "?")]), Ok(vec![]));
        assert_eq!(fold.change(vec![put("x", "a:1=1")]), Ok(vec![put("a:1", "1")]));
        assert_eq!(fold.change(vec![put("x", "?")]), Ok(vec![]));
        let list = vec![("x".into(), Bytes::from_static(b"?")), ("y".into(), Bytes::from_static(b"?"))];
        assert_eq!(fold.reset(list), Ok(vec![("a:1".into(), Bytes::from_static(b"1"))]));
        assert_eq!(fold.change(vec![delete("x")]), Ok(vec![delete("a:1")]));
        assert_eq!(fold.reset(vec![("x".into(), Bytes::from_static(b"?"))]), Ok(vec![]));
    }

    #[test]
    fn disabled_records_are_left_out_or_come_last() {
        let mut some = fold(false);
        assert_eq!(some.change(vec![put("x", "a:1=1")]), Ok(vec![put("a:1", "1")]));
        assert_eq!(some.change(vec![put("x", "-a:1=2")]), Ok(vec![delete("a:1")]));
        let mut all = fold(true);
        assert_eq!(all.change(vec![put("x", "a:1=1")]), Ok(vec![put("a:1", "1")]));
        assert_eq!(all.change(vec![put("y", "-a:1=2")]), Ok(vec![put("a:1", "1")]));
        assert_eq!(all.change(vec![delete("x")]), Ok(vec![put("a:1", "2")]));
    }

    #[test]
    fn a_list_within_changes_counts_before_what_follows_it() {
        let mut fold = fold(false);
        assert!(fold.change(vec![put("x", "a:1=1"), put("y", "b:1=1")]).is_ok());
        let list = vec![("z".into(), Bytes::from_static(b"c:1=1"))];
        let told = fold.change(vec![put("w", "d:1=1"), Change::Reset(list.clone()), put("z", "c:1=2")]);
        let list = vec![("c:1".into(), Bytes::from_static(b"1"))];
        assert_eq!(told, Ok(vec![Change::Reset(list), put("c:1", "2")]));
    }

    #[test]
    fn more_than_a_service_may_have_is_refused_and_what_goes_makes_room() {
        let settings = ConnectionConfig { max_endpoints: 2, ..Default::default() };
        let service = Service::with_format(&FORMAT, Default::default());
        let mut fold = Fold::of(BackendType::Etcd, &service, &settings).unwrap();
        assert!(fold.change(vec![put("x", "a:1=1 b:1=1")]).is_ok());
        let list = vec![("y".into(), Bytes::from_static(b"a:1=1 b:1=1 c:1=1"))];
        assert_eq!(fold.reset(list), Err(Exceeded::Endpoints(2)));
        assert_eq!(fold.change(vec![put("y", "c:1=1")]), Err(Exceeded::Endpoints(2)));
        assert!(fold.change(vec![delete("x"), put("z", "c:1=1 d:1=1")]).is_ok());
    }

    /// What is to be shown, found out by looking at everything.
    fn shown(model: &BTreeMap<String, (usize, String)>) -> BTreeMap<String, String> {
        let mut best = BTreeMap::new();
        for (written, value) in model.values() {
            let mut seen = HashSet::new();
            for part in value.split_whitespace() {
                let (endpoint, attr) = part.split_once('=').unwrap();
                let (enabled, endpoint) = (!endpoint.starts_with('-'), endpoint.trim_start_matches('-'));
                if seen.insert(endpoint) {
                    let rank = (enabled, *written, attr.to_owned());
                    let entry = best.entry(endpoint.to_owned()).or_insert_with(|| rank.clone());
                    *entry = rank.max(entry.clone());
                }
            }
        }
        best.into_iter().map(|(endpoint, (_, _, attr))| (endpoint, attr)).collect()
    }

    fn value(random: &mut fastrand::Rng) -> String {
        if random.u8(..5) == 0 {
            return "?".to_owned();
        }
        let part = |random: &mut fastrand::Rng| {
            let disabled = if random.u8(..4) == 0 { "-" } else { "" };
            format!("{disabled}a:{}={}", random.u8(1..5), random.u16(..))
        };
        (0..random.usize(..4)).map(|_| part(random)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn agrees_with_a_look_at_everything_under_random_changes() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut fold = fold(true);
            let mut model: BTreeMap<String, (usize, String)> = BTreeMap::new();
            let mut told: BTreeMap<String, String> = BTreeMap::new();
            let mut written = 0;
            for _ in 0..60 {
                let mut write =
                    |model: &mut BTreeMap<_, _>, name: &str, value: &str, known: Option<String>| {
                        written += 1;
                        let good = if value == "?" { known } else { Some(value.to_owned()) };
                        good.map(|good| model.insert(name.to_owned(), (written, good)));
                    };
                let changes = if random.u8(..8) == 0 {
                    let list: Vec<_> = (0..random.usize(..6)).map(|n| (n, value(&mut random))).collect();
                    let before = std::mem::take(&mut model);
                    for (name, value) in &list {
                        let known = before.get(&name.to_string()).map(|(_, good)| good.clone());
                        write(&mut model, &name.to_string(), value, known);
                    }
                    let list = list.into_iter().map(|(name, value)| (name.to_string().into(), value.into()));
                    vec![Change::Reset(fold.reset(list.collect()).unwrap())]
                } else {
                    let changes: Vec<_> = (0..random.usize(..5))
                        .map(|_| {
                            let name = random.u8(..6).to_string();
                            if random.u8(..3) == 0 {
                                model.remove(&name);
                                return delete(&name);
                            }
                            let value = value(&mut random);
                            if value != "?" {
                                write(&mut model, &name, &value, None);
                            }
                            put(&name, &value)
                        })
                        .collect();
                    fold.change(changes).unwrap()
                };
                for change in changes {
                    match change {
                        Change::Put(endpoint, attr) => {
                            told.insert(endpoint.to_string(), String::from_utf8(attr.to_vec()).unwrap());
                        }
                        Change::Delete(endpoint) => drop(told.remove(&*endpoint)),
                        Change::Reset(list) => {
                            let text = |attr: Bytes| String::from_utf8(attr.to_vec()).unwrap();
                            told =
                                list.into_iter().map(|(name, attr)| (name.to_string(), text(attr))).collect();
                        }
                    }
                }
                assert_eq!(told, shown(&model), "seed {seed}");
            }
        }
    }
}
