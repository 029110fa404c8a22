//! The heart beat: which records are not as they were registered.

use discox_core::{
    ErrorKind, Result,
    backend::{Held, Loss},
};
use etcd_client::{Compare, CompareOp, Error as ClientError, GetOptions, Txn, TxnOp, TxnOpResponse};
use futures_util::stream::{FuturesOrdered, StreamExt};

use crate::{
    client::{Etcd, streams::Purpose},
    error,
    registrar::Receipt,
};

/// Records that one request compares. etcd takes 128 comparisons by default (`--max-txn-ops`).
const COMPARED: usize = 64;

/// Records that a request compares where etcd is set to take fewer: no one sets it lower.
const COMPARED_AT_LEAST: usize = 8;

/// Requests under way at once.
const AT_ONCE: usize = 4;

impl Etcd {
    /// Which of these are not as they were registered. Each record is compared, by its revision: a request that
    /// compares many costs etcd less than the list of a lease's keys.
    pub(crate) async fn find_lost(&self, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
        match self.compare(held, COMPARED).await {
            Err(error) if error.kind() == ErrorKind::Protocol && held.len() > COMPARED_AT_LEAST => {
                self.compare(held, COMPARED_AT_LEAST).await
            }
            compared => compared,
        }
    }

    async fn compare(&self, held: &[Held<Receipt>], at_once: usize) -> Result<Vec<(usize, Loss)>> {
        let mut under_way = FuturesOrdered::new();
        let mut lost = Vec::new();
        for (part, held) in held.chunks(at_once).enumerate() {
            if under_way.len() == AT_ONCE {
                lost.extend(under_way.next().await.transpose()?.into_iter().flatten());
            }
            under_way.push_back(self.part(part * at_once, held));
        }
        while let Some(losses) = under_way.next().await {
            lost.extend(losses?);
        }
        Ok(lost)
    }

    async fn part(&self, from: usize, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
        let losses = self.losses(held).await?;
        Ok(losses.into_iter().map(|(position, loss)| (from + position, loss)).collect())
    }

    async fn losses(&self, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
        let found = match self.changed(held).await {
            Ok(found) => found,
            Err(error) if error::is_no_permission(&error) && held.len() > 1 => {
                return self.one_by_one(held).await;
            }
            Err(error) if error::is_no_permission(&error) => return Ok(vec![(0, Loss::Denied)]),
            Err(error) => return Err(self.failed(error)),
        };
        let losses = held.iter().zip(found).enumerate();
        Ok(losses.filter_map(|(position, (held, found))| Some((position, self.loss(held, found)?))).collect())
    }

    /// One of these may not be read: the others are well.
    async fn one_by_one(&self, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
        let mut losses = Vec::new();
        for (position, held) in held.iter().enumerate() {
            let loss = match self.look_at(Purpose::Write, held.record.key()).await {
                Ok(found) => self.loss(held, found.kvs().first().map(|kv| (kv.mod_revision(), kv.lease()))),
                Err(error) if error::is_no_permission(&error) => Some(Loss::Denied),
                Err(error) => return Err(self.failed(error)),
            };
            losses.extend(loss.map(|loss| (position, loss)));
        }
        Ok(losses)
    }

    /// Compares all of these by one request. If one is not as it was written, the request reads them all: revision
    /// and lease of each, none where there is no such record.
    async fn changed(&self, held: &[Held<Receipt>]) -> Result<Vec<Option<(i64, i64)>>, ClientError> {
        let Some(first) = held.first() else { return Ok(Vec::new()) };
        let unchanged = held
            .iter()
            .map(|held| Compare::mod_revision(&**held.record.key(), CompareOp::Equal, held.receipt.revision));
        let read =
            |held: &Held<Receipt>| TxnOp::get(&**held.record.key(), Some(GetOptions::new().with_keys_only()));
        let all = held.iter().map(read).collect::<Vec<_>>();
        // Without a read, the member that is asked would compare with what it has itself, however old that is.
        let txn = Txn::new().when(unchanged.collect::<Vec<_>>()).and_then([read(first)]).or_else(all);
        let answer = self.txn(txn).await?;
        if answer.succeeded() {
            return Ok(held.iter().map(|held| Some((held.receipt.revision, held.receipt.lease))).collect());
        }
        let found = answer.op_responses().into_iter().map(|found| match found {
            TxnOpResponse::Get(found) => found.kvs().first().map(|kv| (kv.mod_revision(), kv.lease())),
            _ => None,
        });
        Ok(found.collect())
    }

    /// What is wrong with a record of which this was found, if anything is.
    fn loss(&self, held: &Held<Receipt>, found: Option<(i64, i64)>) -> Option<Loss> {
        match found {
            None => Some(Loss::Gone),
            Some((revision, _)) if revision == held.receipt.revision => None,
            Some((_, lease)) if lease == 0 || self.leases().is_own(lease) => Some(Loss::Altered),
            Some(_) => Some(Loss::Superseded),
        }
    }
}
