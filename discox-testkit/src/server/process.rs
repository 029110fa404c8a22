//! A server as a child process.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::time::timeout;

use super::access::Access;
use super::gates::Gates;
use super::layout::{Kind, Plan};
use super::ports::Port;
use super::{settings, tail};
use crate::wait::eventually_send;

/// A signal reaches a thread when it is its turn.
const STOP_TAKES: Duration = Duration::from_secs(20);
/// More than any command of the registries' own tools takes.
const TOOL_TAKES: Duration = Duration::from_secs(60);

/// One server: its folder, its ports, and the process while there is one.
pub(crate) struct Process {
    kind: Kind,
    folder: PathBuf,
    child: Mutex<Option<Child>>,
    pub(crate) gates: Option<Arc<Gates>>,
    pub(crate) me: usize,
    _ports: Vec<Port>,
}

impl Process {
    pub(crate) fn new(
        kind: Kind,
        folder: PathBuf,
        me: usize,
        gates: Option<Arc<Gates>>,
        ports: Vec<Port>,
    ) -> Process {
        Process { kind, folder, child: Mutex::new(None), gates, me, _ports: ports }
    }

    /// The member's folders: its data, its configuration, the builder's files.
    pub(crate) fn folders(&self) -> [String; 3] {
        ["data", "config", "files"].map(|name| self.folder.join(name).display().to_string())
    }

    /// Starts it with this plan. It must not run.
    pub(crate) fn launch(&self, plan: &Plan, wipe: bool) -> Result<()> {
        let [data, config, files] = self.folders();
        if wipe {
            remove(Path::new(&data))?;
        }
        for folder in [&data, &config, &files] {
            fs::create_dir_all(folder)?;
        }
        for (path, content) in &plan.files {
            // What was written since, by `write_file`, stays.
            if !(path.starts_with(&files) && Path::new(path).exists()) {
                fs::write(path, content).with_context(|| path.clone())?;
            }
        }
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join("log"))?;
        let (program, mut command) = self.command(plan)?;
        command
            .env_clear()
            .envs(["PATH", "HOME", "TMPDIR"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .envs(plan.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the test; the watcher of the session ends this one.
            .process_group(0);
        let mut running = self.child();
        if running.is_some() {
            bail!("it runs already");
        }
        let child = command.spawn().with_context(|| program)?;
        fs::write(self.folder.join("pid"), child.id().to_string())?;
        if let Some(gates) = &self.gates {
            gates.is_now(self.me, child.id());
        }
        *running = Some(child);
        Ok(())
    }

    pub(crate) fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let [_, _, files] = self.folders();
        fs::write(Path::new(&files).join(name), content).with_context(|| name.to_owned())
    }

    fn command(&self, plan: &Plan) -> Result<(String, Command)> {
        let mut command;
        match self.kind {
            Kind::Etcd => command = Command::new(settings::program("DISCOX_TEST_ETCD", "etcd")?),
            Kind::Consul => command = Command::new(settings::program("DISCOX_TEST_CONSUL", "consul")?),
            Kind::Zookeeper => {
                command = Command::new(settings::program("DISCOX_TEST_JAVA", "java")?);
                command
                    .args(flags(&plan.env))
                    .args(["-cp", &settings::zookeeper_classpath()?])
                    .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
            }
        }
        command.args(&plan.args);
        Ok((command.get_program().display().to_string(), command))
    }

    /// What it is, for the log.
    pub(crate) fn describe(&self) -> String {
        self.command(&Plan::default()).map_or_else(|error| error.to_string(), |(program, _)| program)
    }

    /// Kills it by signal 9, if it runs.
    pub(crate) fn kill(&self) -> Result<()> {
        if let Some(mut child) = self.child().take() {
            child.kill()?;
            child.wait()?;
            fs::remove_file(self.folder.join("pid"))?;
        }
        Ok(())
    }

    /// Stops it by SIGSTOP, with all its threads when this returns, or lets it go on.
    pub(crate) async fn pause(&self, pause: bool) -> Result<()> {
        let pid =
            self.child().as_ref().and_then(|child| i32::try_from(child.id()).ok()).and_then(Pid::from_raw);
        let pid = pid.context("it does not run")?;
        if !pause {
            return Ok(kill_process(pid, Signal::CONT)?);
        }
        kill_process(pid, Signal::STOP)?;
        let stops = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let stopped = || async move { matches!(waitid(WaitId::Pid(pid), stops), Ok(Some(_))) };
        eventually_send(STOP_TAKES, "its stop", stopped).await
    }

    /// How it ended, if it did by itself.
    pub(crate) fn ended(&self) -> Option<String> {
        let ended = self.child().as_mut().and_then(|child| child.try_wait().ok().flatten());
        ended.map(|status| status.to_string())
    }

    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        tail(&String::from_utf8_lossy(&log))
    }

    /// The registry's own command line against `address`.
    pub(crate) async fn tool(&self, address: &str, access: &Access, args: &[&str]) -> Result<String> {
        let [_, _, files] = self.folders();
        let env: Vec<(String, String)> = access.tool_env_in(&files).collect();
        let mut command = match self.kind {
            Kind::Etcd => {
                let mut etcdctl = Command::new(settings::program("DISCOX_TEST_ETCDCTL", "etcdctl")?);
                etcdctl.env("ETCDCTL_API", "3").arg(format!("--endpoints={address}"));
                etcdctl
            }
            Kind::Consul => {
                let mut consul = Command::new(settings::program("DISCOX_TEST_CONSUL", "consul")?);
                consul.env("CONSUL_HTTP_ADDR", address);
                consul
            }
            Kind::Zookeeper => {
                let mut java = Command::new(settings::program("DISCOX_TEST_JAVA", "java")?);
                java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
                    .arg("-Dzookeeper.root.logger=ERROR,CONSOLE")
                    .args(flags(&env))
                    .args(["-cp", &settings::zookeeper_classpath()?])
                    .args(["org.apache.zookeeper.ZooKeeperMain", "-server", address]);
                java
            }
        };
        command.envs(env).args(args).stdin(Stdio::null());
        let mut command = tokio::process::Command::from(command);
        let output = timeout(TOOL_TAKES, command.kill_on_drop(true).output()).await??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            bail!("{}: {}{}", output.status, text(&output.stderr), text(&output.stdout));
        }
        Ok(text(&output.stdout))
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = remove(&self.folder);
        // The folder of all members goes with the last of them.
        if let Some(servers) = self.folder.parent() {
            let _ = fs::remove_dir(servers);
        }
    }
}

/// What the scripts of ZooKeeper would give the Java machine.
fn flags(env: &[(String, String)]) -> impl Iterator<Item = &str> {
    let flags = env.iter().filter(|(name, _)| name == "JVMFLAGS");
    flags.flat_map(|(_, flags)| flags.split_whitespace())
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("could not remove {}", folder.display()))?;
    }
    Ok(())
}
