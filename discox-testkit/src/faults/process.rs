//! `discox register` as a process of its own, which can be killed.

use std::{path::PathBuf, process::Stdio, time::Duration};

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

/// A registration in a process of its own; killed by signal 9 when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// So that it is killed with this process's servers, whatever ends this process.
    pid_file: PathBuf,
}

impl Process {
    /// Starts one and waits until it says that it is registered. It is for the caller to write it into the book.
    pub(crate) async fn registered(stage: &Stage, endpoint: &str, attr: &str, via: Via) -> Result<Self> {
        let mut process = Self::spawn(stage, endpoint, attr, via)?;
        let line = timeout(REGISTERED, process.lines.next_line()).await;
        match line.with_context(|| format!("{endpoint} was not registered within {REGISTERED:?}"))?? {
            Some(line) if line.contains("registered") => Ok(process),
            other => bail!("discox register said {other:?}"),
        }
    }

    fn spawn(stage: &Stage, endpoint: &str, attr: &str, via: Via) -> Result<Self> {
        let config = stage.register_config(endpoint, attr, via);
        let mut command = Command::new(&stage.suite.program);
        command.args([
            "register",
            "--backend",
            config.backend_type.as_str(),
            "--prefix",
            &config.discover_prefix,
        ]);
        command.args(["--service", &config.service_name, "--endpoint", endpoint, "--attr", attr]);
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        command.args([
            "--heart-beat",
            &millis(config.heart_beat_period),
            "--ttl",
            &millis(stage.settings.ttl),
        ]);
        for address in &config.backend_endpoints {
            command.args(["--backend-endpoint", address]);
        }
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child =
            command.kill_on_drop(true).spawn().with_context(|| stage.suite.program.display().to_string())?;
        let pid = child.id().context("it has ended")?;
        let folder = Session::get()?.folder("processes")?.join(pid.to_string());
        std::fs::create_dir_all(&folder)?;
        let pid_file = folder.join("pid");
        std::fs::write(&pid_file, pid.to_string())?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        Ok(Self { child, lines, pid_file })
    }

    /// Kills it by signal 9, and returns when it is gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill -9")
    }

    /// Asks it to end, and returns when it has; it must have gone well.
    pub(crate) async fn terminate(mut self) -> Result<()> {
        let pid =
            self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).context("it has ended")?;
        kill_process(pid, Signal::TERM)?;
        let status =
            timeout(Duration::from_secs(10), self.child.wait()).await.context("it does not end")??;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killed by its own drop, or gone.
        if let Some(folder) = self.pid_file.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}
