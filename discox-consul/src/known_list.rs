//! What is known of a service's list, and what the next answer changes of it.
//!
//! Consul answers every change with the whole list, of which nearly all is byte for byte what it was. Of each instance
//! a fingerprint is kept. Where the bytes that arrive are as long as the instance that came next in the last answer,
//! and have its fingerprint, they are that instance: a JSON object ends where it ends, whatever follows. Only what is
//! otherwise is parsed. The list is never held as text.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    iter::zip,
    sync::Arc,
    vec,
};

use bytes::Bytes;
use discox_core::backend::Change;
use serde_json::Deserializer;

use crate::{
    candidate::{Candidate, Rank, Served},
    client::{Body, Fault},
    elements::Elements,
    model::Instance,
};

/// The last answer, as far as the next one is compared with it.
#[derive(Debug, Default)]
pub(crate) struct KnownList {
    known: Vec<Known>,
    hasher: RandomState,
}

/// An instance of the last answer.
#[derive(Debug, Default)]
struct Known {
    fingerprint: u64,
    /// The length of its JSON; 0 when it is parsed anew in each answer.
    length: u32,
    /// None when it is not served.
    served: Option<(Arc<str>, Rank)>,
}

/// Reads an answer, and compares it with the last one.
pub(crate) struct ListReader {
    served: Arc<Served>,
    most: usize,
    elements: Elements,
    comparison: Comparison,
}

struct Comparison {
    hasher: RandomState,
    /// What is left of the last answer.
    before: vec::IntoIter<Known>,
    after: Vec<Known>,
    /// The attrs of those that were parsed, by their positions in `after`.
    attrs: Vec<(usize, Bytes)>,
    /// The endpoints of which an instance has come, changed or gone, with the position of the one to be served.
    affected: HashMap<Arc<str>, Option<usize>>,
    /// How far from the end of the last answer each endpoint was; made when it is needed first.
    from_end: Option<HashMap<Arc<str>, usize>>,
}

impl KnownList {
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// To read the next answer, of at most `most` instances.
    pub(crate) fn reader(self, served: Arc<Served>, most: usize) -> ListReader {
        let comparison = Comparison {
            hasher: self.hasher,
            before: self.known.into_iter(),
            after: Vec::new(),
            attrs: Vec::new(),
            affected: HashMap::new(),
            from_end: None,
        };
        ListReader { served, most, elements: Elements::default(), comparison }
    }
}

impl Body for ListReader {
    fn take(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let Self { served, most, elements, comparison } = self;
        elements.take(piece, |bytes, is_all| comparison.element(bytes, is_all, served, *most))
    }
}

impl ListReader {
    /// The list that was read, and its difference to the last one.
    ///
    /// # Errors
    /// The answer is not a list, or not all of it has come.
    pub(crate) fn finish(mut self) -> Result<(KnownList, Vec<Change>), Fault> {
        let Self { served, most, elements, comparison } = &mut self;
        elements.finish(|bytes, is_all| comparison.element(bytes, is_all, served, *most))?;
        Ok(self.comparison.finish())
    }
}

impl Comparison {
    /// Takes the element that these bytes begin with; its length, none when not all of it is there.
    fn element(
        &mut self,
        bytes: &[u8],
        is_all: bool,
        served: &Served,
        most: usize,
    ) -> Result<Option<usize>, Fault> {
        if self.after.len() >= most {
            return Err(Fault::TooMany(most));
        }
        if let Some(expected) = self.before.as_slice().first().filter(|expected| expected.length > 0) {
            let length = expected.length as usize;
            match bytes.get(..length) {
                None if !is_all => return Ok(None),
                Some(bytes) if self.hasher.hash_one(bytes) == expected.fingerprint => {
                    self.after.extend(self.before.next());
                    return Ok(Some(length));
                }
                _ => {}
            }
        }
        self.parse(bytes, is_all, served)
    }

    fn parse(&mut self, bytes: &[u8], is_all: bool, served: &Served) -> Result<Option<usize>, Fault> {
        let mut instances = Deserializer::from_slice(bytes).into_iter::<Instance>();
        let instance = match instances.next() {
            Some(Err(error)) if error.is_eof() && !is_all => return Ok(None),
            Some(Err(error)) => return Err(Fault::Malformed(error.to_string())),
            None => return Err(Fault::Malformed("the list has no end".into())),
            Some(Ok(instance)) => instance,
        };
        let length = instances.byte_offset();
        let candidate = served.candidate(&instance);
        if let Some(Candidate { endpoint, .. }) = &candidate {
            self.go_to(endpoint);
            self.affected.insert(endpoint.clone(), None);
        }
        let served = candidate.map(|Candidate { endpoint, attr, rank }| {
            self.attrs.push((self.after.len(), attr));
            (endpoint, rank)
        });
        let fingerprint = self.hasher.hash_one(bytes.get(..length).unwrap_or_default());
        self.after.push(Known { fingerprint, length: u32::try_from(length).unwrap_or_default(), served });
        Ok(Some(length))
    }

    /// What is expected next is what followed this endpoint in the last answer. What is left out by that has gone, or
    /// comes later, which makes no difference to what is reported.
    fn go_to(&mut self, endpoint: &Arc<str>) {
        let is_it = |known: &Known| known.served.as_ref().is_some_and(|(known, _)| known == endpoint);
        let left = self.before.as_slice();
        let left_out = if left.first().is_none_or(is_it) {
            0
        } else {
            let from_end = self.from_end.get_or_insert_with(|| {
                let known = zip(1.., left.iter().rev());
                known
                    .filter_map(|(from_end, known)| Some((known.served.as_ref()?.0.clone(), from_end)))
                    .collect()
            });
            match from_end.get(endpoint).and_then(|from_end| left.len().checked_sub(*from_end)) {
                Some(left_out) => left_out,
                None => return,
            }
        };
        for known in self.before.by_ref().take(left_out + 1) {
            self.affected.extend(known.served.map(|(endpoint, _)| (endpoint, None)));
        }
    }

    fn finish(mut self) -> (KnownList, Vec<Change>) {
        for known in self.before {
            self.affected.extend(known.served.map(|(endpoint, _)| (endpoint, None)));
        }
        let mut several = Vec::new();
        for (position, known) in self.after.iter().enumerate() {
            let Some((endpoint, rank)) = &known.served else { continue };
            let Some(best) = self.affected.get_mut(endpoint) else { continue };
            let Some(other) = *best else {
                *best = Some(position);
                continue;
            };
            several.extend([position, other]);
            if self
                .after
                .get(other)
                .and_then(|other| other.served.as_ref())
                .is_some_and(|(_, other)| rank > other)
            {
                *best = Some(position);
            }
        }
        // Which of several records of an endpoint is served must be known in each answer, with its attr.
        for position in several {
            if let Some(known) = self.after.get_mut(position) {
                known.length = 0;
            }
        }
        let attr = |position| {
            let found = self.attrs.binary_search_by_key(&position, |(position, _)| *position).ok()?;
            self.attrs.get(found).map(|(_, attr)| attr.clone())
        };
        let change = |(endpoint, best)| match best {
            None => Some(Change::Delete(endpoint)),
            // One that was not parsed was the only one of its endpoint, and is served already.
            Some(position) => attr(position).map(|attr| Change::Put(endpoint, attr)),
        };
        let changes = self.affected.into_iter().filter_map(change).collect();
        (KnownList { known: self.after, hasher: self.hasher }, changes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{collections::BTreeMap, sync::Mutex};

    use discox_core::{
        BackendType, RegisterConfig,
        backend::WarnOnce,
        record::{Record, Service},
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::layout::{self, Stamp};

    const MOST: usize = 1_000;

    pub(crate) fn served(include_warning: bool) -> Arc<Served> {
        let service = Service::parse("/p", "demo").unwrap();
        let skips = Arc::new(Mutex::new(WarnOnce::new(BackendType::Consul, service.clone())));
        Arc::new(Served { service, include_warning, skips })
    }

    /// What a watcher is told, and what it shows by that.
    pub(crate) struct Watcher {
        served: Arc<Served>,
        list: KnownList,
        shown: BTreeMap<Arc<str>, Bytes>,
        parsed: usize,
        told: usize,
    }

    impl Watcher {
        pub(crate) fn new(served: Arc<Served>) -> Self {
            Self { served, list: KnownList::default(), shown: BTreeMap::new(), parsed: 0, told: 0 }
        }

        /// Reads an answer that comes in pieces of this length, and says whether it is a list.
        pub(crate) fn reads(&mut self, answer: &[u8], piece: usize) -> bool {
            let mut reader = std::mem::take(&mut self.list).reader(self.served.clone(), MOST);
            let is_list = answer.chunks(piece).all(|piece| reader.take(piece).is_ok());
            self.parsed = reader.comparison.attrs.len();
            let Some((list, changes)) = is_list.then(|| reader.finish().ok()).flatten() else {
                self.shown.clear();
                return false;
            };
            (self.list, self.told) = (list, changes.len());
            for change in changes {
                match change {
                    Change::Put(endpoint, attr) => drop(self.shown.insert(endpoint, attr)),
                    Change::Delete(endpoint) => drop(self.shown.remove(&endpoint)),
                    other => panic!("{other:?}"),
                }
            }
            true
        }

        pub(crate) fn shown(&self) -> &BTreeMap<Arc<str>, Bytes> {
            &self.shown
        }

        fn shows(&self) -> Vec<(&str, &str)> {
            self.shown.iter().map(|(endpoint, attr)| (&**endpoint, str::from_utf8(attr).unwrap())).collect()
        }
    }

    /// What is to be shown of an answer, by parsing all of it; none where it is not a list.
    pub(crate) fn parsed_in_full(answer: &[u8], served: &Served) -> Option<BTreeMap<Arc<str>, Bytes>> {
        let instances: Vec<Instance> = serde_json::from_slice(answer).ok()?;
        let mut best = BTreeMap::<_, (Rank, Bytes)>::new();
        for Candidate { endpoint, attr, rank } in instances.iter().filter_map(|one| served.candidate(one)) {
            match best.get(&endpoint) {
                Some((known, _)) if *known >= rank => {}
                _ => drop(best.insert(endpoint, (rank, attr))),
            }
        }
        Some(best.into_iter().map(|(endpoint, (_, attr))| (endpoint, attr)).collect())
    }

    /// A record of discox, as Consul answers it.
    fn ours(prefix: &str, attr: &str, started: u64, status: &str) -> Value {
        let record = Record::parse(&RegisterConfig {
            discover_prefix: prefix.into(),
            service_name: "demo".into(),
            service_endpoint: "10.0.0.1:80".into(),
            ..Default::default()
        })
        .unwrap();
        let mut meta = layout::meta(&record, attr, &Stamp::after(None, record.incarnation));
        meta.insert("discox-started".into(), format!("{started:020}-7"));
        let mut instance = foreign("demo", "10.0.0.1", 80, status);
        instance["Service"]["Meta"] = json!(meta);
        instance
    }

    fn foreign(name: &str, address: &str, port: i64, status: &str) -> Value {
        json!({
            "Node": {"Address": "10.9.9.9"},
            "Service": {"ID": format!("{name}-{address}"), "Service": name, "Address": address, "Port": port, "Meta": null},
            "Checks": [{"CheckID": "c", "Status": status, "Output": ""}],
        })
    }

    fn folded(instances: Vec<Value>, include_warning: bool) -> Vec<(String, String)> {
        let mut watcher = Watcher::new(served(include_warning));
        assert!(watcher.reads(json!(instances).to_string().as_bytes(), 100));
        watcher.shows().into_iter().map(|(endpoint, attr)| (endpoint.to_owned(), attr.to_owned())).collect()
    }

    fn one(endpoint: &str, attr: &str) -> Vec<(String, String)> {
        vec![(endpoint.into(), attr.into())]
    }

    #[test]
    fn of_several_records_the_newest_that_passes_is_served() {
        let (old, new) = (|status| ours("/p", "old", 1, status), |status| ours("/p", "new", 2, status));
        let at = "10.0.0.1:80";
        assert_eq!(folded(vec![new("passing"), old("passing")], false), one(at, "new"));
        assert_eq!(folded(vec![old("passing"), new("passing")], false), one(at, "new"));
        assert_eq!(folded(vec![old("passing"), new("critical")], false), one(at, "old"));
        assert_eq!(folded(vec![new("warning"), old("passing")], true), one(at, "old"));
        assert_eq!(folded(vec![new("warning")], true), one(at, "new"));
        assert_eq!(folded(vec![new("warning")], false), []);
        assert_eq!(
            folded(vec![foreign("demo", "10.0.0.1", 80, "passing"), old("passing")], false),
            one(at, "old")
        );
    }

    #[test]
    fn of_one_incarnation_on_two_agents_what_was_written_last_is_served() {
        let (mut first, mut second) = (ours("/p", "a", 1, "passing"), ours("/p", "b", 1, "passing"));
        (first["Service"]["ModifyIndex"], second["Service"]["ModifyIndex"]) = (json!(7), json!(9));
        assert_eq!(folded(vec![second, first], false), one("10.0.0.1:80", "b"));
    }

    #[test]
    fn others_prefixes_names_and_damage_are_left_out() {
        let mut damaged = ours("/p", "xyz", 1, "passing");
        damaged["Service"]["Meta"]["discox-attr-00"] = json!("x");
        let instances = vec![
            ours("/q", "other", 1, "passing"),
            damaged,
            foreign("Demo", "10.0.0.2", 80, "passing"),
            foreign("demo", "10.0.0.3", 0, "passing"),
            foreign("demo", "", 81, "passing"),
        ];
        assert_eq!(folded(instances, false), one("10.9.9.9:81", "{}"));
    }

    #[test]
    fn only_what_is_otherwise_is_parsed() {
        let mut watcher = Watcher::new(served(false));
        let address = |i: usize| format!("10.0.0.{i}");
        let mut list: Vec<_> = (0..100).map(|i| foreign("demo", &address(i), 80, "passing")).collect();
        let mut after = |list: &[Value]| {
            assert!(watcher.reads(json!(list).to_string().as_bytes(), 999));
            assert_eq!(watcher.shown.len(), list.len());
            (watcher.parsed, watcher.told)
        };
        assert_eq!(after(&list), (100, 100));
        assert_eq!(after(&list), (0, 0));
        list[50]["Service"]["Meta"] = json!({"a": "b"});
        assert_eq!(after(&list), (1, 1), "one changes");
        list[60]["Checks"][0]["Output"] = json!("all is well");
        assert_eq!(after(&list), (1, 1), "one changes without meaning");
        list.insert(30, foreign("demo", "10.0.1.1", 80, "passing"));
        assert_eq!(after(&list), (1, 1), "one comes");
        list.push(foreign("demo", "10.0.1.2", 80, "passing"));
        assert_eq!(after(&list), (1, 1), "one comes, at the end");
        list.remove(10);
        assert_eq!(after(&list), (1, 2), "one goes: what follows is parsed, and known from then on");
        list.drain(40..80);
        assert_eq!(after(&list), (1, 41), "many go");
        list.truncate(20);
        assert_eq!(after(&list).0, 0, "the last ones go");
    }

    /// Whatever answer follows whatever other: what is shown is what a full parse of the last one says.
    #[test]
    fn no_change_is_missed() {
        let mut random = fastrand::Rng::with_seed(19);
        for _ in 0..200 {
            let served = served(random.bool());
            let mut watcher = Watcher::new(served.clone());
            let mut list: Vec<Value> = Vec::new();
            for _ in 0..30 {
                for _ in 0..random.usize(..4) {
                    mutate(&mut list, &mut random);
                }
                let mut answer = if random.u8(..4) == 0 {
                    serde_json::to_vec_pretty(&list).unwrap()
                } else {
                    serde_json::to_vec(&list).unwrap()
                };
                if random.u8(..8) == 0 {
                    damage(&mut answer, &mut random);
                }
                let full = parsed_in_full(&answer, &served);
                assert_eq!(watcher.reads(&answer, random.usize(1..2_000)), full.is_some());
                assert_eq!(watcher.shown, full.unwrap_or_default(), "{}", String::from_utf8_lossy(&answer));
            }
        }
    }

    /// One thing that happens in a catalogue, or does not.
    fn mutate(list: &mut Vec<Value>, random: &mut fastrand::Rng) {
        let status = |random: &mut fastrand::Rng| {
            *random.choice(&["passing", "passing", "warning", "critical", "maintenance"]).unwrap()
        };
        let at = random.usize(..=list.len());
        if random.u8(..3) == 0 || list.len() < 3 {
            let status = status(random);
            let (attr, started) = (random.u8(..4).to_string(), random.u64(1..5));
            list.insert(
                at,
                match random.u8(..8) {
                    0 => ours("/q", &attr, started, status),
                    1 => foreign("Demo", "10.0.0.1", 80, status),
                    2..=4 => ours("/p", &attr, started, status),
                    _ => foreign("demo", &format!("10.0.0.{}", random.u8(..9)), random.i64(78..82), status),
                },
            );
            return;
        }
        let other = random.usize(..list.len());
        let Some(instance) = list.get_mut(at) else { return };
        match random.u8(..12) {
            0 => drop(list.remove(at)),
            1 => list.swap(at, other),
            2 => drop(list.drain(at..).take(3).count()),
            3 => {
                let copy = instance.clone();
                list.insert(other, copy);
            }
            4 => instance["Service"]["Port"] = json!(random.i64(79..82)),
            5 => instance["Service"]["Meta"]["discox-started"] = json!(format!("{:020}-7", random.u64(1..5))),
            6 => instance["Service"]["Meta"] = json!({"a": random.u8(..3).to_string()}),
            7 => instance["Service"]["ModifyIndex"] = json!(random.u64(..5)),
            8 => instance["Service"]["Address"] = json!(""),
            9 => instance["Node"]["Address"] = json!(format!("10.0.0.{}", random.u8(..9))),
            10 => instance["Checks"][0]["Output"] = json!("x".repeat(random.usize(..40))),
            _ => instance["Checks"][0]["Status"] = json!(status(random)),
        }
    }

    fn damage(answer: &mut Vec<u8>, random: &mut fastrand::Rng) {
        let at = random.usize(..answer.len());
        match random.u8(..3) {
            0 => answer.truncate(at),
            1 => answer[at] = random.u8(..),
            _ => answer.insert(at, *random.choice(br#"[]{},:" 0"#).unwrap()),
        }
    }
}
