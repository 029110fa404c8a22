//! After a fault: waiting until all is right again, and for how long that took.

use std::time::Duration;

use anyhow::{Result, anyhow};
use discox_core::RegisterState;
use tokio::time::Instant;

use super::{
    book::Expected,
    notes::TOO_MUCH,
    stage::{Stage, UP, Via},
    tools::{self, Stored},
    watcher::Watcher,
};
use crate::{conformance::What, server::Kind, wait::eventually};

/// Adds and updates are in a watcher's cache this long after the registry has them.
const LAG: Duration = Duration::from_secs(1);

/// Beyond the grace, until a removal that was held has been told.
const SETTLED: Duration = Duration::from_secs(12);

/// Until a registry's own tool shows what the registry's watchers see.
const TOOLS: Duration = Duration::from_secs(20);

/// A first list, on a machine that runs many cells.
const FIRST_LIST: Duration = Duration::from_secs(10);

impl Stage {
    /// "Registered again and visible within this of the server answering again."
    pub(crate) fn recovery_target(&self) -> Duration {
        Duration::from_secs(if self.kind() == Kind::Consul { 3 } else { 2 })
    }

    /// Waits until every watcher has been told that the registry, silent since then, is lost.
    pub(crate) async fn detects(&self, silent: Instant) -> Result<()> {
        let target = self.settings.detection;
        for watcher in &self.watchers {
            let lost = |what: &What| matches!(what, What::Lost(_));
            let told = watcher.seen.wait_for(0, "the loss", target * TOO_MUCH, lost).await?;
            self.notes.took("detection", told.saturating_duration_since(silent), target)?;
        }
        Ok(())
    }

    /// The whole course after a fault: `faulty` since when nothing could be confirmed, `back` since when the
    /// registry answers again.
    pub(crate) async fn recovers(&self, faulty: Instant, back: Instant) -> Result<()> {
        self.right_again("recovery", faulty, back, self.recovery_target()).await?;
        self.still_works().await?;
        self.settles().await
    }

    /// Waits until everything has been confirmed after `faulty` and all that is live is visible to a fresh
    /// discovery, and notes how long after `back` that was.
    pub(crate) async fn right_again(
        &self,
        figure: &str,
        faulty: Instant,
        back: Instant,
        target: Duration,
    ) -> Result<()> {
        let expected = self.book.expected();
        let fresh = self.watch("fresh", Duration::ZERO, Via::Direct)?;
        let problem = || self.problem(&expected, Some(faulty)).or_else(|| fresh.problem(&expected, None));
        let limit = (back + target * TOO_MUCH).saturating_duration_since(Instant::now());
        let right = eventually(limit, figure, async || problem().is_none()).await;
        let took = back.elapsed();
        match problem() {
            // What is wrong counts, not that it was late to be looked at.
            Some(problem) if right.is_err() => Err(self.wrong_end(format!(
                "{problem}, {:.1} s after the registry was back ({figure})",
                took.as_secs_f64()
            ))),
            _ => self.notes.took(figure, took, target),
        }?;
        fresh.stop().await
    }

    /// What is wrong with the registrations and the watchers, if anything is.
    pub(crate) fn problem(&self, expected: &Expected, confirmed: Option<Instant>) -> Option<String> {
        let since = confirmed.map(Instant::into_std);
        let register = self.fleet.iter().find_map(|live| {
            let status = live.register.status();
            let late = since.is_some_and(|since| status.last_confirmed.is_none_or(|last| last < since));
            let right = status.state == RegisterState::Registered && !late;
            (!right).then(|| format!("{} is {:?}: {:?}", live.endpoint, status.state, status.last_error))
        });
        register.or_else(|| self.watchers.iter().find_map(|watcher| watcher.problem(expected, confirmed)))
    }

    /// An update of a live endpoint and a new endpoint reach every watcher, and the new one leaves them.
    pub(crate) async fn still_works(&self) -> Result<()> {
        let Some(live) = self.fleet.first() else { return Ok(()) };
        let attr = format!("after {:016x}", fastrand::u64(..));
        self.book.live(&live.endpoint, &attr);
        // An error means not yet: a member that wakes up to what it was sent while it was silent may end a connection
        // once more.
        if let Err(error) = live.register.update_attr(&attr).await
            && !error.kind().is_retryable()
        {
            return Err(error.into());
        }
        self.lag(&live.endpoint, &attr).await?;
        let late = &self.newcomer();
        let register = self.registration_on_shared(late, "late")?;
        eventually(UP, "a start", async || register.start().await.ok()).await?;
        self.lag(late, "late").await?;
        self.book.ended(late);
        register.stop().await?;
        Ok(())
    }

    /// Notes how long the slowest watcher took to show what the registry has acknowledged just now.
    pub(crate) async fn lag(&self, endpoint: &str, attr: &str) -> Result<()> {
        let written = Instant::now();
        for watcher in &self.watchers {
            watcher.seen.shows(endpoint, attr, LAG * TOO_MUCH).await?;
        }
        self.notes.took("watcher lag", written.elapsed(), LAG)
    }

    /// Waits until no removal is held any more, and checks that nothing live was removed by that: by the
    /// watchers, a fresh discovery and the registry's own tool.
    pub(crate) async fn settles(&self) -> Result<()> {
        let within = self.settings.grace * 2 + SETTLED;
        let unsettled = || self.watchers.iter().find(|watcher| !watcher.is_settled());
        let settled = eventually(within, "the end of the grace", async || unsettled().is_none()).await;
        if let (Err(error), Some(watcher)) = (settled, unsettled()) {
            return Err(self.wrong_end(format!(
                "{error}: watcher {} {:?}",
                watcher.name,
                watcher.discover.status()
            )));
        }
        self.is_right().await
    }

    /// Everybody and everything shows what is live, now and to stay.
    pub(crate) async fn is_right(&self) -> Result<()> {
        let expected = self.book.expected();
        let fresh = self.watch("fresh at the end", Duration::ZERO, Via::Direct)?;
        fresh.synced(FIRST_LIST).await?;
        let problem = || self.problem(&expected, None).or_else(|| fresh.problem(&expected, None));
        if eventually(LAG * TOO_MUCH, "the end", async || problem().is_none()).await.is_err() {
            return Err(self.wrong_end(problem().unwrap_or_default()));
        }
        fresh.stop().await?;
        self.tool_agrees(&expected).await
    }

    /// The registry's own tool shows one record for each live endpoint and no other.
    async fn tool_agrees(&self, expected: &Expected) -> Result<()> {
        let mut last = String::new();
        let agrees = eventually(TOOLS, "the registry's own tool to agree", async || {
            last = match tools::records(self).await {
                Ok(records) => tools::disagreement(&self.counted(records), expected),
                Err(error) => format!("{error:#}"),
            };
            last.is_empty()
        });
        agrees.await.map_err(|error| self.wrong_end(format!("{error}: {last}")))
    }

    /// Where an agent may be away with its records, those that are critical count for nothing: Consul removes them
    /// after a minute.
    fn counted(&self, mut records: Vec<Stored>) -> Vec<Stored> {
        if self.cell.excuse().is_some() {
            records.retain(|record| record.served);
        }
        records
    }

    /// An error that counts as a wrong end state.
    pub(crate) fn wrong_end(&self, what: String) -> anyhow::Error {
        self.notes.count("wrong_end_states", 1);
        anyhow!("wrong end: {what}")
    }
}

/// Waits until a watcher shows this, and says how it differs if it does not.
pub(crate) async fn shows(watcher: &Watcher, expected: &Expected, within: Duration) -> Result<()> {
    let right = eventually(within, "the list", async || watcher.differs(expected).is_none()).await;
    right.map_err(|error| anyhow!("{error}: {}", watcher.differs(expected).unwrap_or_default()))
}
