//! The program `discox`, run as a user runs it.

mod command;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};

pub(crate) use self::command::{DEADLINE, Ended, discox, finish, run};

/// A running `discox`; killed when the test gives up.
pub(crate) struct Program {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
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
