//! Keeping a connection: is the agent alive, was it restarted, and is anything left on others?

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use discox_core::{
    Error,
    backend::{Liveness, jittered},
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use crate::{
    agent::{Consul, NOBODY},
    client::Fault,
    placements::Leftover,
    record::remove_from,
    restored::restored,
};

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
pub(crate) async fn keep(link: &Consul, liveness: &Liveness) -> Error {
    tokio::select! {
        error = probe_agent(link, liveness) => error,
        error = probe_catalogue(link) => error,
        error = restored(link) => error,
        never = hold_one_service(link, liveness) => match never {},
        never = remove_leftovers(link, liveness) => match never {},
        never = read_token_again(link, liveness) => match never {},
    }
}

/// Asks for the leader every third of the time for detection, and gives it half of that to answer: an
/// agent that hangs right after an answer is noticed in time.
async fn probe_agent(link: &Consul, liveness: &Liveness) -> Error {
    let mut leaderless: Option<Instant> = None;
    loop {
        let detection = liveness.detection();
        let pause = if leaderless.is_some() { WITHOUT_LEADER } else { jittered(detection / 3) };
        liveness.probe_due(pause).await;
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
                liveness.answered();
            }
            Ok(Err(fault)) => return link.failed(fault),
            Err(_) => return link.failed(Fault::TimedOut(detection / 2)),
        }
        sleep(BETWEEN_PROBES).await;
    }
}

/// With several agents: resolves when this one stops answering questions about its own records, or about the
/// catalogue. While it has lost its leader without knowing it, it goes on answering `status/leader`, but neither
/// heart beats nor lists.
async fn probe_catalogue(link: &Consul) -> Error {
    let detection = link.connector.settings.detection;
    if link.connector.agents.all().len() == 1 {
        return pending().await;
    }
    loop {
        sleep(jittered(detection / 3)).await;
        let limit = detection * 2 / 3;
        let looking = async {
            let _ = link.client.service_hash(NOBODY, None, link.connector.hold()).await;
            // Any answer will do, even that it has no leader: `probe_agent` sees to that.
            while let Err(Fault::TimedOut(_)) = link.client.answers_for(NOBODY).await {}
        };
        if timeout(limit, looking).await.is_err() {
            return link.failed(Fault::TimedOut(limit));
        }
    }
}

/// Keeps a request for one of our records at the agent, which answers at once when the record is
/// gone, and breaks when the agent is.
async fn hold_one_service(link: &Consul, liveness: &Liveness) -> Infallible {
    let placements = &link.connector.placements;
    let mut known: Option<(Arc<str>, String)> = None;
    let mut broken = false;
    let mut pause = SHORTEST_PAUSE;
    loop {
        let began = Instant::now();
        let id = match &known {
            Some((id, _)) if placements.wants(link.agent, id) => id.clone(),
            _ => placements.any_wanted(link.agent).await,
        };
        let hash = known.take().filter(|(of, _)| *of == id).map(|(_, hash)| hash);
        match link.client.service_hash(&id, hash.as_deref(), link.connector.hold()).await {
            Ok(Some(now)) => {
                if std::mem::take(&mut broken) {
                    // It may have been away long enough to lose other records.
                    liveness.verify();
                }
                known = Some((id, now));
                if hash.is_none() {
                    continue;
                }
            }
            Ok(None) => {
                if placements.wants(link.agent, &id) {
                    debug!(backend = "consul", %id, "a record is gone from its agent");
                    liveness.verify();
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
                liveness.probe_now();
            }
        }
        pause = if began.elapsed() > pause { SHORTEST_PAUSE } else { (2 * pause).min(LONGEST_PAUSE) };
        sleep_until(began + pause).await;
    }
}

/// Removes records that are left on this agent and on others, as soon as they answer.
async fn remove_leftovers(link: &Consul, liveness: &Liveness) -> Infallible {
    loop {
        sleep(jittered(link.connector.settings.detection / 3)).await;
        let mut left = link.connector.placements.left();
        left.sort_by_key(|left| left.agent);
        for left in left.chunk_by(|one, next| one.agent == next.agent) {
            remove_from_agent(link, liveness, left).await;
        }
    }
}

/// Removes records from one agent, as long as it answers.
async fn remove_from_agent(link: &Consul, liveness: &Liveness, left: &[Leftover]) {
    let (connector, placements) = (&link.connector, &link.connector.placements);
    let Some(Leftover { agent, .. }) = left.first() else { return };
    let of_other;
    let client = if *agent == link.agent {
        &link.client
    } else {
        let Some(address) = connector.agent(*agent) else { return };
        let Ok(client) = connector.client(address).await else { return };
        of_other = client;
        &of_other
    };
    for Leftover { agent, id, service } in left.iter().take(REMOVALS) {
        match remove_from(link, client, service, id).await {
            Ok(()) => {}
            // What is refused for one record may be let in for the next.
            Err(Fault::Denied(..)) => continue,
            Err(_) => return,
        }
        debug!(backend = "consul", agent, %id, "a record left behind is removed");
        placements.removed(*agent, id);
        if placements.wants(*agent, id) {
            // It was registered again meanwhile.
            liveness.verify();
        }
    }
}

/// Reads the token's file from time to time, so that the agent is given a new token while the old one is still good.
async fn read_token_again(link: &Consul, liveness: &Liveness) -> Infallible {
    let token = &link.connector.token;
    loop {
        sleep(jittered(link.connector.settings.detection / 3)).await;
        let known = token.version();
        token.refresh().await;
        if token.version() != known {
            liveness.verify();
        }
    }
}
