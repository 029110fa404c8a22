//! How far a cache can be trusted.

use std::{fmt, time::Instant};

#[cfg(feature = "serde")]
use crate::ages;

/// How far a cache can be trusted, and since when. With feature `serde` it is serialized with ages in seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Freshness {
    /// What the cache shows.
    pub state: FreshnessState,
    /// Since when it is in that state.
    #[cfg_attr(feature = "serde", serde(rename = "since_seconds", serialize_with = "ages::age"))]
    pub since: Instant,
    /// When the watch itself last showed that the registry holds what the cache shows: by a list, a change,
    /// or word that nothing has changed. A connection that is alive does not count. None before the first list.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "last_confirmed_seconds", serialize_with = "ages::age_of_some")
    )]
    pub last_confirmed: Option<Instant>,
}

/// What a cache shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum FreshnessState {
    /// Nothing yet, or what an earlier discovery has left: the first list has not been read. Left by the first list
    /// and by the end.
    Empty,
    /// What the registry holds. Left when the registry is lost or discovery ends.
    Synced,
    /// What the registry last held; it cannot be reached. Left when it is back, and by the end.
    Stale,
    /// Discovery has ended; the last known endpoints stay. Left when another discovery begins.
    Ended,
}

impl Freshness {
    pub(super) fn empty() -> Self {
        Self { state: FreshnessState::Empty, since: now(), last_confirmed: None }
    }

    pub(super) fn enter(&mut self, state: FreshnessState) {
        (self.state, self.since) = (state, now());
        if state == FreshnessState::Synced {
            self.last_confirmed = Some(self.since);
        }
    }
}

impl fmt::Display for FreshnessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Empty => "empty",
            Self::Synced => "synced",
            Self::Stale => "stale",
            Self::Ended => "ended",
        })
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
