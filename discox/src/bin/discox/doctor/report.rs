//! What was checked: one line each, or one JSON document.

use std::{fmt, io};

use serde::Serialize;

use crate::output::{Format, OnOneLine, print_either};

/// One check.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    /// Which: `name`, `tcp`, `tls`, `server`, `clock`, `log-in`, `read`, `write`, `ttl`, `round trip`, `delete`.
    pub(crate) name: &'static str,
    /// A member's address, or the service's directory.
    pub(crate) of: String,
    pub(crate) outcome: Outcome,
    /// What was found.
    pub(crate) found: String,
    /// What to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Ok,
    /// It works, and will not for long, or is perhaps not what was meant.
    Warning,
    Failed,
    /// It was not tried.
    Skipped,
}

impl Check {
    pub(crate) fn ok(name: &'static str, of: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name, of: of.into(), outcome: Outcome::Ok, found: found.into(), advice: None }
    }

    pub(crate) fn warning(
        name: &'static str,
        of: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { outcome: Outcome::Warning, advice: Some(advice.into()), ..Self::ok(name, of, found) }
    }

    pub(crate) fn failed(
        name: &'static str,
        of: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { outcome: Outcome::Failed, advice: Some(advice.into()), ..Self::ok(name, of, found) }
    }

    pub(crate) fn skipped(name: &'static str, of: impl Into<String>, why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skipped, ..Self::ok(name, of, why) }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.outcome == Outcome::Failed
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        write!(f, "{outcome:8}{:11}{}: {}", self.name, OnOneLine(&self.of), OnOneLine(&self.found))?;
        match &self.advice {
            Some(advice) => write!(f, "; {}", OnOneLine(advice)),
            None => Ok(()),
        }
    }
}

/// Prints checks: as text at once, as JSON at the end.
pub(crate) struct Report {
    output: Format,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    checks: &'a [Check],
}

impl Report {
    pub(crate) fn new(output: Format) -> Self {
        Self { output, checks: Vec::new() }
    }

    pub(crate) fn add(&mut self, checks: impl IntoIterator<Item = Check>) -> io::Result<()> {
        for check in checks {
            if matches!(self.output, Format::Text) {
                print_either(&check, &check, Format::Text)?;
            }
            self.checks.push(check);
        }
        Ok(())
    }

    /// The exit code.
    pub(crate) fn end(self) -> io::Result<u8> {
        let ok = !self.checks.iter().any(Check::has_failed);
        let failed = self.checks.iter().filter(|check| check.has_failed()).count();
        let text = if ok { "all is well".to_owned() } else { format!("{failed} checks failed") };
        print_either(&Document { ok, checks: &self.checks }, &text, self.output)?;
        Ok(u8::from(!ok))
    }
}
