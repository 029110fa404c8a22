//! Withdraws records from the registry.

use std::{convert::Infallible, sync::Arc};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::{call::call, shared::Shared};
use crate::{ErrorKind, Result, backend::Link, record::Record};

/// Withdrawals that are under way at once: enough for a process that leaves, few enough to spare the registry.
const AT_ONCE: usize = 8;

/// Withdraws what is to be withdrawn, as long as the link is in use. None waits for another one that fails.
pub(super) async fn run<L: Link>(shared: &Shared<L>, link: &L) -> Infallible {
    let queue = &shared.withdrawals;
    queue.renew();
    let mut running = FuturesUnordered::new();
    loop {
        let mut later = None;
        while running.len() < AT_ONCE {
            match queue.next() {
                Ok((record, receipt)) => running.push(attempt(shared, link, record, receipt)),
                Err(due) => {
                    later = due;
                    break;
                }
            }
        }
        tokio::select! {
            biased;
            () = queue.pushed.notified() => {}
            Some(()) = running.next(), if !running.is_empty() => {}
            () = sleep_until(later.unwrap_or_else(Instant::now)), if later.is_some() => {}
        }
    }
}

async fn attempt<L: Link>(shared: &Shared<L>, link: &L, record: Arc<Record>, receipt: Option<L::Receipt>) {
    let Record { service, endpoint, .. } = &*record;
    let Err(error) = withdraw(shared, link, &record, receipt.as_ref()).await else {
        shared.withdrawals.done(&record);
        return;
    };
    if error.kind() != ErrorKind::Denied {
        shared.liveness.probe_now();
    }
    if shared.withdrawals.failed(&record, &error) {
        debug!(backend = %L::BACKEND, %service, %endpoint, %error, "not deregistered yet");
    } else {
        warn!(
            backend = %L::BACKEND, %service, %endpoint, %error,
            "not deregistered, and given up: the registry may hold the record until this connection ends, or longer"
        );
        shared.claims.leave(&record);
    }
}

/// Removes a record and gives its slot up, unless another registration of this process has taken
/// the record over, or it is wanted again by the time it is its turn.
async fn withdraw<L: Link>(
    shared: &Shared<L>,
    link: &L,
    record: &Record,
    receipt: Option<&L::Receipt>,
) -> Result<()> {
    let Some(_turn) = shared.claims.turn(record).await else { return Ok(()) };
    if shared.claims.owns(record) && shared.withdrawals.waits(record) {
        let answer =
            call::<L, _>("withdraw", shared.settings.request_timeout, link.withdraw(record, receipt)).await;
        answer.map_err(|error| shared.place(error.with_subject(record)))?;
        info!(backend = %L::BACKEND, service = %record.service, endpoint = %record.endpoint, "deregistered");
        if shared.withdrawals.waits(record) {
            shared.claims.leave(record);
        }
    }
    Ok(())
}
