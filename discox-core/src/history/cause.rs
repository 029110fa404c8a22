//! Why something happened, as far as the registry lets us know.

use std::fmt;

#[cfg(feature = "serde")]
use crate::ages;
use crate::{Error, backend::Loss, error::Harmless};

/// Why something happened. It is known, never guessed: where the registry does not tell, it is [`Cause::Unknown`].
///
/// Which registry tells what is in `docs/why.md`. Texts of a registry are as it sent them here, and made harmless by
/// [`Display`](fmt::Display).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "cause", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Cause {
    /// The registry does not tell.
    Unknown,
    /// It follows from the event itself.
    None,
    /// It is in the list that the registry answered.
    Listed,
    /// The record was written in the registry: by its registrar, or by hand.
    Written,
    /// The record was deleted in the registry, by its registrar or by hand, while the registrar was alive: its lease or
    /// session goes on.
    Deleted,
    /// Consul: the instance was deregistered, by its registrar, by hand, or by Consul itself after its check was
    /// critical for long. Its removal from the cache for that check came before.
    Deregistered,
    /// The lease of the record has ended: it expired, because the registrar was dead, hung or cut off; or it was
    /// revoked.
    LeaseEnded,
    /// The session of the record has ended.
    SessionEnded,
    /// Consul: a check of the instance does not pass.
    CheckFailed {
        /// The name of the check.
        check: String,
        /// Its status, such as `critical`.
        status: String,
        /// What it says.
        output: String,
    },
    /// Consul: a check of the whole node does not pass; `serfHealth` means that the agent of the node is away.
    NodeFailed {
        /// The node.
        node: String,
        /// The name of the check.
        check: String,
        /// What it says.
        output: String,
    },
    /// Consul: an operator has put the instance or its node into maintenance.
    Maintenance {
        /// The reason that the operator gave.
        reason: String,
    },
    /// It is missing from the list that was read after an outage or a resync. When and why it went is not known.
    Missing,
    /// What is held made room for what is in the registry: both together exceed twice the limits of a service.
    NoRoom,
    /// An error.
    Error {
        /// The error.
        #[cfg_attr(feature = "serde", serde(serialize_with = "ages::display"))]
        error: Error,
    },
    /// A heart beat has found that the record is no longer what was registered.
    Record {
        /// What it is instead.
        #[cfg_attr(feature = "serde", serde(serialize_with = "ages::display"))]
        loss: Loss,
    },
    /// Another incarnation holds the record.
    Superseded {
        /// What the registry says of it: its lease, its session, or its incarnation. Known a heart beat later than the rest.
        by: String,
    },
    /// The program called `start`, `update_attr` or `stop`, or dropped the handle.
    Asked,
}

impl Cause {
    /// Whether it says nothing that the event does not say.
    pub(super) fn is_obvious(&self) -> bool {
        matches!(self, Self::None)
    }

    /// An error.
    pub(crate) fn error(error: &Error) -> Self {
        Self::Error { error: error.clone() }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let harmless = |text| Harmless(text, 1_000);
        match self {
            Self::Unknown => f.write_str("the registry does not tell why"),
            Self::None => f.write_str("it follows from the event"),
            Self::Listed => f.write_str("it is in the list that the registry answered"),
            Self::Written => f.write_str("it was written in the registry"),
            Self::Deleted => f.write_str(
                "it was deleted in the registry, by its registrar or by hand; its lease or session goes on",
            ),
            Self::Deregistered => f.write_str("it was deregistered, by its registrar or by hand"),
            Self::LeaseEnded => {
                f.write_str("its lease has ended: expired because the registrar is away, or revoked")
            }
            Self::SessionEnded => f.write_str("its session has ended"),
            Self::CheckFailed { check, status, output } => {
                write!(f, "its check `{}` is {}: {}", harmless(check), harmless(status), harmless(output))
            }
            Self::NodeFailed { node, check, output } => {
                let (node, check, output) = (harmless(node), harmless(check), harmless(output));
                write!(f, "the check `{check}` of its node `{node}` fails: {output}")
            }
            Self::Maintenance { reason } => write!(f, "it is in maintenance: {}", harmless(reason)),
            Self::Missing => f.write_str("it is missing from the list that was read"),
            Self::NoRoom => f.write_str("it was held, and made room for what is in the registry"),
            Self::Error { error } => write!(f, "{error}"),
            Self::Record { loss } => write!(f, "the record is {loss}"),
            Self::Superseded { by } => write!(f, "{}", harmless(by)),
            Self::Asked => f.write_str("the program asked for it"),
        }
    }
}
