//! What a layout is to the machine: a table of functions, and what they make of a record.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::{LayoutOptions, MAX_ENDPOINTS_PER_RECORD};
use crate::{
    Result,
    record::{Record, Service},
};

/// How the records of a service are stored in one registry.
#[doc(hidden)]
#[derive(Debug)]
#[non_exhaustive]
pub struct Format {
    /// Where a service's records lie.
    ///
    /// Fails with [`ErrorKind::Config`](crate::ErrorKind::Config).
    pub directory: fn(&Service, &LayoutOptions) -> Result<Directory>,
    /// What a record is called in the directory, for this attr: one segment, or several. It has the attr in it only
    /// where `update` is [`Update::Rename`].
    ///
    /// Fails with [`ErrorKind::Config`](crate::ErrorKind::Config).
    pub name: fn(&Record, &str, &LayoutOptions) -> Result<String>,
    /// What a record holds, for this attr. The same input always gives the same text. None where discox does not write.
    ///
    /// Fails with [`ErrorKind::Config`](crate::ErrorKind::Config) where the record cannot carry the attr.
    pub encode: Option<Encode>,
    /// What a record says. None where discox does not read.
    ///
    /// Fails when it is no record of this layout: then what was last read of this name stays.
    pub decode: Option<Decode>,
    /// How a record is changed so that the other system sees it.
    pub update: Update,
    /// The prefix that stands for the empty one; none where it must be given.
    pub default_prefix: Option<&'static str>,
    /// Whether a record is one of this layout and hardly of another one.
    pub looks_like: fn(&str, &[u8]) -> bool,
}

/// Writes what a record holds, for an attr.
#[doc(hidden)]
pub type Encode = fn(&Record, &str, &LayoutOptions) -> Result<String>;

/// Reads a record: its name in the directory, what it holds, and the service that it was found in.
#[doc(hidden)]
pub type Decode = fn(&str, &[u8], &Service, &LayoutOptions) -> Result<Decoded, Reason>;

/// Where a service's records lie.
#[doc(hidden)]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Directory {
    /// The path, without a trailing `/`: a node of ZooKeeper, or with `/` behind it the beginning of keys of etcd.
    pub path: String,
    /// Records lie in directories below it, too; then their names have `/`.
    pub is_deep: bool,
}

/// How a record is changed so that the other system sees it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Update {
    /// Its value is set.
    InPlace,
    /// It is deleted and created, in one transaction: the readers look at names only.
    Replace,
    /// As [`Update::Replace`], and its name changes: the attr is in it.
    Rename,
}

/// What a record says.
#[doc(hidden)]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Its endpoints, each once, at most [`MAX_ENDPOINTS_PER_RECORD`].
    pub found: Vec<Found>,
    /// What was left out, for one warning.
    pub complaint: Option<Reason>,
}

impl Decoded {
    /// One endpoint with an attr that is taken as it is.
    pub(super) fn of_text(endpoint: String, attr: String, enabled: bool) -> Self {
        let found = Found { endpoint: endpoint.into(), attr: attr.into(), enabled };
        Self { found: vec![found], complaint: None }
    }

    /// Adds an endpoint, unless it is there already.
    pub(super) fn add(&mut self, (found, complaint): (Found, Option<Reason>)) {
        if let Some(complaint) = complaint {
            self.complain(complaint);
        }
        if self.found.iter().any(|other| other.endpoint == found.endpoint) {
            return;
        }
        self.found.push(found);
    }

    pub(super) fn is_full(&self) -> bool {
        self.found.len() == MAX_ENDPOINTS_PER_RECORD
    }

    /// Keeps the first complaint.
    pub(super) fn complain(&mut self, complaint: Reason) {
        self.complaint.get_or_insert(complaint);
    }
}

/// An endpoint that a record shows.
#[doc(hidden)]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// `host:port`, readable.
    pub endpoint: Arc<str>,
    /// A JSON object, but for the attr of a discox service that is none.
    pub attr: Bytes,
    /// Whether it is in service.
    pub enabled: bool,
}

/// Why a record, or a part of it, cannot be read.
#[doc(hidden)]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reason(String);

impl Reason {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
