//! The command line program: a registration in a process of its own, which can be killed, and the log that an
//! operator reads.

use std::{fs::File, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::stage::{Stage, Via};
use crate::server::session::Session;

/// From the start of the program to its registration, on a machine that runs many cells.
const REGISTERED: Duration = Duration::from_secs(15);

/// `discox` in a process of its own; killed by signal 9 when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What is known of it on disk: its number, so that it is killed with this process's servers, whatever ends
    /// this process; and its log.
    folder: PathBuf,
}

impl Process {
    /// Starts one and waits until it says that it is registered. It is for the caller to write it into the book.
    pub(crate) async fn registered(stage: &Stage, endpoint: &str, attr: &str, via: Via) -> Result<Self> {
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        let (heart_beat, ttl) = (millis(stage.settings.heart_beat), millis(stage.settings.ttl));
        let args = ["--endpoint", endpoint, "--attr", attr, "--heart-beat", &heart_beat, "--ttl", &ttl];
        let mut process = Self::spawn(stage, "register", &args, via)?;
        process.says("registered").await?;
        Ok(process)
    }

    /// Starts one that watches the service, and waits until it has said something of this endpoint.
    pub(crate) async fn watching(stage: &Stage, endpoint: &str, via: Via) -> Result<Self> {
        let mut process = Self::spawn(stage, "watch", &[], via)?;
        process.says(endpoint).await?;
        Ok(process)
    }

    async fn says(&mut self, word: &str) -> Result<()> {
        let line = timeout(REGISTERED, self.lines.next_line()).await;
        match line.with_context(|| format!("no {word:?} within {REGISTERED:?}"))?? {
            Some(line) if line.contains(word) => Ok(()),
            other => bail!("it said {other:?}"),
        }
    }

    fn spawn(stage: &Stage, command: &str, args: &[&str], via: Via) -> Result<Self> {
        let folder = Session::get()?.folder("processes")?.join(format!("{:016x}", fastrand::u64(..)));
        std::fs::create_dir_all(&folder)?;
        let mut process = Command::new(&stage.suite.program);
        process.args([command, "--backend", stage.backend().as_str(), "--prefix", &stage.prefix]);
        process.args(["--service", &stage.service]).args(args);
        for address in stage.addresses(via) {
            process.args(["--backend-endpoint", &address]);
        }
        if let Some(client) = crate::client(stage.backend()) {
            process.args(["--client", client.as_str()]);
        }
        if crate::guard(stage.backend()) {
            process.arg("--guard");
        }
        let log = File::create(folder.join("log"))?;
        process.env("RUST_LOG", "info").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let spawned = process.kill_on_drop(true).spawn();
        let mut child = spawned.with_context(|| stage.suite.program.display().to_string())?;
        std::fs::write(folder.join("pid"), child.id().context("it has ended")?.to_string())?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        Ok(Self { child, lines, folder })
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("log"))?)
    }

    /// Kills it by signal 9, and returns when it is gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill -9")
    }

    /// Stops it, so that its clock stands and it answers nothing, or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        kill_process(self.pid()?, signal).context("SIGSTOP and SIGCONT")
    }

    fn pid(&self) -> Result<Pid> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        pid.context("it has ended")
    }

    /// Asks it to end, and returns when it has; it must have gone well.
    pub(crate) async fn terminate(mut self) -> Result<()> {
        kill_process(self.pid()?, Signal::TERM)?;
        let status =
            timeout(Duration::from_secs(10), self.child.wait()).await.context("it does not end")??;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killed by its own drop, or gone.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
