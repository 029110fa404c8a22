//! One event of a history.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::Cause;
#[cfg(feature = "serde")]
use crate::ages;

/// One event of a history: what happened, to which endpoint, when, and why.
///
/// [`Display`](fmt::Display) is one line without the time. With feature `serde` it is one flat object: `event` and what
/// belongs to it, `cause` and what belongs to it, `why` in words, `at` in RFC 3339.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HistoryEvent {
    /// Counts the events of this history from 1 on.
    pub number: u64,
    /// When, by the clock of this machine.
    pub at: SystemTime,
    /// When, by a clock that nobody sets.
    pub since: Instant,
    /// To which endpoint it happened; none is the whole service, or the connection.
    pub endpoint: Option<Arc<str>>,
    /// What happened.
    pub kind: EventKind,
    /// Why.
    pub cause: Cause,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "event", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum EventKind {
    /// Discovery: the endpoint is new in the cache.
    Added,
    /// Discovery: the endpoint has another attr. Registration: the attr of `update_attr` is in the registry.
    Changed,
    /// Discovery: the endpoint left the cache.
    Removed,
    /// Discovery: the endpoint is missing in the registry, and the grace after an outage keeps it in the cache.
    Held {
        /// When it leaves the cache, if the registry can be reached all the time until then.
        #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
        until: SystemTime,
    },
    /// Discovery: a held endpoint left the cache.
    Released,
    /// Discovery: a held endpoint is in the registry again; it never left the cache.
    Returned,
    /// Discovery: the whole list has been read and applied.
    Synced {
        /// How many endpoints the cache has.
        endpoints: usize,
    },
    /// Discovery: the watch lost its position, while the registry was well; the list is read again.
    Resynced,
    /// The registry, or the record of a registration, was lost.
    Lost,
    /// Discovery: the registry is back, and the list has been read.
    Recovered {
        /// How long it was lost.
        #[cfg_attr(feature = "serde", serde(rename = "after_seconds", serialize_with = "ages::seconds"))]
        after: Duration,
    },
    /// An attempt failed, for another reason than the one before.
    Failed,
    /// The connection goes to another member now.
    FailedOver {
        /// The member before.
        from: String,
        /// The member now.
        to: String,
    },
    /// Registration: the registry has acknowledged the record for the first time.
    Registered {
        /// How long the record outlives its process, as granted.
        #[cfg_attr(feature = "serde", serde(rename = "ttl_seconds", serialize_with = "ages::seconds"))]
        ttl: Duration,
    },
    /// Registration: the record is in the registry again.
    Repaired {
        /// How long after the loss.
        #[cfg_attr(feature = "serde", serde(rename = "after_seconds", serialize_with = "ages::seconds"))]
        after: Duration,
    },
    /// Registration: another incarnation holds the record.
    Superseded,
    /// Registration: the record was removed from the registry.
    Withdrawn,
    /// Registration: the record could not be removed from the registry.
    NotWithdrawn,
    /// The handle has ended.
    Stopped,
}

impl EventKind {
    /// One word, as it is printed and serialized: `removed`, `failed_over`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Held { .. } => "held",
            Self::Released => "released",
            Self::Returned => "returned",
            Self::Synced { .. } => "synced",
            Self::Resynced => "resynced",
            Self::Lost => "lost",
            Self::Recovered { .. } => "recovered",
            Self::Failed => "failed",
            Self::FailedOver { .. } => "failed_over",
            Self::Registered { .. } => "registered",
            Self::Repaired { .. } => "repaired",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
            Self::NotWithdrawn => "not_withdrawn",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for HistoryEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let Some(endpoint) = &self.endpoint {
            write!(f, " {}", endpoint.escape_debug())?;
        }
        match &self.kind {
            EventKind::Held { until } => {
                let left = until.duration_since(self.at).unwrap_or_default();
                write!(f, " by the grace for {:.1} s", left.as_secs_f64())?;
            }
            EventKind::Synced { endpoints } => write!(f, ", {endpoints} endpoints")?,
            EventKind::Recovered { after } | EventKind::Repaired { after } => {
                write!(f, " after {:.1} s", after.as_secs_f64())?;
            }
            EventKind::Registered { ttl } => write!(f, " with a TTL of {:.1} s", ttl.as_secs_f64())?,
            EventKind::FailedOver { from, to } => {
                write!(f, " from {} to {}", from.escape_debug(), to.escape_debug())?;
            }
            _ => {}
        }
        if self.cause.is_obvious() { Ok(()) } else { write!(f, ": {}", self.cause) }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for HistoryEvent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Flat<'a> {
            number: u64,
            #[serde(with = "humantime_serde")]
            at: SystemTime,
            #[serde(rename = "age_seconds", serialize_with = "ages::age")]
            since: Instant,
            endpoint: Option<&'a str>,
            #[serde(flatten)]
            kind: &'a EventKind,
            #[serde(flatten)]
            cause: &'a Cause,
            why: String,
        }
        let Self { number, at, since, endpoint, kind, cause } = self;
        let (number, at, since, why) = (*number, *at, *since, cause.to_string());
        Flat { number, at, since, endpoint: endpoint.as_deref(), kind, cause, why }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, cause: Cause) -> HistoryEvent {
        let (at, since) = (SystemTime::UNIX_EPOCH, tokio::time::Instant::now().into_std());
        HistoryEvent { number: 7, at, since, endpoint: Some("a:1".into()), kind, cause }
    }

    #[test]
    fn an_event_is_one_line() {
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(15);
        let held = event(EventKind::Held { until }, Cause::Missing);
        assert_eq!(
            held.to_string(),
            "held a:1 by the grace for 15.0 s: it is missing from the list that was read"
        );
        let check = |output: &str| Cause::CheckFailed {
            check: "web".into(),
            status: "critical".into(),
            output: output.into(),
        };
        let failed = event(EventKind::Removed, check("HTTP 500\n\u{1b}[2J"));
        assert_eq!(failed.to_string(), "removed a:1: its check `web` is critical: HTTP 500\\n\\u{1b}[2J");
        assert!(event(EventKind::Removed, check(&"x".repeat(100_000))).to_string().len() < 1_200);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn an_event_is_a_flat_object() {
        let cause = Cause::Superseded { by: "lease 1a2b".into() };
        let json = serde_json::to_value(event(EventKind::Superseded, cause)).unwrap();
        assert_eq!(json["event"], "superseded");
        assert_eq!(json["cause"], "superseded");
        assert_eq!(json["by"], "lease 1a2b");
        assert_eq!(json["at"], "1970-01-01T00:00:00Z");
        assert_eq!(json["endpoint"], "a:1");
        let until = SystemTime::UNIX_EPOCH;
        for kind in
            [EventKind::Held { until }, EventKind::Removed, EventKind::Recovered { after: Duration::ZERO }]
        {
            let name = kind.as_str();
            assert_eq!(serde_json::to_value(event(kind, Cause::Unknown)).unwrap()["event"], name);
        }
    }
}
