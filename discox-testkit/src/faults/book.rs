//! What is live and since when, and what a watcher may therefore have been told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::conformance::{Seen, What};

/// The endpoints of a service by what was done to them, not by what a registry says.
#[derive(Default)]
pub(crate) struct Book(Mutex<BTreeMap<String, Entry>>);

#[derive(Default)]
struct Entry {
    /// All attrs that were ever wanted, the current one last.
    attrs: Vec<String>,
    ended: Option<Instant>,
    /// It ended without a word, and its record may still be there.
    fading: bool,
    /// Somebody removed its record on purpose, on a healthy registry.
    removed_by_hand: bool,
    /// It may come and go as long as it is fading: its process is stopped and goes on.
    roams: bool,
}

/// What everybody should see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// The live endpoints and their attrs.
    pub(crate) live: BTreeMap<String, String>,
    /// Those of the dead that may still be seen, or not.
    pub(crate) fading: BTreeSet<String>,
}

/// What was wrong on the way, by kind.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Removals of live endpoints.
    pub(crate) live_removals: Vec<String>,
    /// Endpoints or attrs that never were, and endpoints that came back from the dead.
    pub(crate) wrong_adds: Vec<String>,
    /// Losses or recoveries told twice, or errors that are no loss.
    pub(crate) wrong_events: Vec<String>,
    /// How often it was told that the registry was lost.
    pub(crate) losses: usize,
}

impl Expected {
    /// Exactly these, with these attrs.
    pub(crate) fn only<const N: usize>(live: [(String, String); N]) -> Self {
        Self { live: live.into(), fading: BTreeSet::new() }
    }

    /// What is missing, too much, or other than expected; empty if nothing is.
    pub(crate) fn differences(&self, shown: &BTreeMap<String, String>) -> String {
        let missing = self.live.keys().filter(|endpoint| !shown.contains_key(*endpoint));
        let missing = missing.map(|endpoint| format!("{endpoint} is missing"));
        let shown = shown.iter().filter(|(endpoint, _)| !self.fading.contains(*endpoint));
        let other = shown.filter_map(|(endpoint, attr)| match self.live.get(endpoint) {
            None => Some(format!("{endpoint} is too much")),
            Some(wanted) if wanted != attr => Some(format!("{endpoint} has {attr:?} and not {wanted:?}")),
            Some(_) => None,
        });
        let all: Vec<_> = missing.chain(other).collect();
        let mut text = all.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        if all.len() > 8 {
            text += &format!(", and {} more", all.len() - 8);
        }
        text
    }
}

impl Book {
    /// The endpoint is live with this attr from now on: to be called before that is done.
    pub(crate) fn live(&self, endpoint: &str, attr: &str) {
        self.with(|book| {
            let entry = book.entry(endpoint.into()).or_default();
            entry.attrs.push(attr.into());
            entry.ended = None;
        });
    }

    /// This attr may be seen, too, for a while: somebody else writes it.
    pub(crate) fn also(&self, endpoint: &str, attr: &str) {
        self.with(|book| book.entry(endpoint.into()).or_default().attrs.insert(0, attr.into()));
    }

    /// The endpoint is not live any more: to be called before that is done.
    pub(crate) fn ended(&self, endpoint: &str) {
        self.with(|book| book.entry(endpoint.into()).or_default().ended = Some(Instant::now()));
    }

    /// The endpoint's process is killed: to be called before that is done. Until it is called
    /// [gone](Book::gone), it does not matter whether somebody shows it.
    pub(crate) fn died(&self, endpoint: &str) {
        self.ended(endpoint);
        self.with(|book| book.entry(endpoint.into()).or_default().fading = true);
    }

    /// The endpoint may be seen or not, again and again, until it is called [gone](Book::gone).
    pub(crate) fn roams(&self, endpoint: &str) {
        self.died(endpoint);
        self.with(|book| book.entry(endpoint.into()).or_default().roams = true);
    }

    /// From now on nobody may show the dead endpoint.
    pub(crate) fn gone(&self, endpoint: &str) {
        self.with(|book| book.entry(endpoint.into()).or_default().fading = false);
    }

    /// The endpoint's record is removed by hand, so that watchers may miss it until it is repaired.
    pub(crate) fn removed_by_hand(&self, endpoint: &str) {
        self.with(|book| book.entry(endpoint.into()).or_default().removed_by_hand = true);
    }

    /// What everybody should see.
    pub(crate) fn expected(&self) -> Expected {
        self.with(|book| {
            let mut expected = Expected::default();
            for (endpoint, entry) in book.iter() {
                if entry.fading {
                    expected.fading.insert(endpoint.clone());
                } else if let (None, Some(attr)) = (entry.ended, entry.attrs.last()) {
                    expected.live.insert(endpoint.clone(), attr.clone());
                }
            }
            expected
        })
    }

    /// Judges what a watcher was told.
    pub(crate) fn judge(&self, log: &[Seen]) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(first) = log.first().map(|seen| seen.at) else { return verdict };
        let mut gone = BTreeSet::new();
        let mut lost = false;
        let mut errors = 0_usize;
        self.with(|book| {
            for Seen { at, what } in log {
                let at_time = Said(*at - first, what);
                match what {
                    What::Put(endpoint, attr) => {
                        let known = book.get(endpoint);
                        let ever = known.is_some_and(|entry| entry.attrs.iter().any(|known| known == attr));
                        let risen = gone.contains(endpoint)
                            && known.is_some_and(|entry| {
                                !entry.roams && entry.ended.is_some_and(|ended| ended < *at)
                            });
                        if !ever || risen {
                            verdict.wrong_adds.push(at_time.to_string());
                        }
                    }
                    What::Delete(endpoint) => {
                        let excused = book.get(endpoint).is_some_and(|entry| {
                            entry.removed_by_hand || entry.ended.is_some_and(|ended| ended <= *at)
                        });
                        if !excused {
                            verdict.live_removals.push(at_time.to_string());
                        }
                        gone.insert(endpoint.clone());
                    }
                    What::Error(_) => errors += 1,
                    What::Lost(_) => {
                        verdict.losses += 1;
                        if std::mem::replace(&mut lost, true) {
                            verdict.wrong_events.push(at_time.to_string());
                        }
                    }
                    // The first list ends an outage that was there from the start.
                    What::Synced => lost = false,
                    What::Recovered => {
                        if !std::mem::replace(&mut lost, false) {
                            verdict.wrong_events.push(at_time.to_string());
                        }
                    }
                    What::Ended => {}
                }
            }
        });
        if errors != verdict.losses {
            verdict.wrong_events.push(format!("{errors} errors were told for {} losses", verdict.losses));
        }
        if lost {
            verdict.wrong_events.push("no recovery was told at the end".into());
        }
        verdict
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Entry>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Said<'a>(Duration, &'a What);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} s: {:?}", self.0.as_secs_f64(), self.1)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn seen(what: impl IntoIterator<Item = What>) -> Vec<Seen> {
        what.into_iter().map(|what| Seen { at: Instant::now(), what }).collect()
    }

    fn put(endpoint: &str, attr: &'static str) -> What {
        What::Put(endpoint.into(), Bytes::from_static(attr.as_bytes()))
    }

    #[tokio::test]
    async fn tells_right_from_wrong() {
        let book = Book::default();
        book.live("a", "1");
        book.live("a", "2");
        book.live("b", "1");
        book.ended("b");
        let log = seen([put("a", "1"), put("b", "1"), What::Synced, put("a", "2"), What::Delete("b".into())]);
        let verdict = book.judge(&log);
        assert!(verdict.live_removals.is_empty() && verdict.wrong_adds.is_empty(), "{verdict:?}");
        assert_eq!(book.expected().live, BTreeMap::from([("a".to_owned(), "2".to_owned())]));

        let log = seen([
            put("a", "3"),
            put("b", "1"),
            What::Delete("a".into()),
            What::Delete("b".into()),
            put("b", "1"),
        ]);
        let verdict = book.judge(&log);
        assert_eq!((verdict.live_removals.len(), verdict.wrong_adds.len()), (1, 2), "{verdict:?}");
        assert_eq!(book.judge(&seen([What::Recovered])).wrong_events.len(), 1);
    }
}
