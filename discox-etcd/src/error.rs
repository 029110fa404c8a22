//! What etcd and its client say went wrong, as our kinds.

use std::error::Error as StdError;

use discox_core::{Denial, Error, ErrorKind};
use etcd_client::Error as ClientError;
use tonic::{Code, Status};

/// The one translation of errors. `identified` is whether we have shown a client certificate.
pub(crate) fn translate(error: ClientError, identified: bool) -> Error {
    if let Some(told) = told(&error, identified) {
        return told;
    }
    let (kind, message) = match &error {
        ClientError::GRpcStatus(status) => (kind_of(status), said(status)),
        ClientError::TransportError(error) => (ErrorKind::Unavailable, root(error)),
        ClientError::IoError(error) => (ErrorKind::Unavailable, error.to_string()),
        ClientError::WatchError(text) | ClientError::LeaseKeepAliveError(text) => {
            (ErrorKind::Unavailable, text.clone())
        }
        other => (ErrorKind::Protocol, other.to_string()),
    };
    let translated = match denial_of(&error).filter(|_| kind == ErrorKind::Denied) {
        Some(denial) => Error::denied(denial, message),
        None => Error::new(kind, message),
    };
    let translated = if is_answer(&error) { translated.answered() } else { translated };
    translated.caused_by(error)
}

/// Whether etcd itself says so: a broken connection comes as Unknown, Internal or Cancelled.
fn is_answer(error: &ClientError) -> bool {
    let ClientError::GRpcStatus(status) = error else { return false };
    !matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled) && status.source().is_none()
}

/// What we have found out about TLS ourselves, on whichever way it has come here. That the server does
/// not accept our certificate shows only at the first answer.
fn told(error: &ClientError, identified: bool) -> Option<Error> {
    // etcd-client's own error names no source.
    let inner: &(dyn StdError + 'static) = match error {
        ClientError::GRpcStatus(status) => status,
        ClientError::TransportError(error) => error,
        ClientError::IoError(error) => error,
        other => other,
    };
    if let Some(ours) = own_error(error) {
        return Some(ours);
    }
    let mut next = Some(inner);
    while let Some(error) = next {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return Some(ours.clone());
        }
        next = error.source();
    }
    discox_tls::explain(inner, identified)
}

/// Our own error inside of an I/O error, whose `source` passes over it.
fn own_error(error: &ClientError) -> Option<Error> {
    let ClientError::IoError(error) = error else { return None };
    error.get_ref()?.downcast_ref::<Error>().cloned()
}

/// Why a connection could not be made.
pub(crate) fn transport(error: tonic::transport::Error, identified: bool) -> Error {
    translate(ClientError::TransportError(error), identified)
}

/// Why the server has ended a watch.
pub(crate) fn cancelled(reason: &str, compact_revision: i64) -> Error {
    if compact_revision > 0 {
        let message =
            format!("the watch is behind revision {compact_revision}, before which all is compacted");
        return Error::new(ErrorKind::Stale, message);
    }
    let why = if reason.is_empty() { "no reason given" } else { plain(reason) };
    let message = format!("the server has cancelled the watch: {why}");
    match denial_in(reason) {
        Some(denial) => Error::denied(denial, message),
        None if is_denial(reason) => Error::new(ErrorKind::Denied, message),
        None => Error::new(ErrorKind::Unavailable, message).answered(),
    }
}

/// Whether the lease that the request named has expired or was revoked.
pub(crate) fn is_lease_gone(error: &ClientError) -> bool {
    match error {
        ClientError::GRpcStatus(status) => {
            status.code() == Code::NotFound && status.message().contains("lease not found")
        }
        ClientError::LeaseKeepAliveError(text) => text.contains("lease not found"),
        _ => false,
    }
}

/// Whether the answer was longer than what we take.
pub(crate) fn is_too_large(error: &ClientError) -> bool {
    // tonic's decoder says so; etcd itself uses the code for revisions only.
    matches!(error, ClientError::GRpcStatus(status)
        if status.code() == Code::OutOfRange && status.message().contains("message length too large"))
}

/// Whether the server has answered that we may not do this: a sign of life.
pub(crate) fn is_no_permission(error: &ClientError) -> bool {
    matches!(error, ClientError::GRpcStatus(status) if status.code() == Code::PermissionDenied)
}

/// Whether a login mends it: the token has expired, users were changed since, or authentication was switched on.
pub(crate) fn wants_login(error: &ClientError) -> bool {
    matches!(error, ClientError::GRpcStatus(status)
        if status.code() == Code::Unauthenticated || LOG_IN.iter().any(|text| status.message().contains(text)))
}

/// Whether a login mends what a watch was refused for.
pub(crate) fn is_login_needed(error: &Error) -> bool {
    matches!(error.denial(), Some(Denial::ExpiredCredentials | Denial::NoCredentials))
        || error.to_string().contains(USERS_CHANGED)
}

/// Whether users were changed while the request was on its way, or since we logged in: no denial.
pub(crate) fn are_users_changed(error: &ClientError) -> bool {
    matches!(error, ClientError::GRpcStatus(status) if status.message().contains(USERS_CHANGED))
}

/// Whether authentication is switched off.
pub(crate) fn is_auth_off(error: &ClientError) -> bool {
    matches!(error, ClientError::GRpcStatus(status) if status.message().contains("authentication is not enabled"))
}

const TOKEN_GONE: &str = "invalid auth token";
const USERS_CHANGED: &str = "revision of auth store is old";
const NO_TOKEN: &str = "user name is empty";

/// What etcd says to a token that is no good any more (etcd, `api/v3rpc/rpctypes/error.go`).
const LOG_IN: [&str; 3] = [TOKEN_GONE, USERS_CHANGED, NO_TOKEN];

fn kind_of(status: &Status) -> ErrorKind {
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::Denied,
        Code::InvalidArgument | Code::FailedPrecondition if is_denial(status.message()) => ErrorKind::Denied,
        Code::InvalidArgument if status.message().contains(USERS_CHANGED) => ErrorKind::Unavailable,
        Code::DeadlineExceeded => ErrorKind::TimedOut,
        Code::OutOfRange if status.message().contains("revision") => ErrorKind::Stale,
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => ErrorKind::Protocol,
        // Broken connections come as Unknown, Internal or Cancelled; an etcd that cannot serve now
        // says Unavailable, ResourceExhausted, or NotFound of a lease.
        _ => ErrorKind::Unavailable,
    }
}

/// Which denial an answer is.
fn denial_of(error: &ClientError) -> Option<Denial> {
    let ClientError::GRpcStatus(status) = error else { return None };
    denial_in(status.message()).or((status.code() == Code::PermissionDenied).then_some(Denial::MissingRights))
}

fn denial_in(message: &str) -> Option<Denial> {
    let says = |text| message.contains(text);
    if says(NO_TOKEN) {
        Some(Denial::NoCredentials)
    } else if says("authentication failed") {
        Some(Denial::WrongCredentials)
    } else if says(TOKEN_GONE) {
        Some(Denial::ExpiredCredentials)
    } else {
        says("permission denied").then_some(Denial::MissingRights)
    }
}

/// etcd has no code of its own for some denials (etcd, `api/v3rpc/rpctypes/error.go`).
fn is_denial(message: &str) -> bool {
    const DENIALS: [&str; 5] =
        ["authentication failed", "authentication is not enabled", "permission denied", TOKEN_GONE, NO_TOKEN];
    DENIALS.iter().any(|denial| message.contains(denial))
}

/// What the server has said, or what broke the connection.
fn said(status: &Status) -> String {
    match status.source() {
        Some(source) => root(source),
        None => plain(status.message()).to_owned(),
    }
}

fn plain(message: &str) -> &str {
    message.strip_prefix("etcdserver: ").unwrap_or(message)
}

/// The innermost cause: the outer ones only say "transport error".
fn root(error: &dyn StdError) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(code: Code, message: &str) -> Error {
        translate(ClientError::GRpcStatus(Status::new(code, message)), false)
    }

    #[test]
    fn what_was_denied_is_known() {
        for (code, message, expected) in [
            (Code::PermissionDenied, "etcdserver: permission denied", Denial::MissingRights),
            (Code::Unauthenticated, "etcdserver: invalid auth token", Denial::ExpiredCredentials),
            (Code::InvalidArgument, "etcdserver: user name is empty", Denial::NoCredentials),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                Denial::WrongCredentials,
            ),
        ] {
            assert_eq!(translated(code, message).denial(), Some(expected), "{message}");
        }
        assert_eq!(translated(Code::Unavailable, "etcdserver: no leader").denial(), None);
    }

    #[test]
    fn what_tls_was_refused_for_is_found_behind_the_clients_error() {
        let refused = Error::denied(Denial::UnknownAuthority, "the server's certificate");
        let status = Status::from_error(Box::new(refused));
        assert_eq!(kind_of(&status), ErrorKind::Unavailable);
        let told = translate(ClientError::GRpcStatus(status), false);
        assert_eq!((told.kind(), told.denial()), (ErrorKind::Denied, Some(Denial::UnknownAuthority)));
    }

    #[test]
    fn what_etcd_says_has_the_kind_that_decides_policy() {
        for (code, message, expected) in [
            (Code::PermissionDenied, "etcdserver: permission denied", ErrorKind::Denied),
            (Code::Unauthenticated, "etcdserver: invalid auth token", ErrorKind::Denied),
            (Code::InvalidArgument, "etcdserver: user name is empty", ErrorKind::Denied),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                ErrorKind::Denied,
            ),
            (Code::InvalidArgument, "etcdserver: revision of auth store is old", ErrorKind::Unavailable),
            (Code::InvalidArgument, "etcdserver: request is too large", ErrorKind::Protocol),
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", ErrorKind::Stale),
            (Code::Unavailable, "etcdserver: no leader", ErrorKind::Unavailable),
            (Code::Unavailable, "etcdserver: request timed out", ErrorKind::Unavailable),
            (Code::DeadlineExceeded, "context deadline exceeded", ErrorKind::TimedOut),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", ErrorKind::Unavailable),
            (Code::NotFound, "etcdserver: requested lease not found", ErrorKind::Unavailable),
            (Code::Unknown, "transport error", ErrorKind::Unavailable),
        ] {
            assert_eq!(translated(code, message).kind(), expected, "{code:?} {message}");
        }
    }

    #[test]
    fn cancelled_watches_are_stale_denied_or_over() {
        assert_eq!(cancelled("mvcc: required revision has been compacted", 7).kind(), ErrorKind::Stale);
        assert_eq!(cancelled("etcdserver: permission denied", 0).kind(), ErrorKind::Denied);
        assert_eq!(cancelled("", 0).kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_lease_that_is_gone_is_known_by_server_and_client_error() {
        let gone = Status::new(Code::NotFound, "etcdserver: requested lease not found");
        assert!(is_lease_gone(&ClientError::GRpcStatus(gone)));
        assert!(is_lease_gone(&ClientError::LeaseKeepAliveError("lease not found".into())));
        assert!(!is_lease_gone(&ClientError::GRpcStatus(Status::new(Code::NotFound, "member not found"))));
    }
}
