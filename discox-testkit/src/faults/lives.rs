//! Processes that die and are replaced, while the registry is fine.

use anyhow::Result;
use tokio::time::{Duration, Instant};

use super::{
    process::Process,
    stage::{Stage, Via},
};

/// A process that registers is killed by signal 9 and started again within its TTL, again and again.
pub(crate) async fn process_killed_and_restarted_within_the_ttl(stage: &mut Stage) -> Result<()> {
    let endpoint = stage.newcomer();
    stage.book.live(&endpoint, "life 0");
    let mut process = Process::registered(stage, &endpoint, "life 0", Via::Doors).await?;
    stage.lag(&endpoint, "life 0").await?;
    let lives = stage.form.choose(10, 50);
    for life in 1..=lives {
        let attr = format!("life {life}");
        stage.book.live(&endpoint, &attr);
        process.kill().await?;
        process = Process::registered(stage, &endpoint, &attr, Via::Doors).await?;
        stage.lag(&endpoint, &attr).await?;
    }
    stage.notes.count("lives", lives);
    // The ends of all earlier lives come by themselves, and must harm nobody.
    let over = stage.settings.ttl + Duration::from_secs(3);
    stays(stage, over).await?;
    stage.settles().await?;
    stage.book.ended(&endpoint);
    process.terminate().await
}

/// At one address, the old process is asked to end after the new one has registered.
pub(crate) async fn rolling_replacement_at_the_same_address(stage: &mut Stage) -> Result<()> {
    let endpoint = stage.newcomer();
    stage.book.live(&endpoint, "version 0");
    let mut old = Process::registered(stage, &endpoint, "version 0", Via::Doors).await?;
    stage.lag(&endpoint, "version 0").await?;
    for version in 1..=stage.form.choose(4, 20) {
        let attr = format!("version {version}");
        stage.book.live(&endpoint, &attr);
        let new = Process::registered(stage, &endpoint, &attr, Via::Doors).await?;
        stage.lag(&endpoint, &attr).await?;
        if version == 1 {
            // For so long that it could take its record back.
            stays(stage, stage.settings.heart_beat * 4).await?;
        }
        old.terminate().await?;
        old = new;
        stage.wait_until_right(Duration::from_secs(1)).await?;
    }
    stays(stage, stage.settings.ttl + Duration::from_secs(3)).await?;
    stage.settles().await?;
    stage.book.ended(&endpoint);
    old.terminate().await
}

/// Everything stays right for this long.
pub(crate) async fn stays(stage: &Stage, long: Duration) -> Result<()> {
    let (began, expected) = (Instant::now(), stage.book.expected());
    while began.elapsed() < long {
        if let Some(problem) = stage.watchers.iter().find_map(|watcher| watcher.differs(&expected)) {
            return Err(stage.wrong_end(format!("{problem}, {:?} later", began.elapsed())));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
