//! The program `discox`, run as a user runs it.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Far more than anything here needs that has no bound of its own.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A running `discox`; killed when the test gives up.
pub(crate) struct Program {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// The command, without any setting of the one who runs the tests.
pub(crate) fn discox(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_discox"));
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

impl Program {
    pub(crate) fn start(args: &[&str]) -> Result<Self> {
        let mut child = discox(args).spawn()?;
        let output = BufReader::new(child.stdout.take().context("no output")?).lines();
        Ok(Self { child, output })
    }

    /// The next line of its output.
    pub(crate) async fn line(&mut self) -> Result<String> {
        self.line_within(DEADLINE).await
    }

    /// The next line of its output, which must come in time.
    pub(crate) async fn line_within(&mut self, time: Duration) -> Result<String> {
        match timeout(time, self.output.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(ended) => bail!("its output has ended: {ended:?}, its errors are {:?}", self.errors().await),
            Err(_) => bail!("no line within {time:?}"),
        }
    }

    /// The next line of its output as JSON.
    pub(crate) async fn json(&mut self) -> Result<serde_json::Value> {
        let line = self.line().await?;
        serde_json::from_str(&line).context(line)
    }

    /// Nothing more is printed for this long.
    pub(crate) async fn silent(&mut self, time: Duration) -> Result<()> {
        match timeout(time, self.output.next_line()).await {
            Ok(line) => bail!("it is not silent: {line:?}"),
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.id().context("it has ended")?;
        let pid = Pid::from_raw(id.try_into()?).context("no process")?;
        Ok(kill_process(pid, signal)?)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Nobody reads its output any more.
    pub(crate) fn close_output(self) -> Child {
        self.child
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Result<Ended> {
        let mut output = String::new();
        let status = timeout(DEADLINE, async {
            while let Some(line) = self.output.next_line().await? {
                output += &(line + "\n");
            }
            self.child.wait().await
        });
        let status = status.await.context("it does not end")??;
        Ok(Ended { status, output, errors: self.errors().await? })
    }

    async fn errors(&mut self) -> Result<String> {
        read(self.child.stderr.take()).await
    }
}

/// What is left to read of a stream that is about to end.
pub(crate) async fn read(stream: Option<impl AsyncRead + Unpin>) -> Result<String> {
    let mut text = String::new();
    if let Some(mut stream) = stream {
        timeout(DEADLINE, stream.read_to_string(&mut text)).await??;
    }
    Ok(text)
}
