//! What a registration is doing.

use std::{fmt, time::Instant};

use crate::Error;
#[cfg(feature = "serde")]
use crate::ages;

/// What a registration is doing.
///
/// With feature `serde` it is serialized with ages in seconds instead of instants.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RegisterStatus {
    /// What it is doing.
    pub state: RegisterState,
    /// Since when.
    #[cfg_attr(feature = "serde", serde(rename = "since_seconds", serialize_with = "ages::age"))]
    pub since: Instant,
    /// Attempts to connect or to register that failed since it was last registered.
    pub attempts: u32,
    /// What failed last, even when it is long mended.
    #[cfg_attr(feature = "serde", serde(serialize_with = "ages::text"))]
    pub last_error: Option<Error>,
    /// When the registry last confirmed the record.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "last_confirmed_seconds", serialize_with = "ages::age_of_some")
    )]
    pub last_confirmed: Option<Instant>,
    /// How long the record outlives its process, as the registry granted it.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "granted_ttl_seconds", serialize_with = "ages::seconds_of_some")
    )]
    pub granted_ttl: Option<std::time::Duration>,
    /// How often, since `start`, the record was registered again after it was lost or taken over.
    pub registered_again: u64,
    /// How often, since `start`, the record or the connection was lost.
    pub outages: u64,
}

/// The states of a registration.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum RegisterState {
    /// Not started. Left by `start` and `stop`.
    New,
    /// In the registry, as of the last heart beat. Left when a heart beat or the connection is lost,
    /// and by `stop`.
    Registered,
    /// Not known to be in the registry, and being worked on. Left by success, by finding the record
    /// in another incarnation's hands, and by `stop`.
    Retrying,
    /// Another incarnation holds the record; nothing is taken back. Left when that record is gone,
    /// and by `stop`.
    Superseded,
    /// Ended for good: by `stop`, or with its shared connection.
    Stopped,
}

impl fmt::Display for RegisterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::New => "new",
            Self::Registered => "registered",
            Self::Retrying => "retrying",
            Self::Superseded => "superseded",
            Self::Stopped => "stopped",
        })
    }
}

impl RegisterStatus {
    pub(crate) fn new() -> Self {
        Self {
            state: RegisterState::New,
            since: now(),
            attempts: 0,
            last_error: None,
            last_confirmed: None,
            granted_ttl: None,
            registered_again: 0,
            outages: 0,
        }
    }

    pub(crate) fn enter(&mut self, state: RegisterState) {
        if self.state != state {
            self.state = state;
            self.since = now();
        }
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.attempts = self.attempts.saturating_add(1);
        self.last_error = Some(error.clone());
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
