//! The seam: what a backend implements. Everything else (retry, backoff, timeouts, heart beats,
//! diff, grace, status, shutdown) is done once, by this crate.
//!
//! A backend translates, and says when it is lost. Within one call or one `keep` it may repeat a request or pause
//! before it asks again; when to connect, register, list or withdraw again is decided by core alone. It spawns
//! nothing that outlives its [`Link`]. A panic inside any call is taken for a failure of that call.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    BackendType, Cause, Error, Result,
    record::{Prefix, Record, Service},
};

mod files;
mod limits;
mod liveness;
mod members;
mod order;
mod warn_once;

pub use self::{
    files::Files,
    limits::{Exceeded, Limits},
    liveness::Liveness,
    members::Members,
    order::oldest_first,
    warn_once::WarnOnce,
};
pub use crate::{backoff::jittered, lock::lock};

/// One connection to a registry, with its session or leases; replaced as a whole when lost.
///
/// Core puts [`ConnectionConfig::request_timeout`](crate::ConnectionConfig::request_timeout) around
/// every call but `keep`, and drops the call's future when it is over: everything must be safe to
/// cancel in the sense that a later `withdraw` or `register` sets right what was left half done.
pub trait Link: Send + Sync + Sized + 'static {
    /// Which backend this is, for errors and log lines.
    const BACKEND: BackendType;
    /// The longest attr that the backend carries, in bytes.
    const ATTR_LIMIT: usize;
    /// Whether [`Liveness::answered`] proves that every watch of this link has reported all changes so far:
    /// true only where answers and changes come in order over the same stream of bytes. Elsewhere a watch
    /// says so itself, see [`Watch::next`].
    const LIVENESS_CONFIRMS_WATCH: bool = false;

    /// The parsed configuration, and whatever must outlive one connection (own earlier leases,
    /// sessions and IDs, which member to try next).
    type Connector: Send + Sync + 'static;
    /// Discovery of one service.
    type Source: Source;
    /// Discovery of the names of services.
    type Names: Source;
    /// What the registry answered to a registration and a later withdrawal is fenced with, such as
    /// a revision.
    type Receipt: Clone + Send + Sync + 'static;

    /// Where `connector` connects to, for error messages. No credentials.
    fn place(connector: &Self::Connector) -> String;

    /// How many members or agents there are. Where there is another one to move to, a silent one is given up
    /// early enough to keep the records alive.
    fn members(connector: &Self::Connector) -> usize {
        let _ = connector;
        1
    }

    /// Rejects what this backend cannot store, before any I/O. What all backends reject has been
    /// rejected already.
    ///
    /// # Errors
    /// Of kind [`Config`](crate::ErrorKind::Config).
    fn check(connector: &Self::Connector, record: &Record, attr: &str) -> Result<()> {
        let _ = (connector, record, attr);
        Ok(())
    }

    /// As [`Link::check`], for a service to be discovered.
    ///
    /// # Errors
    /// Of kind [`Config`](crate::ErrorKind::Config).
    fn check_service(connector: &Self::Connector, service: &Service) -> Result<()> {
        let _ = (connector, service);
        Ok(())
    }

    /// As [`Link::check`], for a prefix whose services are to be listed.
    ///
    /// # Errors
    /// Of kind [`Config`](crate::ErrorKind::Config).
    fn check_prefix(connector: &Self::Connector, prefix: &Prefix) -> Result<()> {
        let _ = (connector, prefix);
        Ok(())
    }

    /// Connects, and returns only when the registry has answered a request that needs its quorum.
    /// Tries the members of a cluster by [`Members`].
    fn connect(connector: &Arc<Self::Connector>) -> impl Future<Output = Result<Self>> + Send;

    /// The member or agent that this link is connected to, where that is known. No credentials.
    fn member(&self) -> Option<String> {
        None
    }

    /// Notices when the connection is lost, hung servers included, within [`Liveness::detection`] (which
    /// may become shorter in the meantime), and resolves then with the reason. Calls [`Liveness::answered`] whenever the registry has answered, probes at once when
    /// [`Liveness::probe_asked`] resolves, and may call [`Liveness::verify`]. Never returns otherwise.
    fn keep(&self, liveness: &Liveness) -> impl Future<Output = Error> + Send;

    /// Ends the session or revokes the leases, when nothing is registered by it any more. Called at
    /// most once, on a deliberate end; a lost link is only dropped.
    fn close(&self) -> impl Future<Output = ()> + Send;

    /// Discovery of `service` by this connection. No I/O.
    fn source(self: &Arc<Self>, service: &Service, options: &SourceOptions) -> Self::Source;

    /// The names of the services under `prefix` that have a record, by this connection: a listing whose entries are
    /// names without an attr. No I/O.
    fn names(self: &Arc<Self>, prefix: &Prefix) -> Self::Names;

    /// Writes the record with `attr` (in another system's layout, what that makes of it), and returns when the registry has acknowledged it. Doing it
    /// again, with the same or another attr, updates in place: watchers see at most one update.
    ///
    /// # Errors
    /// [`Superseded`](crate::ErrorKind::Superseded) when `take` is [`Replace::OnlyOwn`] and another
    /// incarnation holds the record.
    fn register(
        &self,
        record: &Record,
        attr: &str,
        replace: Replace,
    ) -> impl Future<Output = Result<Registered<Self::Receipt>>> + Send;

    /// Writes another attr to a record of this incarnation, which most likely is still as `receipt` has
    /// it: where that takes fewer requests than to [`register`](Link::register) it, which is what happens
    /// otherwise. The receipt may be another link's.
    ///
    /// # Errors
    /// As [`Link::register`] with [`Replace::OnlyOwn`].
    fn update(
        &self,
        record: &Record,
        attr: &str,
        receipt: &Self::Receipt,
    ) -> impl Future<Output = Result<Registered<Self::Receipt>>> + Send {
        let _ = receipt;
        self.register(record, attr, Replace::OnlyOwn)
    }

    /// Removes the record if it is still this incarnation's, and is content when it is gone or
    /// another's. Without a receipt (a registration that timed out, say) it goes by what identifies
    /// the incarnation: lease, session or ID.
    fn withdraw(
        &self,
        record: &Record,
        receipt: Option<&Self::Receipt>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The heart beat of records that share a period and were registered by this link: keeps them
    /// alive and verifies that each is in the registry, ours and unaltered. Returns the positions of
    /// those that are not. Its time-out is the request timeout or half of the shortest TTL, whichever is
    /// less, and never less than the period.
    fn verify(&self, held: &[Held<Self::Receipt>])
    -> impl Future<Output = Result<Vec<(usize, Loss)>>> + Send;
}

/// Settings of one discovery that its backend must know.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SourceOptions {
    /// Serve instances whose checks are `warning` too.
    pub include_warning: bool,
}

/// Discovery of one service over one connection.
pub trait Source: Send + Sync + 'static {
    /// What follows a snapshot.
    type Watch: Watch;

    /// Reads the whole list, and returns it with the watch that follows it without a gap. A service
    /// that does not exist is an empty list. Any failure of the watch means: open again and diff.
    fn open(&self) -> impl Future<Output = Result<(Listing, Self::Watch)>> + Send;
}

/// The changes that follow a snapshot.
pub trait Watch: Send + 'static {
    /// Waits for the next changes; what came together stays together, ordered as in a [`Listing`]. Cancel-safe: core drops and
    /// calls it again.
    ///
    /// An empty list means that the registry has confirmed this watch: up to now there is no other change
    /// (a progress notification, a blocking query that returned unchanged). It should come at least as often
    /// as [`Liveness::detection`]; only it and real changes count as confirmation, unless
    /// [`Link::LIVENESS_CONFIRMS_WATCH`] is set.
    ///
    /// # Errors
    /// Any error ends this watch; [`Stale`](crate::ErrorKind::Stale) means that the registry is fine
    /// and only the position is lost.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Change>>> + Send;

    /// Why these endpoints went, which the last list or the last changes no longer have. Called for histories, after
    /// the removals were told, and only where a history is kept. The future may ask the registry, a few times for all
    /// endpoints together; core gives it two seconds. It answers what is known; none where the registry never tells.
    fn why_gone(&mut self, endpoints: &[Arc<str>]) -> Option<WhyGone> {
        let _ = endpoints;
        None
    }
}

/// Finds out why endpoints went; see [`Watch::why_gone`].
pub type WhyGone = Pin<Box<dyn Future<Output = Vec<(Arc<str>, Cause)>> + Send>>;

/// A whole list: endpoint and attr. Where a service is [named](Service::is_named), the name of each record and its raw
/// value, the oldest write first.
pub type Listing = Vec<(Arc<str>, Bytes)>;

/// What a watch reports.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// The record was written.
    Put(Arc<str>, Bytes),
    /// The record is gone.
    Delete(Arc<str>),
    /// The whole list is this now.
    Reset(Listing),
}

/// Whose record a registration may replace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replace {
    /// Anybody's: the later `start` wins.
    Anyone,
    /// Only our own (of this incarnation, by this or an earlier connection), an altered or ownerless
    /// one, or none.
    OnlyOwn,
}

/// What the registry granted.
#[derive(Clone, Debug)]
pub struct Registered<R> {
    /// What a later withdrawal is fenced with.
    pub receipt: R,
    /// How long the record outlives its process.
    pub ttl: Duration,
}

/// A record that is believed to be registered.
#[derive(Clone, Debug)]
pub struct Held<R> {
    /// The record.
    pub record: Arc<Record>,
    /// The attr last acknowledged, as it was given to [`Link::register`].
    pub attr: Arc<str>,
    /// What [`Link::register`] returned.
    pub receipt: R,
}

/// Why a record is no longer what was registered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// It is not there: its lease or session ended, it was deleted, the registry lost its data.
    Gone,
    /// It is there, but somebody changed it.
    Altered,
    /// Another incarnation holds it.
    Superseded,
    /// The registry refuses to keep this one alive or to show it. It says nothing of the other records: core
    /// registers this one again, and hears there why it is refused.
    Denied,
    /// No heart beat has confirmed it for its whole TTL, though the connection is up. For core: a backend returns
    /// the error instead.
    Unconfirmed,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gone => "gone",
            Self::Altered => "altered",
            Self::Superseded => "superseded",
            Self::Denied => "refused by the registry",
            Self::Unconfirmed => "no longer confirmed by the registry",
        })
    }
}
