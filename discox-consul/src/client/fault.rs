//! Why a request failed.

use std::{error::Error as StdError, time::Duration};

use discox_core::Error;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Consul denies it to us: status and what it wrote.
    Denied(u16, String),
    /// The answer is not what Consul answers.
    Malformed(String),
    /// We do not trust the agent, or cannot say who we are; the error says why.
    Refused(Error),
    /// What was asked for cannot be, whenever it is asked again: what Consul wrote.
    Rejected(String),
    /// Consul said no for another reason: status and what it wrote.
    Status(u16, String),
    /// No answer within this time.
    TimedOut(Duration),
    /// The list is longer than this many bytes.
    TooLarge(usize),
    /// The list is longer than this many instances.
    TooMany(usize),
    /// The connection could not be made, or broke.
    Unreachable(Cause),
}

/// The client crate's own error.
pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// For requests that say what users have configured: 400 is an answer to that.
pub(super) fn or_rejected<T>(answer: Result<T>) -> Result<T> {
    answer.map_err(|fault| match fault {
        Fault::Status(400, said) => Fault::Rejected(said),
        fault => fault,
    })
}

pub(super) fn malformed(error: impl std::fmt::Display) -> Fault {
    Fault::Malformed(error.to_string())
}
