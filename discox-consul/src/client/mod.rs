//! The seam to the HTTP client. What is asked of a Consul agent is written once, in `calls.rs` and
//! `messages.rs`. A client crate does one thing, in the file of its name: it sends a request and reads
//! the answer. No type of a client crate leaves this module.

mod calls;
#[cfg(feature = "consulrs")]
mod consulrs;
mod exchange;
mod messages;
#[cfg(feature = "reqwest")]
mod reqwest;
mod token;

use std::{error::Error as StdError, time::Duration};

use discox_core::Error;

#[cfg(test)]
pub(crate) use self::messages::{Checks, Node};
pub(crate) use self::{
    calls::Health,
    exchange::{Client, Target, serving},
    messages::{Check, CheckDefinition, Instance, Pace, Probe, Registration, Service, Services},
    token::{Token, is_sendable},
};

#[cfg(not(any(feature = "consulrs", feature = "reqwest")))]
compile_error!("discox-consul needs a client crate: enable the feature `reqwest` or `consulrs`");

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Consul denies it to us: status and what it wrote.
    Denied(u16, String),
    /// The answer is not what Consul answers.
    Malformed(String),
    /// We do not trust the agent, or cannot say who we are; the error says why.
    Refused(Error),
    /// Consul said no for another reason: status and what it wrote.
    Status(u16, String),
    /// No answer within this time.
    TimedOut(Duration),
    /// The list is longer than this many bytes.
    TooLarge(usize),
    /// The connection could not be made, or broke.
    Unreachable(Cause),
}

/// The client crate's own error.
pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

type Result<T> = std::result::Result<T, Fault>;

/// What is asked for beyond a plain answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    /// How long the agent may hold the request.
    pub(crate) wait: Duration,
    /// How much longer the answer may take.
    pub(crate) margin: Duration,
}

impl Hold {
    /// When a held request counts as lost: Consul adds up to a sixteenth to the wait.
    pub(crate) fn limit(self) -> Duration {
        self.wait + self.wait / 16 + self.margin
    }
}

fn malformed(error: impl std::fmt::Display) -> Fault {
    Fault::Malformed(error.to_string())
}
