//! Everybody comes back at once.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use discox_core::{DiscoverConfig, RegisterConfig, RegisterState};
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::{
    book::Book,
    stage::{Live, Stage, Via, start_all},
    watcher::Watcher,
};
use crate::{
    server::{Kind, MANY_CLIENTS},
    wait::eventually,
};

const CONNECTIONS: usize = 50;
/// Endpoints and watchers on each.
const EACH: usize = 10;
/// Each with ten endpoints and ten watchers.
const SERVICES: usize = 50;

/// No 100 ms may see more than this part of the connections that come back.
const BUSIEST: f64 = 0.5;

/// Here one machine plays many clients.
pub(crate) fn limits(kind: Kind) -> &'static str {
    match kind {
        Kind::Consul => MANY_CLIENTS,
        _ => "",
    }
}

/// 500 endpoints and 500 watchers on 50 connections lose the registry, and get it back.
pub(crate) async fn burst_of_500_endpoints_and_500_watchers(stage: &mut Stage) -> Result<()> {
    let crowd = Crowd::gather(stage).await?;
    let door = stage.doors.first().context("no proxy")?;
    door.refuse().await;
    door.reset_all();
    let gone = Instant::now();
    // Beyond the TTL; and by then everybody's pauses are at their longest.
    sleep(stage.settings.ttl + Duration::from_secs(2)).await;
    ensure!(crowd.lost() == CONNECTIONS * EACH, "only {} watchers have noticed", crowd.lost());
    let before = door.accepted();
    door.accept().await;
    let back = Instant::now();
    let (returned, arrivals) = tokio::join!(crowd.returns(stage, gone, back), arrivals(stage, before));
    let total = arrivals.last().copied().unwrap_or(0);
    let busiest = arrivals.windows(10).map(|window| window[9] - window[0]).max().unwrap_or(0);
    stage.notes.count("connections_back", total);
    stage.notes.count("busiest_100_ms", busiest);
    returned.with_context(|| format!("{total} connections came back: {arrivals:?}"))?;
    let share = f64::from(u32::try_from(busiest)?) / f64::from(u32::try_from(total.max(1))?);
    ensure!(share <= BUSIEST, "{busiest} of {total} connections came back within 100 ms: {arrivals:?}");
    crowd.leaves(stage).await
}

/// How many connections the proxy has accepted since then, every 10 ms for 3 s.
async fn arrivals(stage: &Stage, before: u64) -> Vec<u64> {
    let mut arrivals = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        arrivals.push(stage.doors[0].accepted() - before);
        sleep(Duration::from_millis(10)).await;
    }
    arrivals
}

/// The services of a connection are all different.
fn service(connection: usize, i: usize) -> usize {
    (connection + i * SERVICES / EACH) % SERVICES
}

/// All of them, by service.
struct Crowd {
    books: Vec<Book>,
    fleet: Vec<Live>,
    watchers: Vec<(usize, Watcher)>,
    registries: Vec<Arc<dyn discox_core::Registry>>,
}

impl Crowd {
    async fn gather(stage: &Stage) -> Result<Self> {
        let books: Vec<_> = (0..SERVICES).map(|_| Book::default()).collect();
        let mut crowd = Self { books, fleet: Vec::new(), watchers: Vec::new(), registries: Vec::new() };
        for connection in 0..CONNECTIONS {
            let registry = stage.connect(Via::Doors)?;
            for i in 0..EACH {
                let (endpoint, service) = (format!("10.1.{connection}.{i}:8000"), service(connection, i));
                crowd.books[service].live(&endpoint, "burst");
                let config = stage.register_config(&endpoint, "burst", Via::Doors);
                let service_name = format!("{}-{service}", stage.service);
                let register = registry.register(RegisterConfig { service_name, ..config })?;
                crowd.fleet.push(Live { endpoint, register });
            }
            start_all(&crowd.fleet[crowd.fleet.len() - EACH..]).await?;
            crowd.registries.push(registry);
        }
        for (connection, registry) in crowd.registries.iter().enumerate() {
            for service in (0..EACH).map(|i| service(connection, i)) {
                let config = stage.discovery(stage.settings.grace, Via::Doors);
                let service_name = format!("{}-{service}", stage.service);
                let discover = registry.discover(DiscoverConfig { service_name, ..config })?;
                crowd.watchers.push((service, Watcher::start("burst", discover)));
            }
        }
        let gathered =
            eventually(Duration::from_secs(60), "the crowd", async || crowd.problem(None).is_none());
        gathered.await.with_context(|| crowd.problem(None).unwrap_or_default())?;
        Ok(crowd)
    }

    fn problem(&self, confirmed: Option<Instant>) -> Option<String> {
        let expected: Vec<_> = self.books.iter().map(Book::expected).collect();
        let since = confirmed.map(Instant::into_std);
        let register = self.fleet.iter().find_map(|live| {
            let status = live.register.status();
            let late = since.is_some_and(|since| status.last_confirmed.is_none_or(|last| last < since));
            let right = status.state == RegisterState::Registered && !late;
            (!right).then(|| format!("{} is {status:?}", live.endpoint))
        });
        register.or_else(|| {
            self.watchers.iter().find_map(|(service, w)| w.problem(&expected[*service], confirmed))
        })
    }

    /// How many watchers know that the registry is away.
    fn lost(&self) -> usize {
        let lost = |watcher: &Watcher| watcher.discover.status().state == discox_core::DiscoverState::Lost;
        self.watchers.iter().filter(|(_, watcher)| lost(watcher)).count()
    }

    async fn returns(&self, stage: &Stage, gone: Instant, back: Instant) -> Result<()> {
        let limit = stage.recovery_target() * super::notes::TOO_MUCH;
        let right = eventually(limit, "the crowd", async || self.problem(Some(gone)).is_none()).await;
        right.map_err(|error| {
            stage.wrong_end(format!("{error}: {}", self.problem(Some(gone)).unwrap_or_default()))
        })?;
        stage.notes.took("recovery", back.elapsed(), stage.recovery_target())
    }

    /// Nobody has seen anybody go until the grace is over; then all leave.
    async fn leaves(self, stage: &Stage) -> Result<()> {
        let settled = eventually(stage.settings.grace * 3, "the end of the grace", async || {
            self.watchers.iter().all(|(_, watcher)| watcher.is_settled())
        });
        settled.await?;
        for (service, watcher) in &self.watchers {
            let verdict = self.books[*service].judge(&watcher.seen.log());
            ensure!(verdict.live_removals.is_empty() && verdict.wrong_adds.is_empty(), "{verdict:?}");
            ensure!(verdict.losses == 1 && verdict.wrong_events.is_empty(), "{verdict:?}");
        }
        try_join_all(self.fleet.iter().map(|live| live.register.stop())).await?;
        try_join_all(self.watchers.into_iter().map(|(_, watcher)| watcher.stop())).await?;
        for registry in self.registries {
            registry.close().await;
        }
        Ok(())
    }
}
