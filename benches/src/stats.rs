//! Samples, and what is told of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is told of the samples of one thing.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Stat {
    /// The middle one.
    pub median: f64,
    /// All but a hundredth are at most this.
    pub p99: f64,
    /// How many there were.
    pub samples: usize,
}

impl Stat {
    /// Of these values, in any order.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let last = values.len().saturating_sub(1);
            values.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
        };
        Self { median: at(0.5), p99: at(0.99), samples: values.len() }
    }

    /// Of one value.
    pub fn one(value: f64) -> Self {
        Self::of(vec![value])
    }

    /// Of times, in milliseconds.
    pub fn millis(times: &[Duration]) -> Self {
        Self::of(times.iter().map(|time| time.as_secs_f64() * 1e3).collect())
    }
}
