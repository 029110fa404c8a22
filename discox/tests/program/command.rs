//! The program `discox`, run to its end.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{process::Command, time::timeout};

/// Far more than anything here needs that has no bound of its own.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// The command, without any setting of the one who runs the tests.
pub(crate) fn discox(args: &[&str]) -> Command {
    // Whoever runs the tests may ignore SIGHUP, as `nohup` makes it, and a shell cannot trap what is ignored.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_discox")]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DISCOX_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").args(args).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) async fn run(args: &[&str]) -> Result<Ended> {
    finish(discox(args)).await
}

/// Runs a command to its end.
pub(crate) async fn finish(mut command: Command) -> Result<Ended> {
    let output = timeout(DEADLINE, command.output()).await.context("it does not end")??;
    let (errors, status) = (String::from_utf8(output.stderr)?, output.status);
    Ok(Ended { status, output: String::from_utf8(output.stdout)?, errors })
}

impl Ended {
    /// It ended with this code and these errors: none, or one line.
    pub(crate) fn with(self, code: i32, errors: usize) -> Result<Self> {
        ensure!(self.status.code() == Some(code), "not {code}: {self:?}");
        ensure!(self.errors.lines().count() == errors, "not {errors} lines: {self:?}");
        Ok(self)
    }
}
