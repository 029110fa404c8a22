//! Registration: one ephemeral node for each record, and the fences around it.
//!
//! Nobody can tell ZooKeeper "delete this node if it is mine": a node that was deleted and created
//! again has version 0 again. So whoever takes a record over also writes the directory's data (the
//! same bytes), and whoever changes or deletes his own record checks that the directory's version is
//! still what it was before he looked at the record, or created it. Creating a record where there is
//! none leaves the directory alone, so that many can do so at once.

use discox_core::{
    Error, ErrorKind, Result,
    backend::{Registered, Take},
    key::Record,
};
use futures_util::future::join;

use crate::{
    Zookeeper,
    client::{Fault, Node, Op, Stat},
};

/// How often a change is tried again when others change the same directory at the same moment. Each
/// attempt is one round trip, and they come from take-overs of other endpoints only.
const RACES: usize = 16;

/// Requests to create a directory: twice the segments that fit into a chroot and a prefix of 255
/// bytes each, and some for others who delete meanwhile.
const MOST_CREATES: usize = 600;

/// The transaction that created the node, and what fences our next change of it.
#[derive(Clone, Copy, Debug, Eq)]
pub struct Receipt {
    pub(crate) created: i64,
    fence: Option<Fence>,
}

/// Two are the same if they are of the same node.
impl PartialEq for Receipt {
    fn eq(&self, other: &Self) -> bool {
        self.created == other.created
    }
}

/// What nobody can have taken the record over without changing. (Who deletes directory and record by hand undoes
/// it, until the next heart beat.)
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Fence {
    /// Which must own the node still.
    session: i64,
    /// The versions of directory and node.
    directory: i32,
    node: i32,
}

/// Why an attempt came to nothing.
enum Refusal {
    /// Another incarnation holds the record.
    Superseded,
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
}

impl Zookeeper {
    /// Creates the record's node, or sets it in place if it is ours, or takes it over.
    pub(crate) async fn write(&self, record: &Record, attr: &str, take: Take) -> Result<Registered<Receipt>> {
        if record.health_check.is_some() {
            self.connector.tell_no_health_checks();
        }
        let place = self.place(record);
        for attempt in 0..RACES {
            // Who comes back has most likely left a node; who is new has not.
            let answer = match (take, attempt) {
                (Take::Over, 0) => self.create(&place, attr).await.map_err(Refusal::from),
                _ => self.replace(&place, attr, take, attempt).await,
            };
            match answer {
                Ok(receipt) => return Ok(self.registered(receipt)),
                Err(Refusal::Superseded) => {
                    return Err(Error::new(ErrorKind::Superseded, "another session holds the record"));
                }
                Err(Refusal::Fault(Fault::NodeExists)) if attempt == 0 => {}
                Err(Refusal::Fault(fault)) => self.raced(&place, fault).await?,
            }
        }
        Err(contended())
    }

    /// Changes the node's data, by one request if nobody else has changed anything.
    pub(crate) async fn rewrite(
        &self,
        record: &Record,
        attr: &str,
        receipt: &Receipt,
    ) -> Result<Registered<Receipt>> {
        if let Some(fence) = self.fence(receipt) {
            let place = self.place(record);
            let set = Op::Set { path: &place.path, data: attr.as_bytes(), version: Some(fence.node) };
            if self.fenced(&place, fence.directory, set).await? {
                let fence = Fence { node: fence.node.wrapping_add(1), ..fence };
                return Ok(self.registered(Receipt { fence: Some(fence), ..*receipt }));
            }
        }
        self.write(record, attr, Take::Back).await
    }

    /// Deletes the record's node if it is ours: by one request if nobody else has changed anything.
    pub(crate) async fn remove(&self, record: &Record, receipt: Option<&Receipt>) -> Result<()> {
        let place = self.place(record);
        if let Some(fence) = receipt.and_then(|receipt| self.fence(receipt)) {
            let delete = Op::Delete { path: &place.path, version: fence.node };
            if self.fenced(&place, fence.directory, delete).await? {
                return Ok(());
            }
        }
        for _ in 0..RACES {
            let (directory, node) = match self.look(&place).await {
                Err(Fault::NoNode) => return Ok(()),
                found => found?,
            };
            let is_meant = receipt.is_none_or(|receipt| receipt.created == node.stat.created);
            if !is_meant || !self.is_ours(node.stat) {
                return Ok(());
            }
            let delete = Op::Delete { path: &place.path, version: node.stat.version };
            if self.fenced(&place, directory.stat.version, delete).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Makes a change if the directory still has this version, and says whether it was made; if not, it was because
    /// of others.
    async fn fenced(&self, place: &Place, directory: i32, change: Op<'_>) -> Result<bool, Fault> {
        let check = Op::Check { path: &place.directory, version: directory };
        match self.client.multi(&[check, change]).await {
            Ok(_) => Ok(true),
            Err(fault) => self.raced(place, fault).await.map(|()| false),
        }
    }

    /// Creates the node where there is none, and its parents.
    async fn create(&self, place: &Place, attr: &str) -> Result<Receipt, Fault> {
        // Answered in this order: a take-over after the one changes the directory that the other has seen.
        let (seen, created) = join(self.version_of(place), self.create_record(place, attr)).await;
        let created = match created {
            Err(Fault::NoNode) => {
                self.make_directory(&place.directory).await?;
                self.create_record(place, attr).await
            }
            created => created,
        }?;
        let fence = seen.map(|directory| Fence { session: created.owner, directory, node: created.version });
        Ok(Receipt { created: created.created, fence })
    }

    async fn create_record(&self, place: &Place, attr: &str) -> Result<Stat, Fault> {
        self.client.create(&place.path, attr.as_bytes(), &self.connector.acls.record, true).await
    }

    /// Sets the node in place if this session owns it, or takes it over, or creates it.
    async fn replace(
        &self,
        place: &Place,
        attr: &str,
        take: Take,
        attempt: usize,
    ) -> Result<Receipt, Refusal> {
        let (directory, node) = match self.look(place).await {
            Err(Fault::NoNode) => return Ok(self.create(place, attr).await?),
            found => found?,
        };
        let Place { directory: parent, path } = place;
        let Stat { version, owner, created } = node.stat;
        let data = attr.as_bytes();
        let session = self.client.session().id;
        if owner == session {
            // The session was resumed, say.
            let mut fence = Fence { session, directory: directory.stat.version, node: version };
            if node.data != data {
                let check = Op::Check { path: parent, version: fence.directory };
                self.client.multi(&[check, Op::Set { path, data, version: Some(version) }]).await?;
                fence.node = version.wrapping_add(1);
            }
            return Ok(Receipt { created, fence: Some(fence) });
        }
        if take == Take::Back && owner != 0 && !self.is_ours(node.stat) {
            return Err(Refusal::Superseded);
        }
        // Who comes later wins, whatever happened since he looked: he need not check, so that many can
        // take over at once. Only where the directory has data of its own he tries to, at first, so as
        // not to undo a change of it.
        let must_check = take == Take::Back || (attempt <= 1 && !directory.data.is_empty());
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
        let created =
            created.ok_or_else(|| Fault::Other("a take-over was answered without its transaction".into()))?;
        let fence = must_check.then(|| {
            let directory = directory.stat.version.wrapping_add(1);
            self.versions.note(parent, directory);
            Fence { session, directory, node: 0 }
        });
        Ok(Receipt { created, fence })
    }

    fn registered(&self, receipt: Receipt) -> Registered<Receipt> {
        Registered { receipt, ttl: self.client.session().timeout }
    }

    /// What fences a change, unless it is of an earlier session.
    fn fence(&self, receipt: &Receipt) -> Option<Fence> {
        receipt.fence.filter(|fence| fence.session == self.client.session().id)
    }

    /// The directory, and then the record.
    async fn look(&self, place: &Place) -> Result<(Node, Node), Fault> {
        let paths = [place.directory.clone(), place.path.clone()];
        let mut nodes = self.client.read(&paths).await?.into_iter();
        match (nodes.next(), nodes.next()) {
            (Some(directory), Some(node)) => {
                let directory = directory?;
                self.versions.note(&place.directory, directory.stat.version);
                Ok((directory, node?))
            }
            _ => Err(Fault::Other("two nodes were asked for, and fewer answered".into())),
        }
    }

    /// A version that the directory has or has had.
    async fn version_of(&self, place: &Place) -> Option<i32> {
        if let Some(version) = self.versions.of(&place.directory) {
            return Some(version);
        }
        let directory = [place.directory.clone()];
        let version = self.client.read(&directory).await.ok()?.pop()?.ok()?.stat.version;
        self.versions.note(&place.directory, version);
        Some(version)
    }

    /// After an attempt that failed: returns if it was because of others, once our server has heard
    /// of what they did.
    async fn raced(&self, place: &Place, fault: Fault) -> Result<(), Fault> {
        match fault {
            Fault::BadVersion | Fault::NoNode | Fault::NodeExists => self.client.sync(&place.directory).await,
            fault => Err(fault),
        }
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
        Place { path: format!("{directory}/{}", record.endpoint), directory }
    }
}

fn contended() -> Error {
    Error::new(ErrorKind::Unavailable, "others kept changing the service at the same moment")
}
