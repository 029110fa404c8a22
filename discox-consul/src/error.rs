//! What went wrong between us and an agent, as one of discox's kinds of errors.

use std::error::Error as StdError;

use discox_core::{ConnectionConfig, Denial, Error, ErrorKind, backend::Exceeded};

use crate::client::{Cause, Fault};

/// The one place where a fault gets its kind. What was configured decides what a denial means.
pub(crate) fn translate(fault: Fault, settings: &ConnectionConfig) -> Error {
    match fault {
        Fault::Denied(status, said) => denied(status, &said, settings.consul.token.is_some()),
        Fault::Malformed(what) => Error::new(ErrorKind::Protocol, format!("not an answer of Consul: {what}")),
        Fault::Refused(error) => error,
        Fault::Status(400, said) | Fault::Rejected(said) if said.contains("Enterprise feature") => {
            enterprise_only(&said, settings)
        }
        Fault::Rejected(said) => Error::new(ErrorKind::Config, answered(400, &said)),
        Fault::Status(status, said) => Error::new(kind_of(status), answered(status, &said)).answered(),
        Fault::TimedOut(limit) => Error::new(ErrorKind::TimedOut, format!("no answer within {limit:?}")),
        Fault::TooLarge(limit) => {
            Error::new(ErrorKind::TooLarge, format!("the list is longer than {limit} bytes"))
        }
        Fault::TooMany(most) => Exceeded::Endpoints(most).into(),
        Fault::Unreachable(cause) => caused(ErrorKind::Unavailable, cause),
    }
}

fn kind_of(status: u16) -> ErrorKind {
    match status {
        // Too many connections, or none to a leader: both pass.
        429 | 500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    }
}

fn denied(status: u16, said: &str, with_token: bool) -> Error {
    let mut message = answered(status, said);
    let denial = denial(said, with_token);
    if denial == Denial::WrongCredentials {
        // It forgets tokens that have expired.
        message += ": the token is wrong, has expired or was deleted";
    }
    Error::denied(denial, message)
}

fn denial(said: &str, with_token: bool) -> Denial {
    match said {
        _ if !with_token => Denial::NoCredentials,
        _ if said.contains("expired") => Denial::ExpiredCredentials,
        _ if said.contains("not found") => Denial::WrongCredentials,
        _ => Denial::MissingRights,
    }
}

/// The server is no Consul Enterprise, and says so.
fn enterprise_only(said: &str, settings: &ConnectionConfig) -> Error {
    let (field, value) = match &settings.consul.namespace {
        Some(namespace) if said.contains("amespace") => ("consul.namespace", namespace.as_str()),
        _ => ("consul.partition", settings.consul.partition.as_deref().unwrap_or_default()),
    };
    Error::config(field, value, format_args!("this server does not have it: {said}"))
}

fn answered(status: u16, said: &str) -> String {
    if said.is_empty() {
        format!("Consul answered {status}, without a reason")
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
    use discox_core::ConsulOptions;

    use super::*;

    #[test]
    fn outages_are_told_from_what_discox_does_not_understand() {
        let kind = |status, said: &str| {
            translate(Fault::Status(status, said.into()), &ConnectionConfig::default()).kind()
        };
        assert_eq!(kind(500, "No cluster leader"), ErrorKind::Unavailable);
        assert_eq!(kind(429, "Your IP is issuing too many concurrent connections"), ErrorKind::Unavailable);
        assert_eq!(kind(400, "Invalid Service Meta"), ErrorKind::Protocol);
        assert_eq!(kind(301, ""), ErrorKind::Protocol);
        let rejected =
            translate(Fault::Rejected("Invalid Service Meta".into()), &ConnectionConfig::default());
        assert!(!rejected.kind().is_retryable() && rejected.to_string().contains("Invalid Service Meta"));
    }

    #[test]
    fn a_denial_says_what_is_wrong_with_the_token() {
        let none = ConnectionConfig::default();
        let some = ConsulOptions { token: Some("t".into()), ..Default::default() };
        let some = ConnectionConfig { consul: some, ..Default::default() };
        for (said, settings, denial) in [
            ("Permission denied", &none, Denial::NoCredentials),
            ("ACL not found", &none, Denial::NoCredentials),
            ("Permission denied", &some, Denial::MissingRights),
            ("rpc error making call: ACL not found", &some, Denial::WrongCredentials),
            ("ACL token expired", &some, Denial::ExpiredCredentials),
        ] {
            let error = translate(Fault::Denied(403, said.into()), settings);
            assert_eq!((error.kind(), error.denial()), (ErrorKind::Denied, Some(denial)), "{said}");
        }
    }

    #[test]
    fn what_only_consul_enterprise_has_is_rejected_by_field() {
        let consul =
            ConsulOptions { namespace: Some("n".into()), partition: Some("p".into()), ..Default::default() };
        let settings = ConnectionConfig { consul, ..Default::default() };
        for (said, field) in [
            (
                "Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature",
                "consul.namespace",
            ),
            (
                "Invalid query parameter: \"partition\" - Partitions are a Consul Enterprise feature",
                "consul.partition",
            ),
        ] {
            let error = translate(Fault::Status(400, said.into()), &settings);
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)));
        }
    }
}
