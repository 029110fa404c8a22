//! Why records went, found out after the fact: which lease each was on, and whether that lease still lives.
//!
//! The event of a deletion says nothing of it. The state before it does, as long as it is not compacted. A lease that
//! lives has not let its record go: the record was deleted. A lease that is gone has.

use std::{collections::HashMap, sync::Arc};

use discox_core::Cause;
use etcd_client::{Error as ClientError, GetOptions, LeaseTimeToLiveOptions, Txn, TxnOp, TxnOpResponse};
use futures_util::future::join_all;

use crate::client::{Etcd, streams::Purpose};

/// Gets of one transaction: half of what a server takes by default (`--max-txn-ops`).
const AT_ONCE: usize = 64;

/// Leases that are asked for, of one batch of deletions. When more end together, the registry has other things to do.
const LEASES: usize = 32;

/// A record that was deleted.
pub(crate) struct Deleted {
    pub(crate) endpoint: Arc<str>,
    pub(crate) key: Vec<u8>,
    /// The revision of the deletion.
    pub(crate) revision: i64,
}

/// What is known of the causes.
pub(crate) async fn why_gone(link: Arc<Etcd>, deleted: Vec<Deleted>) -> Vec<(Arc<str>, Cause)> {
    let mut owners = Vec::new();
    for some in deleted.chunks(AT_ONCE) {
        let Ok(leases) = link.leases_before(some).await else { continue };
        owners.extend(some.iter().map(|deleted| deleted.endpoint.clone()).zip(leases));
    }
    let mut leases: Vec<i64> =
        owners.iter().filter_map(|(_, lease)| *lease).filter(|lease| *lease != 0).collect();
    leases.sort_unstable();
    leases.dedup();
    leases.truncate(LEASES);
    let causes = join_all(leases.iter().map(|lease| link.why_of(*lease))).await;
    let causes: HashMap<i64, Cause> =
        leases.into_iter().zip(causes).filter_map(|(lease, cause)| Some((lease, cause?))).collect();
    let cause = |lease: Option<i64>| match lease? {
        0 => Some(Cause::Deleted),
        lease => causes.get(&lease).cloned(),
    };
    owners.into_iter().filter_map(|(endpoint, lease)| Some((endpoint, cause(lease)?))).collect()
}

impl Etcd {
    /// The leases that records were on before they were deleted; 0 is none.
    async fn leases_before(&self, deleted: &[Deleted]) -> Result<Vec<Option<i64>>, ClientError> {
        let gets: Vec<_> = deleted
            .iter()
            .map(|Deleted { key, revision, .. }| {
                let before = GetOptions::new().with_revision(revision - 1).with_keys_only();
                TxnOp::get(key.clone(), Some(before))
            })
            .collect();
        let answer = self.txn_of(Purpose::List, Txn::new().and_then(gets)).await?;
        let lease = |response: TxnOpResponse| match response {
            TxnOpResponse::Get(get) => get.kvs().first().map(|kv| kv.lease()),
            _ => None,
        };
        Ok(answer.op_responses().into_iter().map(lease).collect())
    }

    /// What the state of a lease says of a record that was on it.
    async fn why_of(&self, lease: i64) -> Option<Cause> {
        let left = self.time_to_live(lease).await.ok()?;
        match left {
            // It has time left, so that it cannot have expired.
            1.. => Some(Cause::Deleted),
            0 => None,
            _ => Some(Cause::LeaseEnded),
        }
    }

    /// The seconds that a lease has left; less than 0 when there is no such lease.
    async fn time_to_live(&self, lease: i64) -> Result<i64, ClientError> {
        let call = || {
            let mut leases = self.lease_client();
            async move { leases.time_to_live(lease, Some(LeaseTimeToLiveOptions::new())).await }
        };
        self.call(Purpose::List, call).await.map(|answer| answer.ttl())
    }
}
