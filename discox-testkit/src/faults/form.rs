//! How much is run: what the environment says.

use anyhow::{Context, Result, bail};

/// The short or the long form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    Short,
    Long,
}

impl Form {
    /// What `DISCOX_FAULTS` says.
    pub(crate) fn from_env() -> Result<Self> {
        match std::env::var("DISCOX_FAULTS").as_deref() {
            Err(_) | Ok("" | "short") => Ok(Self::Short),
            Ok("long") => Ok(Self::Long),
            Ok(other) => bail!("DISCOX_FAULTS is {other:?}, use short or long"),
        }
    }

    /// How often each cell is run.
    pub(crate) fn runs(self) -> Result<usize> {
        number("DISCOX_FAULT_RUNS", self.choose(1, 20))
    }

    /// How many cells run side by side: they wait most of the time.
    pub(crate) fn jobs() -> Result<usize> {
        number("DISCOX_FAULT_JOBS", 6)
    }

    pub(crate) fn choose<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.choose("short", "long"))
    }
}

fn number(variable: &str, default: usize) -> Result<usize> {
    match std::env::var(variable) {
        Err(_) => Ok(default),
        Ok(text) => {
            let number = text.parse().ok().filter(|number| *number > 0);
            number.with_context(|| format!("{variable} is {text:?}, use a number from 1"))
        }
    }
}
