//! Names with several addresses. The crate dials them one after the other, and waits for a dead one as long as it may
//! wait for the whole member.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{net::lookup_host, time::timeout};

use crate::address::Address;

/// Who is not reached by then is left to the crate.
const WITHIN: Duration = Duration::from_secs(1);

/// The members, with an address in place of each name that has several: the one that answers first.
pub(super) async fn reachable(members: &[String]) -> Vec<String> {
    let reaching = members.iter().map(|member| async move {
        let reached = timeout(WITHIN, reach(member)).await.ok().flatten();
        reached.unwrap_or_else(|| member.clone())
    });
    join_all(reaching).await
}

async fn reach(member: &str) -> Option<String> {
    let (host, port) = Address::parts(member);
    if lookup_host((host, port)).await.ok()?.count() < 2 {
        return None;
    }
    let stream = discox_tls::dial(host, port).await.ok()?;
    Some(stream.peer_addr().ok()?.to_string())
}
