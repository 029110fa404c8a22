//! Registration and withdrawal: what is written, and what fences it.

use discox_core::{
    Error, ErrorKind, Result,
    backend::{Registered, Replace},
    record::Record,
};
use etcd_client::{Compare, CompareOp, Error as ClientError, GetOptions, PutOptions, Txn, TxnOp};

use crate::{
    client::{Etcd, leases::Lease, streams::Purpose},
    error,
};

/// A write that is fenced by what was read before is tried so often against others who write the
/// same record.
const ATTEMPTS: usize = 3;

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
    /// Not written: the record was changed between our read and our write.
    Raced,
    /// Not written: the record is on a lease that is not ours.
    Superseded(i64),
}

impl Etcd {
    /// Writes a record with one of our leases. `known` is the revision that wrote it last, as far as we know.
    pub(crate) async fn write(
        &self,
        record: &Record,
        attr: &str,
        replace: Replace,
        mut known: Option<i64>,
    ) -> Result<Registered<Receipt>> {
        let key = record.key();
        for _ in 0..ATTEMPTS {
            let lease = self.leases().join(key, record.ttl, |seconds| self.grant(seconds)).await?;
            let written = match (replace, known.take()) {
                (Replace::Anyone, _) => self.put_anyway(key, attr, lease).await,
                (Replace::OnlyOwn, Some(revision)) => self.put_over(key, attr, lease, revision).await,
                (Replace::OnlyOwn, None) => self.take_back(key, attr, lease).await,
            };
            match written {
                Ok(Written::At(revision)) => {
                    return Ok(Registered { receipt: Receipt { revision, lease: lease.id }, ttl: lease.ttl });
                }
                Ok(Written::Raced) => {}
                Ok(Written::Superseded(lease)) => {
                    self.leases().leave(key);
                    let message = format!("the record is on another lease: {lease:x}");
                    return Err(self.here(Error::new(ErrorKind::Superseded, message)));
                }
                Err(error) if error::is_lease_gone(&error) => self.leases().forget(lease.id),
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(self.here(
            Error::new(ErrorKind::Unavailable, "other writers keep changing this key, or our lease")
                .answered(),
        ))
    }

    async fn put_anyway(&self, key: &str, attr: &str, lease: Lease) -> Result<Written, ClientError> {
        let written = self.put(key, attr, lease.id).await?;
        Ok(Written::At(written.header().map_or(0, |header| header.revision())))
    }

    /// Writes the record unless it is another's, and not at all if it is as it should be.
    async fn take_back(&self, key: &str, attr: &str, lease: Lease) -> Result<Written, ClientError> {
        let found = self.get(Purpose::Write, key.as_bytes(), GetOptions::new()).await?;
        let revision = match found.kvs().first() {
            None => 0,
            Some(kv) if kv.lease() == lease.id && kv.value() == attr.as_bytes() => {
                return Ok(Written::At(kv.mod_revision()));
            }
            Some(kv) if kv.lease() == 0 || self.leases().is_own(kv.lease()) => kv.mod_revision(),
            Some(kv) => return Ok(Written::Superseded(kv.lease())),
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
        let answer = self.txn(if_unchanged(key, revision).and_then([put])).await?;
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
            let found = self.look_at(Purpose::Write, key).await.map_err(|error| self.failed(error))?;
            let Some(kv) = found.kvs().first().filter(|kv| self.leases().is_own(kv.lease())) else {
                return Ok(());
            };
            // Asked after the read: what we have read was not written by a later registration, and
            // one that comes now changes the revision.
            if self.leases().wants(key) || self.delete(key, kv.mod_revision()).await? {
                return Ok(());
            }
        }
        Err(self.here(Error::new(ErrorKind::Unavailable, "other writers keep changing this key").answered()))
    }

    /// Deletes a record if it was last written at this revision, and says whether it was.
    async fn delete(&self, key: &str, revision: i64) -> Result<bool> {
        let delete = if_unchanged(key, revision).and_then([TxnOp::delete(key, None)]);
        let answer = self.txn(delete).await.map_err(|error| self.failed(error))?;
        Ok(answer.succeeded())
    }
}

/// A transaction for when a record was last written at this revision; 0 is a record that is not there.
fn if_unchanged(key: &str, revision: i64) -> Txn {
    Txn::new().when([Compare::mod_revision(key, CompareOp::Equal, revision)])
}
