//! Registration: one ephemeral node for each record, and the fences around it.
//!
//! Nobody can tell ZooKeeper "delete this node if it is mine": a node that was deleted and created
//! again has version 0 again. So whoever takes a record over also writes the directory's data (the
//! same bytes), and whoever changes or deletes his own record checks that the directory's version is
//! still what it was before he looked at the record. Creating a record where there is none leaves
//! the directory alone, so that many can do so at once.

use std::time::Duration;

use discox_core::{
    Error, ErrorKind, Result,
    backend::{Registered, Replace, jittered},
    record::Record,
};
use tokio::time::sleep;

use crate::{
    Zookeeper,
    client::{Fault, Node, Op, Stat},
};

/// How often a change is tried again when others change the same directory at the same moment, which only take-overs of
/// other endpoints do. Core's request timeout ends a race before that where there are many.
const RACES: usize = 64;

/// Attempts that follow each other at once: each is a round trip, and one of those who race has won.
const AT_ONCE: usize = 8;

/// Before each later attempt: a server that lags behind its leader has time to catch up.
const PAUSE: Duration = Duration::from_millis(100);

/// Requests to create a directory: twice the segments that fit into a chroot and a prefix of 255
/// bytes each, and some for others who delete meanwhile.
const MOST_CREATES: usize = 600;

/// The transaction that created the node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Receipt(pub(crate) i64);

/// Why an attempt came to nothing.
enum Refusal {
    /// Another incarnation holds the record.
    Superseded(i64),
    Fault(Fault),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A record's place in the tree.
pub(crate) struct Place {
    directory: String,
    pub(crate) path: String,
    /// Its readers look at names only: it is made anew rather than set.
    is_replaced: bool,
}

impl Zookeeper {
    /// Creates the record's node, or sets it in place if it is ours, or takes it over.
    pub(crate) async fn write(
        &self,
        record: &Record,
        attr: &str,
        replace: Replace,
    ) -> Result<Registered<Receipt>> {
        if record.health_check.is_some() {
            self.connector.tell_no_health_checks();
        }
        let place = self.place(record);
        for attempt in 0..RACES {
            // Who comes back has most likely left a node; who is new has not.
            let answer = match (replace, attempt) {
                (Replace::Anyone, 0) => self.create(&place, attr).await.map_err(Refusal::from),
                _ => self.replace(&place, attr, replace, attempt).await,
            };
            match answer {
                Ok(created) => {
                    return Ok(Registered { receipt: Receipt(created), ttl: self.client.session().timeout });
                }
                Err(Refusal::Superseded(by)) => {
                    let message = format!("another session holds the record: {by:#x}");
                    return Err(Error::new(ErrorKind::Superseded, message));
                }
                Err(Refusal::Fault(Fault::NodeExists)) if attempt == 0 => {}
                Err(Refusal::Fault(fault)) => self.raced(&place, fault, attempt).await?,
            }
        }
        Err(contended())
    }

    /// Deletes the record's node if it is ours.
    pub(crate) async fn remove(&self, record: &Record, receipt: Option<&Receipt>) -> Result<()> {
        let place = self.place(record);
        for attempt in 0..RACES {
            let (directory, node) = match self.look(&place).await {
                Err(Fault::NoNode) => return Ok(()),
                found => found?,
            };
            let is_meant = receipt.is_none_or(|receipt| receipt.0 == node.stat.created);
            if !is_meant || !self.is_ours(node.stat) {
                return Ok(());
            }
            let ops = [
                Op::Check { path: &place.directory, version: directory.stat.version },
                Op::Delete { path: &place.path, version: node.stat.version },
            ];
            match self.client.multi(&ops).await {
                Ok(_) => return Ok(()),
                Err(fault) => self.raced(&place, fault, attempt).await?,
            }
        }
        Err(contended())
    }

    /// Creates the node where there is none, and its parents. Returns the transaction.
    async fn create(&self, place: &Place, attr: &str) -> Result<i64, Fault> {
        let created = match self.create_record(place, attr).await {
            Err(Fault::NoNode) => {
                self.make_directory(&place.directory).await?;
                self.create_record(place, attr).await
            }
            created => created,
        };
        created.map(|stat| stat.created)
    }

    async fn create_record(&self, place: &Place, attr: &str) -> Result<Stat, Fault> {
        self.client.create(&place.path, attr.as_bytes(), &self.connector.acls.record, true).await
    }

    /// Sets the node in place if this session owns it, or takes it over, or creates it. Returns the
    /// transaction that created it.
    async fn replace(
        &self,
        place: &Place,
        attr: &str,
        replace: Replace,
        attempt: usize,
    ) -> Result<i64, Refusal> {
        let (directory, node) = match self.look(place).await {
            Err(Fault::NoNode) => return Ok(self.create(place, attr).await?),
            found => found?,
        };
        let Place { directory: parent, path, .. } = place;
        let Stat { version, owner, created, .. } = node.stat;
        let data = attr.as_bytes();
        let is_held = owner == self.client.session().id;
        // The session was resumed, say.
        if is_held && node.data == data {
            return Ok(created);
        }
        if is_held && !place.is_replaced {
            let fence = Op::Check { path: parent, version: directory.stat.version };
            match self.client.multi(&[fence, Op::Set { path, data, version: Some(version) }]).await {
                // Its ACL may name who we were, with another password: it is ours all the same, and made anew.
                Err(Fault::NoAuth) => {}
                set => return Ok(set.map(|_| created)?),
            }
        }
        if replace == Replace::OnlyOwn && owner != 0 && !self.is_ours(node.stat) {
            return Err(Refusal::Superseded(owner));
        }
        // Who comes later wins, whatever happened since he looked: he need not check, so that many can
        // take over at once. Only where the directory has data of its own he tries to, at first, so as
        // not to undo a change of it.
        let must_check = replace == Replace::OnlyOwn || (attempt <= 1 && !directory.data.is_empty());
        let fence = Op::Set {
            path: parent,
            data: &directory.data,
            version: must_check.then_some(directory.stat.version),
        };
        let created = self
            .client
            .multi(&[
                fence,
                Op::Delete { path, version },
                Op::Create { path, data, acl: &self.connector.acls.record },
            ])
            .await?;
        Ok(created.ok_or_else(|| Fault::Other("a take-over was answered without its transaction".into()))?)
    }

    /// The directory, and then the record.
    async fn look(&self, place: &Place) -> Result<(Node, Node), Fault> {
        let paths = [place.directory.clone(), place.path.clone()];
        let mut nodes = self.client.read(&paths).await?.into_iter();
        match (nodes.next(), nodes.next()) {
            (Some(directory), Some(node)) => Ok((directory?, node?)),
            _ => Err(Fault::Other("two nodes were asked for, and fewer answered".into())),
        }
    }

    /// After an attempt that failed: returns if it was because of others, once our server has heard
    /// of what they did.
    async fn raced(&self, place: &Place, fault: Fault, attempt: usize) -> Result<(), Fault> {
        if !matches!(fault, Fault::BadVersion | Fault::NoNode | Fault::NodeExists) {
            return Err(fault);
        }
        if attempt >= AT_ONCE {
            sleep(jittered(PAUSE)).await;
        }
        self.client.sync(&place.directory).await
    }

    /// Creates a directory and its missing parents. Others may do the same; what exists is not
    /// touched, since we may have no right to.
    async fn make_directory(&self, directory: &str) -> Result<(), Fault> {
        let mut missing = vec![directory];
        for _ in 0..MOST_CREATES {
            let Some(path) = missing.last().copied() else { return Ok(()) };
            let acls = &self.connector.acls;
            let acl = if path == directory { &acls.service } else { &acls.parent };
            match self.client.create(path, b"", acl, false).await {
                Ok(_) | Err(Fault::NodeExists) => drop(missing.pop()),
                Err(Fault::NoNode) => match path.rsplit_once('/') {
                    Some((parent, _)) if !parent.is_empty() => missing.push(parent),
                    _ => return Err(Fault::NoNode),
                },
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::NoNode)
    }

    pub(crate) fn is_ours(&self, stat: Stat) -> bool {
        self.connector.is_own(stat.owner)
    }

    pub(crate) fn place(&self, record: &Record) -> Place {
        let directory = self.directory(&record.service);
        Place {
            path: format!("{directory}/{}", record.name()),
            directory,
            is_replaced: record.service.is_replaced(),
        }
    }
}

fn contended() -> Error {
    Error::new(ErrorKind::Unavailable, "others kept changing the service at the same moment").answered()
}
