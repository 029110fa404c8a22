//! Registration: what is written, what fences it, and how a loss shows.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use discox_core::{
    Error, ErrorKind, Result,
    backend::{Held, Loss, Registered, Take},
    key::Record,
};
use etcd_client::{
    Compare, CompareOp, Error as ClientError, GetOptions, LeaseTimeToLiveOptions, PutOptions, Txn, TxnOp,
};
use futures_util::future::try_join_all;

use crate::{Etcd, error, leases::Lease};

/// A write that is fenced by what was read before is tried so often against others who write the
/// same record.
const ATTEMPTS: usize = 3;

/// Up to this many records a heart beat compares each; of more it asks which are on their lease, and
/// compares this many in turn, for an alteration that left the lease in place.
const COMPARE_EACH: usize = 64;

/// Records that one request compares, and reads that are under way at once. etcd takes 128 comparisons by default
/// (`--max-txn-ops`).
const AT_ONCE: usize = 16;

/// What etcd answered to a registration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// The revision that wrote the record.
    pub(crate) revision: i64,
    /// The lease it is on.
    pub(crate) lease: i64,
}

/// What became of a write.
enum Written {
    At(i64),
    /// Somebody else has written between our read and our write.
    Raced,
    /// It is on somebody else's lease.
    Superseded,
}

impl Etcd {
    /// Writes a record with one of our leases. `known` is the revision that wrote it last, as far as we know.
    pub(crate) async fn write(
        &self,
        record: &Record,
        attr: &str,
        take: Take,
        mut known: Option<i64>,
    ) -> Result<Registered<Receipt>> {
        let key = record.key();
        for _ in 0..ATTEMPTS {
            let lease = self.leases().join(key, record.ttl, |seconds| self.grant(seconds)).await?;
            let written = match (take, known.take()) {
                (Take::Over, _) => self.put(key, attr, lease).await,
                (Take::Back, Some(revision)) => self.put_over(key, attr, lease, revision).await,
                (Take::Back, None) => self.take_back(key, attr, lease).await,
            };
            match written {
                Ok(Written::At(revision)) => {
                    return Ok(Registered { receipt: Receipt { revision, lease: lease.id }, ttl: lease.ttl });
                }
                Ok(Written::Raced) => {}
                Ok(Written::Superseded) => {
                    self.leases().leave(key);
                    return Err(
                        self.here(Error::new(ErrorKind::Superseded, "the record is on another lease"))
                    );
                }
                Err(error) if error::is_lease_gone(&error) => self.leases().forget(lease.id),
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(self.here(Error::new(
            ErrorKind::Unavailable,
            "the record, or our lease, keeps changing under our hands",
        )))
    }

    async fn grant(&self, seconds: i64) -> Result<Lease> {
        let granted = self.lease().grant(seconds, None).await.map_err(|error| self.failed(error))?;
        let (id, ttl) = (granted.id(), u64::try_from(granted.ttl()).unwrap_or(0));
        if id == 0 || ttl == 0 || !granted.error().is_empty() {
            return Err(self.here(Error::new(ErrorKind::Protocol, "the server has granted no lease")));
        }
        Ok(Lease { id, ttl: Duration::from_secs(ttl) })
    }

    async fn put(&self, key: &str, attr: &str, lease: Lease) -> Result<Written, ClientError> {
        let written = self.kv().put(key, attr, Some(PutOptions::new().with_lease(lease.id))).await?;
        Ok(Written::At(written.header().map_or(0, |header| header.revision())))
    }

    /// Writes the record unless it is another's, and not at all if it is as it should be.
    async fn take_back(&self, key: &str, attr: &str, lease: Lease) -> Result<Written, ClientError> {
        let found = self.kv().get(key, None).await?;
        let revision = match found.kvs().first() {
            None => 0,
            Some(kv) if kv.lease() == lease.id && kv.value() == attr.as_bytes() => {
                return Ok(Written::At(kv.mod_revision()));
            }
            Some(kv) if kv.lease() == 0 || self.leases().is_own(kv.lease()) => kv.mod_revision(),
            Some(_) => return Ok(Written::Superseded),
        };
        self.put_over(key, attr, lease, revision).await
    }

    /// Writes the record over what this revision has left.
    async fn put_over(
        &self,
        key: &str,
        attr: &str,
        lease: Lease,
        revision: i64,
    ) -> Result<Written, ClientError> {
        let put = TxnOp::put(key, attr, Some(PutOptions::new().with_lease(lease.id)));
        let answer = self.kv().txn(if_unchanged(key, revision).and_then([put])).await?;
        match answer.header() {
            Some(header) if answer.succeeded() => Ok(Written::At(header.revision())),
            _ => Ok(Written::Raced),
        }
    }

    /// Removes a record that is still ours.
    pub(crate) async fn remove(&self, key: &str, receipt: Option<&Receipt>) -> Result<()> {
        self.leases().leave(key);
        match receipt {
            Some(receipt) if self.delete(key, receipt.revision).await? => Ok(()),
            Some(_) => self.remove_if_ours(key).await,
            None => {
                self.leases().doubt(key.to_owned());
                self.remove_if_ours(key).await
            }
        }
    }

    /// Removes a record that is on one of our leases and that no registration wants.
    pub(crate) async fn remove_if_ours(&self, key: &str) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let found = self.look_at(key).await.map_err(|error| self.failed(error))?;
            let Some(kv) = found.kvs().first().filter(|kv| self.leases().is_own(kv.lease())) else {
                return Ok(());
            };
            // Asked after the read: what we have read was not written by a later registration, and
            // one that comes now changes the revision.
            if self.leases().wants(key) || self.delete(key, kv.mod_revision()).await? {
                return Ok(());
            }
        }
        Err(self.here(Error::new(ErrorKind::Unavailable, "the record keeps changing under our hands")))
    }

    /// Deletes a record if it was last written at this revision, and says whether it was.
    async fn delete(&self, key: &str, revision: i64) -> Result<bool> {
        let delete = if_unchanged(key, revision).and_then([TxnOp::delete(key, None)]);
        let answer = self.kv().txn(delete).await.map_err(|error| self.failed(error))?;
        Ok(answer.succeeded())
    }

    /// Which of these are not as they were registered.
    pub(crate) async fn find_lost(&self, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
        let mut lost = Vec::new();
        let mut doubted: Vec<usize> = (0..held.len()).collect();
        if held.len() > COMPARE_EACH {
            let from = self.connector.sampled.fetch_add(COMPARE_EACH, Ordering::Relaxed);
            doubted = (0..COMPARE_EACH).map(|next| from.wrapping_add(next) % held.len()).collect();
            self.find_detached(held, &mut lost, &mut doubted).await?;
        }
        for some in doubted.chunks(AT_ONCE) {
            if self.are_unchanged(some.iter().filter_map(|position| held.get(*position))).await? {
                continue;
            }
            let found = try_join_all(some.iter().filter_map(|position| {
                held.get(*position).map(|held| async { Ok::<_, Error>((*position, self.loss(held).await?)) })
            }));
            lost.extend(found.await?.into_iter().filter_map(|(position, loss)| Some((position, loss?))));
        }
        lost.sort_unstable_by_key(|(position, _)| *position);
        lost.dedup_by_key(|(position, _)| *position);
        Ok(lost)
    }

    /// Asks each lease for its records. Those that are not on it are doubted; if there is no such
    /// lease, they are gone.
    async fn find_detached(
        &self,
        held: &[Held<Receipt>],
        lost: &mut Vec<(usize, Loss)>,
        doubted: &mut Vec<usize>,
    ) -> Result<()> {
        let mut by_lease: HashMap<i64, Vec<usize>> = HashMap::new();
        for (position, held) in held.iter().enumerate() {
            by_lease.entry(held.receipt.lease).or_default().push(position);
        }
        for (lease, positions) in by_lease {
            let options = LeaseTimeToLiveOptions::new().with_keys();
            let answer =
                self.lease().time_to_live(lease, Some(options)).await.map_err(|error| self.failed(error))?;
            if answer.ttl() < 0 {
                self.leases().forget(lease);
                lost.extend(positions.into_iter().map(|position| (position, Loss::Gone)));
                continue;
            }
            let attached: HashSet<&[u8]> = answer.keys().iter().map(Vec::as_slice).collect();
            doubted.extend(positions.into_iter().filter(|position| {
                held.get(*position).is_some_and(|held| !attached.contains(held.record.key().as_bytes()))
            }));
        }
        Ok(())
    }

    /// Whether all of these are as they were written, which one request tells.
    async fn are_unchanged<'a>(&self, held: impl Iterator<Item = &'a Held<Receipt>>) -> Result<bool> {
        let mut any = None;
        let compared = held.map(|held| {
            let key = any.insert(&**held.record.key());
            Compare::mod_revision(*key, CompareOp::Equal, held.receipt.revision)
        });
        let unchanged = Txn::new().when(compared.collect::<Vec<_>>());
        let Some(any) = any else { return Ok(true) };
        // Without a read, the member that is asked would compare with what it has itself, however old that is.
        let read = || [TxnOp::get(any, Some(GetOptions::new().with_keys_only()))];
        let answer = self.kv().txn(unchanged.and_then(read()).or_else(read())).await;
        Ok(answer.map_err(|error| self.failed(error))?.succeeded())
    }

    /// Reads one record and says what is wrong with it, if anything is.
    async fn loss(&self, held: &Held<Receipt>) -> Result<Option<Loss>> {
        let found = self.look_at(held.record.key()).await.map_err(|error| self.failed(error))?;
        Ok(match found.kvs().first() {
            None => Some(Loss::Gone),
            Some(kv) if kv.mod_revision() == held.receipt.revision => None,
            Some(kv) if kv.lease() == 0 || self.leases().is_own(kv.lease()) => Some(Loss::Altered),
            Some(_) => Some(Loss::Superseded),
        })
    }
}

/// A transaction for when a record was last written at this revision; 0 is a record that is not there.
fn if_unchanged(key: &str, revision: i64) -> Txn {
    Txn::new().when([Compare::mod_revision(key, CompareOp::Equal, revision)])
}
