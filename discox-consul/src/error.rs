//! What went wrong between us and an agent, as one of discox's kinds of errors.

use std::error::Error as StdError;

use discox_core::{Error, ErrorKind};

use crate::client::{Cause, Fault};

/// The one place where a fault gets its kind.
pub(crate) fn translate(fault: Fault) -> Error {
    match fault {
        Fault::Malformed(what) => Error::new(ErrorKind::Protocol, format!("not an answer of Consul: {what}")),
        Fault::Status(status, said) => Error::new(kind_of(status, &said), answered(status, &said)),
        Fault::TimedOut(limit) => Error::new(ErrorKind::TimedOut, format!("no answer within {limit:?}")),
        Fault::TooLarge(limit) => {
            Error::new(ErrorKind::TooLarge, format!("the list is longer than {limit} bytes"))
        }
        Fault::Unreachable(cause) => caused(ErrorKind::Unavailable, cause),
    }
}

fn kind_of(status: u16, said: &str) -> ErrorKind {
    let denied =
        ["Permission denied", "ACL not found", "ACL token lacks"].iter().any(|words| said.contains(words));
    match status {
        401 | 403 => ErrorKind::Denied,
        _ if denied => ErrorKind::Denied,
        // Too many connections, or none to a leader: both pass.
        429 | 500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    }
}

fn answered(status: u16, said: &str) -> String {
    if said.is_empty() {
        format!("Consul answered {status}")
    } else {
        format!("Consul answered {status}: {said}")
    }
}

/// The message is the innermost cause's: those around it say only that a request failed.
fn caused(kind: ErrorKind, cause: Cause) -> Error {
    let mut innermost: &dyn StdError = &*cause;
    while let Some(deeper) = innermost.source() {
        innermost = deeper;
    }
    let message = innermost.to_string();
    Error::new(kind, message).caused_by(Whole(cause))
}

/// A boxed error as one that has a size.
#[derive(Debug)]
struct Whole(Cause);

impl std::fmt::Display for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for Whole {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, said: &str) -> ErrorKind {
        translate(Fault::Status(status, said.into())).kind()
    }

    #[test]
    fn refusals_are_told_from_outages() {
        assert_eq!(kind(403, "Permission denied"), ErrorKind::Denied);
        assert_eq!(kind(500, "rpc error making call: Permission denied"), ErrorKind::Denied);
        assert_eq!(kind(500, "No cluster leader"), ErrorKind::Unavailable);
        assert_eq!(kind(429, "Your IP is issuing too many concurrent connections"), ErrorKind::Unavailable);
        assert_eq!(kind(400, "Invalid Service Meta"), ErrorKind::Protocol);
        assert_eq!(kind(301, ""), ErrorKind::Protocol);
    }
}
