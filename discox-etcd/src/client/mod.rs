//! One connection to one member: the calls that are made over it. Each logs in again where the server wants that, and
//! takes a place among the streams that the server allows.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use discox_core::{BackendType, Error, ErrorKind, Result, backend::lock, record::Service};
use etcd_client::{
    Channel, Client, ConnectOptions, Error as ClientError, GetOptions, GetResponse, LeaseClient, PutOptions,
    PutResponse, Txn, TxnResponse,
};

use self::{
    login::Login,
    streams::{Purpose, Streams, WATCH_STREAMS},
    watches::{Range, Refused, WatchStream, Watching},
    wire::WireNews,
};
use crate::{
    connector::{Connector, LONGEST_ANSWER, LONGEST_PAGE},
    error,
};

pub(crate) mod dial;
pub(crate) mod feed;
pub(crate) mod leases;
pub(crate) mod login;
pub(crate) mod streams;
mod watch_table;
pub(crate) mod watches;
pub(crate) mod wire;

/// What is asked for before any service is known. It need not be there, and we need no right to read it.
const ANY_KEY: &str = "/discox";

/// A call is made so often, with a login before each further time: users may be changed while we log in.
const TRIES: usize = 4;

/// The link to etcd: see [`discox_core::backend`].
///
/// It stays with one member. A request is never given to another one behind its back, so that a
/// member that hangs cannot take every third request with it.
pub struct Etcd {
    pub(crate) connector: Arc<Connector>,
    address: String,
    client: Client,
    login: Option<Login>,
    news: Arc<WireNews>,
    streams: Streams,
    /// The newest last: it takes further watches.
    watch_streams: Mutex<Vec<Arc<WatchStream>>>,
    /// One watch stream is opened at a time.
    opening: tokio::sync::Mutex<()>,
}

impl Etcd {
    /// Logs in where there are credentials, and asks the member something that needs the quorum.
    pub(crate) async fn begin(
        connector: Arc<Connector>,
        address: &str,
        channel: tonic::transport::Channel,
        news: Arc<WireNews>,
    ) -> Result<Self> {
        let options = ConnectOptions::new().with_require_leader(true);
        let client = Client::from_channel(Channel::Tonic(channel), Some(options)).await;
        let client = client.map_err(|error| error::translate(error, connector.identified()))?;
        let mut link = Self {
            login: Login::new(&connector.settings),
            connector,
            address: address.to_owned(),
            client,
            streams: Streams::unlimited(),
            news,
            watch_streams: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        };
        if let Some(login) = &link.login {
            link.log_in(login, 0).await.map_err(|error| link.failed(error))?;
        }
        link.probe().await?;
        link.streams = Streams::new(link.news.most_streams(), address);
        Ok(link)
    }

    /// Makes a call, and again after a login where the server wants one.
    pub(crate) async fn call<T, F>(
        &self,
        purpose: Purpose,
        mut call: impl FnMut() -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let _place = self.streams.place(purpose).await;
        for _ in 1..TRIES {
            let count = self.login.as_ref().map_or(0, Login::count);
            match (call().await, &self.login) {
                (Err(error), Some(login)) if error::wants_login(&error) => self.log_in(login, count).await?,
                (Err(error), None) if error::are_users_changed(&error) => {}
                (answer, _) => return answer,
            }
        }
        call().await
    }

    async fn log_in(&self, login: &Login, count: u64) -> Result<(), ClientError> {
        login.log_in(&self.client, count, &self.connector.files, &self.connector.told_auth_off).await
    }

    /// Reads one key or a range.
    pub(crate) async fn get(
        &self,
        purpose: Purpose,
        key: &[u8],
        options: GetOptions,
    ) -> Result<GetResponse, ClientError> {
        let longest = if purpose == Purpose::List { LONGEST_PAGE } else { LONGEST_ANSWER };
        let kv = self.client.kv_client().max_decoding_message_size(longest);
        let call = || {
            let (mut kv, key, options) = (kv.clone(), key.to_vec(), options.clone());
            async move { kv.get(key, Some(options)).await }
        };
        self.call(purpose, call).await
    }

    /// Reads a key without its value, from the quorum.
    pub(crate) async fn look_at(&self, purpose: Purpose, key: &str) -> Result<GetResponse, ClientError> {
        self.get(purpose, key.as_bytes(), GetOptions::new().with_keys_only()).await
    }

    pub(crate) async fn put(&self, key: &str, value: &str, lease: i64) -> Result<PutResponse, ClientError> {
        let call = || {
            let mut kv = self.client.kv_client();
            async move { kv.put(key, value, Some(PutOptions::new().with_lease(lease))).await }
        };
        self.call(Purpose::Write, call).await
    }

    pub(crate) async fn txn(&self, txn: Txn) -> Result<TxnResponse, ClientError> {
        self.txn_of(Purpose::Write, txn).await
    }

    pub(crate) async fn txn_of(&self, purpose: Purpose, txn: Txn) -> Result<TxnResponse, ClientError> {
        let call = || {
            let (mut kv, txn) = (self.client.kv_client(), txn.clone());
            async move { kv.txn(txn).await }
        };
        self.call(purpose, call).await
    }

    pub(crate) fn lease_client(&self) -> LeaseClient {
        self.client.lease_client()
    }

    /// Grants a lease of so many seconds.
    pub(crate) async fn grant(&self, seconds: i64) -> Result<leases::Lease> {
        let call = || {
            let mut lease = self.client.lease_client();
            async move { lease.grant(seconds, None).await }
        };
        let granted = self.call(Purpose::Write, call).await.map_err(|error| self.failed(error))?;
        let (id, ttl) = (granted.id(), u64::try_from(granted.ttl()).unwrap_or(0));
        if id == 0 || ttl == 0 || !granted.error().is_empty() {
            return Err(self.here(Error::new(ErrorKind::Protocol, "the server has granted no lease")));
        }
        Ok(leases::Lease { id, ttl: Duration::from_secs(ttl) })
    }

    pub(crate) async fn revoke(&self, id: i64) -> Result<(), ClientError> {
        let call = || {
            let mut lease = self.client.lease_client();
            async move { lease.revoke(id).await }
        };
        self.call(Purpose::Write, call).await.map(drop)
    }

    /// Renews a lease, and says whether it was still there. etcd renews by streams; a stream for each renewal holds
    /// none open.
    pub(crate) async fn renew(&self, id: i64) -> Result<bool> {
        let call = || {
            let mut lease = self.client.lease_client();
            async move {
                let (keeper, mut answers) = lease.keep_alive(id).await?;
                // No more requests: the server ends the stream.
                drop(keeper);
                answers.message().await
            }
        };
        match self.call(Purpose::Renewal, call).await {
            Ok(_) => Ok(true),
            Err(error) if error::is_lease_gone(&error) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Watches a range on a stream that is shared by all watches, and returns when the server has accepted that,
    /// with the server's revision.
    pub(crate) async fn watch(&self, range: Range) -> Result<(Watching, i64)> {
        let mut refused = Error::new(ErrorKind::Unavailable, "users are changed faster than we log in");
        for _ in 0..TRIES {
            let stream = self.watch_stream().await?;
            match stream.watch(range.clone()).await {
                Ok(watching) => return Ok(watching),
                Err(Refused::Failed(error)) => return Err(self.here(error)),
                Err(Refused::LogIn(error)) => refused = error,
            }
            let Some(login) = &self.login else { break };
            self.log_in(login, stream.logins).await.map_err(|error| self.failed(error))?;
            stream.retire();
        }
        Err(self.here(refused))
    }

    /// The stream that takes further watches.
    async fn watch_stream(&self) -> Result<Arc<WatchStream>> {
        let _one = self.opening.lock().await;
        let current = lock(&self.watch_streams).last().cloned();
        if let Some(stream) = current.filter(|stream| stream.takes_more()) {
            return Ok(stream);
        }
        let stream = Arc::new(self.open_watch_stream().await?);
        let mut streams = lock(&self.watch_streams);
        streams.retain(|stream| stream.is_open() && !stream.is_idle());
        if streams.len() >= WATCH_STREAMS {
            // Users are changed often. These watches must come to the newest stream by and by.
            streams.remove(0).end(&Error::new(ErrorKind::Stale, "the watch goes on on another stream"));
        }
        streams.push(stream.clone());
        Ok(stream)
    }

    async fn open_watch_stream(&self) -> Result<WatchStream> {
        let logins = self.login.as_ref().map_or(0, Login::count);
        let first = self.any_range();
        let watches = self.client.watch_client().max_decoding_message_size(LONGEST_ANSWER);
        let call = || {
            let (mut watches, first) = (watches.clone(), first.clone());
            async move { watches.watch(first.start.clone(), Some(first.first_options())).await }
        };
        // It has its place among the streams.
        let opened = self.call(Purpose::Probe, call).await.map_err(|error| self.failed(error))?;
        let identified = self.connector.identified();
        Ok(WatchStream::serve(opened.split(), logins, move |error| error::translate(error, identified)))
    }

    /// Finds out which watch streams work. The others end, with their watches.
    pub(crate) async fn check_watches(&self, limit: Duration) {
        let streams: Vec<_> = lock(&self.watch_streams).clone();
        let checks = streams.iter().filter(|stream| stream.is_open() && !stream.is_idle());
        futures_util::future::join_all(checks.map(|stream| stream.check(self.any_range(), limit))).await;
    }

    /// A key that we may read, if there is one.
    fn any_range(&self) -> Range {
        Range { start: self.any_key().into(), end: Vec::new(), revision: 0 }
    }

    fn any_key(&self) -> &str {
        self.connector.probe_key.get().map_or(ANY_KEY, String::as_str)
    }

    /// Asks the quorum something. To be told that we may not ask is an answer.
    pub(crate) async fn probe(&self) -> Result<()> {
        match self.look_at(Purpose::Probe, self.any_key()).await {
            Ok(_) => Ok(()),
            Err(error) if error::is_no_permission(&error) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The member.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Resolves when the connection has ended. Cancel-safe.
    pub(crate) async fn ended(&self) -> Error {
        self.here(self.news.ended().await)
    }

    /// A request has failed.
    pub(crate) fn failed(&self, error: ClientError) -> Error {
        self.here(error::translate(error, self.connector.identified()))
    }

    /// Says where an error happened.
    pub(crate) fn here(&self, error: Error) -> Error {
        error.with_backend(BackendType::Etcd).with_address(&self.address)
    }

    /// An operation that has lasted too long.
    pub(crate) fn too_late(&self, operation: &'static str, after: Duration) -> Error {
        self.here(Error::timed_out(operation, after))
    }

    pub(crate) fn leases(&self) -> &leases::Leases {
        &self.connector.leases
    }

    /// Remembers a directory that this connection works with.
    pub(crate) fn works_in(&self, service: &Service) {
        self.connector.probe_key.get_or_init(|| format!("{}/", service.directory()));
    }
}
