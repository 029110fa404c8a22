//! Servers in a process of their own, which is this program again: a program that has them calls [`serve_if_told`]
//! first.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{Orders, Pace};

/// How many servers a process is to be, and at which address.
const TOLD: &str = "DISCOX_TEST_SERVE";
const AT: &str = "DISCOX_TEST_SERVE_AT";

/// A process with servers. It ends when this is dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    endpoints: Vec<String>,
}

impl Served {
    /// Starts a process with so many servers, and waits until they listen.
    ///
    /// # Errors
    /// It does not start, or ends.
    pub fn start(count: usize) -> Result<Self> {
        Self::start_at("127.0.0.1:0", count)
    }

    /// As [`Served::start`], at an address whose port is 0.
    ///
    /// # Errors
    /// As [`Served::start`].
    pub fn start_at(address: &str, count: usize) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.env(TOLD, count.to_string()).env(AT, address).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let endpoints = lines.take(count).collect::<Result<_, _>>()?;
        Ok(Self { child, endpoints })
    }

    /// Each `host:port`.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Stops it by SIGSTOP: its operating system goes on accepting connections and bytes for it.
    ///
    /// # Errors
    /// It is gone.
    pub fn stop(&self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("no process")?;
        Ok(kill_process(pid, Signal::STOP)?)
    }

    /// By SIGKILL.
    ///
    /// # Errors
    /// It is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.kill();
    }
}

/// Whether this process was started to serve. If so it has served when this returns: until its input ended.
///
/// # Errors
/// No port or no thread is left.
pub fn serve_if_told() -> Result<bool> {
    let Ok(count) = env::var(TOLD) else { return Ok(false) };
    let at = env::var(AT)?;
    let start = |_| Orders::start_at(&at, Pace::default());
    let servers: Vec<_> = (0..count.parse()?).map(start).collect::<Result<_>>()?;
    let mut output = std::io::stdout().lock();
    for server in &servers {
        writeln!(output, "{}", server.endpoint())?;
    }
    output.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(true)
}
