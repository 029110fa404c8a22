//! COMMAND: a program that runs while its endpoint is registered.

use std::{ffi::OsString, io, os::unix::process::ExitStatusExt, process::ExitStatus};

use rustix::process::{Pid, kill_process};
use tokio::process::{Child, Command};

use crate::{failure::Failure, security::SECRETS, signals::Signal};

/// COMMAND, running.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it, with our standard input, output, error and variables, but for our secrets. None when
    /// there is no COMMAND.
    ///
    /// # Errors
    /// With the exit code that a shell gives: 127 when there is no such program, else 126.
    pub(crate) fn start(command: &[OsString]) -> Result<Option<Self>, Failure> {
        let Some((program, arguments)) = command.split_first() else { return Ok(None) };
        let mut command = Command::new(program);
        command.args(arguments);
        for secret in SECRETS {
            command.env_remove(secret);
        }
        match command.spawn() {
            Ok(child) => Ok(Some(Self(child))),
            Err(error) => {
                let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
                Err(Failure::new(code, format!("cannot run {}: {error}", program.display())))
            }
        }
    }

    /// Waits until it has ended, and returns the exit code to pass on. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> io::Result<u8> {
        self.0.wait().await.map(exit_code)
    }

    /// Passes a signal on, unless the terminal has sent it to COMMAND as well.
    pub(crate) fn forward(&self, signal: Signal) {
        let pid = self.0.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let signal = if signal.from_terminal { None } else { rustix_signal(signal) };
        if let (Some(pid), Some(signal)) = (pid, signal) {
            // It may have ended meanwhile; its number is kept for us until we have waited for it.
            let _ = kill_process(pid, signal);
        }
    }
}

fn rustix_signal(signal: Signal) -> Option<rustix::process::Signal> {
    rustix::process::Signal::from_named_raw(signal.number)
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|number| 128 + number));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
