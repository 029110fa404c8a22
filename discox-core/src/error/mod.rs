//! The one error type: its kind decides policy, its context says what was attempted where.

use std::{error::Error as StdError, fmt, sync::Arc};

use crate::BackendType;

mod denial;

pub use self::denial::Denial;

/// What discox returns when something fails.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what a program can do about it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// `start` was called a second time. The first one goes on.
    AlreadyStarted,
    /// Another discovery feeds the cacher. That one goes on.
    CacherInUse,
    /// The cacher panicked in a callback; its discovery has ended.
    CacherPanicked,
    /// The configuration is wrong. No retry mends it.
    Config,
    /// The registry refuses us, or we do not trust it; [`Error::denial`] says why. Retried slowly.
    Denied,
    /// The registry answered something that discox cannot make sense of. Retried.
    Protocol,
    /// A watch cannot go on from where it was (compacted, index reset). The list is read again after a short
    /// pause; nothing is lost.
    Stale,
    /// The handle was stopped.
    Stopped,
    /// Another incarnation holds the endpoint's record; the later `start` wins.
    Superseded,
    /// No answer in time. Retried.
    TimedOut,
    /// The registry holds more than the limits in the configuration allow. Retried slowly.
    TooLarge,
    /// The registry cannot be reached, or cannot serve (no quorum, session or lease lost). Retried.
    Unavailable,
}

impl ErrorKind {
    /// Whether trying again can help without anybody changing the program.
    pub fn is_retryable(self) -> bool {
        let is_final = matches!(self, Self::AlreadyStarted | Self::CacherInUse | Self::CacherPanicked);
        !is_final && !matches!(self, Self::Config | Self::Stopped)
    }

    /// Whether only a person can mend it, at the registry or in its configuration: told even in the
    /// middle of an outage, and retried slowly.
    pub(crate) fn needs_a_person(self) -> bool {
        matches!(self, Self::Denied | Self::TooLarge)
    }

    /// The name of the kind, in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyStarted => "already started",
            Self::CacherInUse => "cacher in use",
            Self::CacherPanicked => "cacher panicked",
            Self::Config => "wrong configuration",
            Self::Denied => "denied",
            Self::Protocol => "protocol error",
            Self::Stale => "stale position",
            Self::Stopped => "stopped",
            Self::Superseded => "superseded",
            Self::TimedOut => "timed out",
            Self::TooLarge => "too large",
            Self::Unavailable => "unavailable",
        }
    }

    fn advice(self) -> Option<&'static str> {
        match self {
            Self::Denied => Some("check the credentials, their rights and the certificates"),
            Self::TimedOut => Some("is the registry hung, overloaded or behind a firewall?"),
            Self::TooLarge => Some("if that is right, raise `max_endpoints` or `max_service_bytes`"),
            Self::Unavailable => Some("is the registry running and reachable from here?"),
            _ => None,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An error of discox: what was attempted, on which backend, where, and why it failed.
///
/// Cheap to clone. It never contains a secret.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    backend: Option<BackendType>,
    at: Option<String>,
    operation: Option<&'static str>,
    subject: Option<String>,
    field: Option<&'static str>,
    denial: Option<Denial>,
    message: String,
    /// The registry itself has said so.
    is_answer: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`, with a message that says what happened.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            backend: None,
            at: None,
            operation: None,
            subject: None,
            field: None,
            denial: None,
            message: message.into(),
            is_answer: false,
            source: None,
        }))
    }

    /// A configuration error: `field` had `value`, and `reason` says why not and what would be right.
    pub fn config(field: &'static str, value: impl fmt::Display, reason: impl fmt::Display) -> Self {
        let mut error = Self::new(
            ErrorKind::Config,
            format!("{field} `{}`: {reason}", Harmless(&value.to_string(), LONGEST_VALUE)),
        );
        error.edit().field = Some(field);
        error
    }

    /// A configuration error: `field` is missing, and is needed with `other`.
    pub(crate) fn incomplete(field: &'static str, other: &str) -> Self {
        Self::config(field, "", format_args!("must be set with `{other}`"))
    }

    /// Of kind [`Denied`](ErrorKind::Denied), for a reason that is known.
    pub fn denied(denial: Denial, message: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorKind::Denied, message);
        error.edit().denial = Some(denial);
        error
    }

    /// No answer to `operation` in time.
    pub fn timed_out(operation: &'static str, after: std::time::Duration) -> Self {
        Self::new(ErrorKind::TimedOut, format!("no answer within {after:?}")).with_operation(operation)
    }

    /// Adds the backend.
    #[must_use]
    pub fn with_backend(mut self, backend: BackendType) -> Self {
        self.edit().backend = Some(backend);
        self
    }

    /// Adds the address, or addresses, of the registry. Never one with credentials in it.
    #[must_use]
    pub fn with_address(mut self, address: impl Into<String>) -> Self {
        self.edit().at = Some(address.into());
        self
    }

    /// Adds what was attempted; what failed on the way to it, if that is known, stays in the message.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        let inner = self.edit();
        match inner.operation.replace(operation) {
            Some(step) if step != operation => inner.message.insert_str(0, &format!("{step}: ")),
            _ => {}
        }
        self
    }

    /// Adds what it was attempted for: `service` or `service/endpoint`.
    #[must_use]
    pub fn with_subject(mut self, subject: impl fmt::Display) -> Self {
        self.edit().subject = Some(subject.to_string());
        self
    }

    /// The registry itself has said so: to ask whether it runs is no advice.
    #[must_use]
    pub fn answered(mut self) -> Self {
        self.edit().is_answer = true;
        self
    }

    /// Adds the error below, which [`std::error::Error::source`] then returns.
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.edit().source = Some(Arc::new(source));
        self
    }

    /// What went wrong, by what can be done about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What went wrong, without where it did and what to do: those are in [`Display`](fmt::Display).
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether it is no use to wait for another attempt within the time of a `start`.
    pub(crate) fn is_refusal(&self) -> bool {
        self.kind() == ErrorKind::Denied || !self.kind().is_retryable()
    }

    /// The backend it happened on, where one was involved.
    pub fn backend(&self) -> Option<BackendType> {
        self.0.backend
    }

    /// The operation that failed, such as `"connect"` or `"register"`.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The configuration field that is wrong, for [`ErrorKind::Config`].
    pub fn field(&self) -> Option<&'static str> {
        self.0.field
    }

    /// What exactly was refused, for [`ErrorKind::Denied`], where the registry has let us know.
    pub fn denial(&self) -> Option<Denial> {
        self.0.denial
    }

    /// What to do about it, where there is something to say. It is in [`Display`](fmt::Display) too.
    pub fn advice(&self) -> Option<&'static str> {
        let advice = self.0.denial.map(Denial::advice).or(self.0.kind.advice());
        advice.filter(|_| !(self.0.is_answer && self.0.kind == ErrorKind::Unavailable))
    }

    fn edit(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        match (&inner.backend, &inner.at) {
            (Some(backend), Some(at)) => write!(f, "{backend} at {at}: ")?,
            (Some(backend), None) => write!(f, "{backend}: ")?,
            (None, Some(at)) => write!(f, "{at}: ")?,
            (None, None) => {}
        }
        match (inner.operation, &inner.subject) {
            (Some(operation), Some(subject)) => write!(f, "{operation} {subject}: ")?,
            (Some(operation), None) => write!(f, "{operation}: ")?,
            (None, Some(subject)) => write!(f, "{subject}: ")?,
            (None, None) => {}
        }
        Harmless(&inner.message, LONGEST_MESSAGE).fmt(f)?;
        match self.advice() {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The longest part of a configured value, and of what a registry has said, that is shown: in
/// characters.
const LONGEST_VALUE: usize = 80;
const LONGEST_MESSAGE: usize = 1_000;

/// Text that others have written, cut to what a log line bears and without the characters that could
/// break the line or command the terminal.
pub(crate) struct Harmless<'a>(pub(crate) &'a str, pub(crate) usize);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;

        let Self(text, longest) = *self;
        for c in text.chars().take(longest) {
            match c {
                '"' | '\'' | '\\' => f.write_char(c)?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        if text.chars().nth(longest).is_some() { f.write_char('…') } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_backend_place_operation_subject_and_advice() {
        let error = Error::new(ErrorKind::Unavailable, "connection refused")
            .with_operation("register")
            .with_subject("demo/127.0.0.1:8111")
            .with_backend(BackendType::Etcd)
            .with_address("http://127.0.0.1:2379");
        assert_eq!(
            error.to_string(),
            "etcd at http://127.0.0.1:2379: register demo/127.0.0.1:8111: connection refused \
             (is the registry running and reachable from here?)"
        );
    }

    #[test]
    fn a_configuration_error_names_field_and_value_on_one_line() {
        let error = Error::config("service_name", "a\nb", "control characters are not allowed");
        assert_eq!(error.field(), Some("service_name"));
        assert_eq!(error.to_string(), "service_name `a\\nb`: control characters are not allowed");
    }

    #[test]
    fn what_a_registry_says_cannot_command_a_terminal_or_fill_a_log() {
        let said = format!("\"it's\" \x1b[2J\n\u{202e}{}", "x".repeat(100_000));
        let shown = Error::new(ErrorKind::Protocol, said).to_string();
        assert!(shown.starts_with("\"it's\" \\u{1b}[2J\\n\\u{202e}xxx"), "{shown}");
        assert!(shown.len() < 1_100 && shown.ends_with('…'), "{}", shown.len());
    }

    #[test]
    fn keeps_its_source() {
        let error = Error::new(ErrorKind::Protocol, "bad answer").caused_by(std::fmt::Error);
        assert!(StdError::source(&error).is_some());
    }

    #[test]
    fn who_has_answered_is_not_asked_whether_he_runs() {
        let error = Error::new(ErrorKind::Unavailable, "no leader");
        assert!(error.to_string().contains("running"), "{error}");
        assert_eq!(error.answered().to_string(), "no leader");
        assert!(Error::denied(Denial::MissingRights, "no").answered().to_string().contains("no ("));
    }
}
