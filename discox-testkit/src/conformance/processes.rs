//! A registration in a process of its own, which is killed.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::{
    ground::Ground,
    recorder::What,
    scene::{AT_ONCE, ATTR, ATTR2, Scene, same},
};

const HERE: &str = "10.1.0.1:8111";

/// Until a program has started and registered, on a busy machine.
const STARTED: Duration = Duration::from_secs(10);

/// After `kill -9` the endpoint is gone within the bounds of the contract, and others are not.
pub async fn a_killed_process_is_gone_in_time(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let other = scene.registered("10.1.0.2:1", ATTR).await?;
    let watching = scene.watch().await?;
    let process = Process::spawn(&scene, ATTR, Duration::from_secs(1))?;
    watching.seen.shows(HERE, ATTR, STARTED).await?;
    let killed = Instant::now();
    drop(process);
    let bound = ground.expiry(Duration::from_secs(3));
    watching.seen.misses(HERE, bound).await?;
    eprintln!("gone {:.1} s after kill -9, the bound is {bound:?}", killed.elapsed().as_secs_f64());
    watching.seen.lists(&["10.1.0.2:1"], Duration::ZERO).await?;
    Ok(other.stop().await?)
}

/// A process that is killed and started again within the TTL is never missed.
pub async fn a_process_restarted_within_its_ttl_is_not_missed(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let period = Duration::from_secs(4);
    let killed = Process::spawn(&scene, ATTR, period)?;
    watching.seen.shows(HERE, ATTR, STARTED).await?;
    drop(killed);
    let restarted = Process::spawn(&scene, ATTR2, period)?;
    watching.seen.shows(HERE, ATTR2, STARTED).await?;
    let past_the_end = ground.expiry(3 * period);
    watching.seen.stays_free_of(0, "a delete", past_the_end, What::is_delete).await?;
    same("what was told", watching.seen.since(0).iter().filter(|what| what.is_about(HERE)).count(), 2)?;
    drop(restarted);
    Ok(())
}

/// A process that is asked to end deregisters at once.
pub async fn a_terminated_process_deregisters_at_once(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let watching = scene.watch().await?;
    let mut process = Process::spawn(&scene, ATTR, Duration::from_secs(5))?;
    watching.seen.shows(HERE, ATTR, STARTED).await?;
    let pid = Pid::from_child(&process.0);
    kill_process(pid, Signal::TERM)?;
    watching.seen.misses(HERE, AT_ONCE).await?;
    let ended = crate::wait::eventually(AT_ONCE, "the end of the process", async || {
        process.0.try_wait().ok().flatten()
    });
    let status = ended.await?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// A process that registers; killed by signal 9 when dropped.
struct Process(Child);

impl Process {
    fn spawn(scene: &Scene<'_>, attr: &str, period: Duration) -> Result<Self> {
        let program = scene.ground.program().context("no program to run")?;
        let backend = scene.ground.backend().to_string();
        let mut command = Command::new(&program);
        command.args([
            "register",
            "--backend",
            &backend,
            "--prefix",
            &scene.prefix,
            "--service",
            &scene.service,
        ]);
        command.args(["--endpoint", HERE, "--attr", attr, "--heart-beat", &format!("{}s", period.as_secs())]);
        for endpoint in scene.ground.backend_endpoints() {
            command.args(["--backend-endpoint", &endpoint]);
        }
        command.args(scene.ground.program_arguments()?);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("{}", program.display()))?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
