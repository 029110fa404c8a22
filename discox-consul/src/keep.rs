//! Keeping a connection: is the agent alive, was it restarted, and is anything left on others?

use std::{collections::BTreeMap, convert::Infallible, future::pending, sync::Arc, time::Duration};

use discox_core::{
    Error,
    backend::{Pulse, jittered},
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use crate::{
    client::{Client, Fault},
    ledger::Agent,
    link::Consul,
};

/// A service that there is not.
pub(crate) const NOBODY: &str = "discox-probe";
/// Between two probes, however often the connection is suspected.
const BETWEEN_PROBES: Duration = Duration::from_millis(100);
/// Between two probes while there is no leader.
const WITHOUT_LEADER: Duration = Duration::from_millis(500);
/// Between two held requests, when the agent did not hold the first: doubling from the one to the other.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Before a held request is tried again that the agent refused.
const WHEN_REFUSED: Duration = Duration::from_secs(10);
/// Records left behind on one agent that are removed in one round.
const REMOVALS: usize = 256;

/// Resolves when the connection is lost.
pub(crate) async fn keep(link: &Consul, pulse: &Pulse) -> Error {
    tokio::select! {
        error = probe(link, pulse) => error,
        error = look_up(link) => error,
        never = hold(link, pulse) => match never {},
        never = tidy(link, pulse) => match never {},
    }
}

/// Asks for the leader every third of the time for detection, and gives it half of that to answer: an
/// agent that hangs right after an answer is noticed in time.
async fn probe(link: &Consul, pulse: &Pulse) -> Error {
    let mut leaderless: Option<Instant> = None;
    loop {
        let detection = pulse.detection();
        let pause = if leaderless.is_some() { WITHOUT_LEADER } else { jittered(detection / 3) };
        pulse.probe_due(pause).await;
        match timeout(detection / 2, link.client.leader()).await {
            Ok(Ok(leader)) if leader.is_empty() => {
                // An election passes; another agent would be no better off.
                let since = *leaderless.get_or_insert_with(Instant::now);
                if since.elapsed() >= link.connector.settings.detection / 3 {
                    return link.leaderless();
                }
            }
            // Too many connections: it is alive.
            Ok(Ok(_) | Err(Fault::Status(429, _))) => {
                leaderless = None;
                pulse.beat();
            }
            Ok(Err(fault)) => return link.failed(fault),
            Err(_) => return link.failed(Fault::TimedOut(detection / 2)),
        }
        sleep(BETWEEN_PROBES).await;
    }
}

/// Where there are other agents: resolves when this one does not look into its own records, or into the catalogue,
/// in time. While its exchange with a leader hangs, that is dead or that it has not found yet, it goes on answering
/// other questions, but no heart beat and no list.
async fn look_up(link: &Consul) -> Error {
    let detection = link.connector.settings.detection;
    if link.connector.agents.all().len() == 1 {
        return pending().await;
    }
    loop {
        sleep(jittered(detection / 3)).await;
        let limit = detection * 2 / 3;
        let looking = async {
            let _ = link.client.service_hash(NOBODY, None, link.connector.hold()).await;
            // Whatever it answers, even that it has no leader: that is the other probe's.
            while let Err(Fault::TimedOut(_)) = link.client.health(NOBODY, None).await {}
        };
        if timeout(limit, looking).await.is_err() {
            return link.failed(Fault::TimedOut(limit));
        }
    }
}

/// Keeps a request for one of our records at the agent, which answers at once when the record is
/// gone, and breaks when the agent is.
async fn hold(link: &Consul, pulse: &Pulse) -> Infallible {
    let ledger = &link.connector.ledger;
    let mut known: Option<(Arc<str>, String)> = None;
    let mut broken = false;
    let mut pause = SHORTEST_PAUSE;
    loop {
        let began = Instant::now();
        let id = match &known {
            Some((id, _)) if ledger.wants(link.agent, id) => id.clone(),
            _ => ledger.any_wanted(link.agent).await,
        };
        let hash = known.take().filter(|(of, _)| *of == id).map(|(_, hash)| hash);
        match link.client.service_hash(&id, hash.as_deref(), link.connector.hold()).await {
            Ok(Some(now)) => {
                if std::mem::take(&mut broken) {
                    // It may have been away long enough to lose other records.
                    pulse.verify();
                }
                known = Some((id, now));
                if hash.is_none() {
                    continue;
                }
            }
            Ok(None) => {
                if ledger.wants(link.agent, &id) {
                    debug!(backend = "consul", %id, "a record is gone from its agent");
                    pulse.verify();
                }
                broken = false;
            }
            Err(Fault::Status(status, _) | Fault::Denied(status, _)) => {
                debug!(backend = "consul", status, "a request to be held was refused");
                sleep(WHEN_REFUSED).await;
            }
            Err(fault) => {
                debug!(backend = "consul", error = %link.failed(fault), "a held request broke");
                broken = true;
                pulse.suspect();
            }
        }
        pause = if began.elapsed() > pause { SHORTEST_PAUSE } else { (2 * pause).min(LONGEST_PAUSE) };
        sleep_until(began + pause).await;
    }
}

/// Removes what is left on this agent and on others, as soon as they answer.
async fn tidy(link: &Consul, pulse: &Pulse) -> Infallible {
    loop {
        sleep(jittered(link.connector.settings.detection / 3)).await;
        let mut left = BTreeMap::<Agent, Vec<Arc<str>>>::new();
        for (agent, id) in link.connector.ledger.left() {
            left.entry(agent).or_default().push(id);
        }
        for (agent, ids) in left {
            if agent == link.agent {
                remove(link, pulse, &link.client, agent, &ids).await;
            } else if let Some(Ok(client)) = link.connector.agent(agent).map(|it| link.connector.client(it)) {
                remove(link, pulse, &client, agent, &ids).await;
            }
        }
    }
}

/// Removes records from an agent, as long as it answers.
async fn remove(link: &Consul, pulse: &Pulse, client: &Client, agent: Agent, ids: &[Arc<str>]) {
    let ledger = &link.connector.ledger;
    for id in ids.iter().take(REMOVALS) {
        if client.deregister(id).await.is_err() {
            return;
        }
        debug!(backend = "consul", agent, %id, "a record left behind is removed");
        ledger.removed(agent, id);
        if ledger.wants(agent, id) {
            // It was registered again meanwhile.
            pulse.verify();
        }
    }
}
