//! What an operator reads of an outage.

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::{
    process::Process,
    stage::{Stage, Via},
};
use crate::{server::Data, wait::eventually};

/// A program that registers and one that watches log an outage: one line of each kind when it begins, and one,
/// with how long it took, when it is over.
pub(crate) async fn an_outage_is_logged_once(stage: &mut Stage) -> Result<()> {
    let endpoint = stage.newcomer();
    stage.book.live(&endpoint, "logged");
    let register = Process::registered(stage, &endpoint, "logged", Via::Direct).await?;
    let watch = Process::watching(stage, &endpoint, Via::Direct).await?;
    stage.servers.kill().await?;
    sleep(stage.settings.ttl).await;
    stage.servers.start(Data::Kept).await?;
    let over = [(&register, "registered"), (&watch, "discovery synced")];
    for (process, line) in over {
        let back = eventually(stage.recovery_target() * super::notes::TOO_MUCH, line, async || {
            lines(process, line).is_ok_and(|lines| lines.len() == 2)
        });
        back.await?;
    }
    for (process, lost, back) in [
        (&register, "registry lost", "registry connected"),
        (&register, "registration lost", "registered"),
        (&watch, "registry lost", "registry connected"),
        (&watch, "discovery lost", "discovery synced"),
    ] {
        let (lost, back) = (lines(process, lost)?, lines(process, back)?);
        ensure!(lost.len() == 1 && lost.iter().all(|line| line.contains("error=")), "{lost:?}");
        let took = |line: &String| line.contains("after=Some(");
        ensure!(back.len() == 2 && !took(&back[0]) && took(&back[1]), "{back:?}");
    }
    stage.book.ended(&endpoint);
    register.terminate().await?;
    watch.terminate().await
}

/// The lines of a log that say this.
fn lines(process: &Process, what: &str) -> Result<Vec<String>> {
    let log = process.log()?;
    let said = |line: &&str| line.split_once(": ").is_some_and(|(_, rest)| rest.starts_with(what));
    Ok(log.lines().filter(said).map(str::to_owned).collect())
}
