//! How instants and errors of a status are serialized: as ages in seconds, and as text.

use std::time::{Duration, Instant};

use serde::Serializer;

use crate::Error;

/// Seconds since an instant.
pub(crate) fn age<S: Serializer>(since: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    seconds(&elapsed(*since), serializer)
}

/// Seconds since an instant, if there is one.
pub(crate) fn age_of_some<S: Serializer>(since: &Option<Instant>, serializer: S) -> Result<S::Ok, S::Error> {
    match since {
        Some(since) => serializer.serialize_some(&elapsed(*since).as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

/// A duration in seconds.
pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// A duration in seconds, if there is one.
pub(crate) fn seconds_of_some<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&duration.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

/// What an error says, if there is one.
pub(crate) fn text<S: Serializer>(error: &Option<Error>, serializer: S) -> Result<S::Ok, S::Error> {
    match error {
        Some(error) => serializer.collect_str(error),
        None => serializer.serialize_none(),
    }
}

/// A value in words.
pub(crate) fn display<T: std::fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn elapsed(since: Instant) -> Duration {
    tokio::time::Instant::now().into_std().saturating_duration_since(since)
}
