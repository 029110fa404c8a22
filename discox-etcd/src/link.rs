//! One connection to one member of an etcd cluster.

use std::{sync::Arc, time::Duration};

use discox_core::{
    BackendType, Error, Result,
    backend::{Held, Link, Loss, Pulse, Registered, SourceOptions, Take},
    key::{Record, Service},
};
use etcd_client::{Client, GetOptions, GetResponse, KvClient, LeaseClient, WatchClient};
use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::info;

use crate::{
    connect::{Connector, LONGEST_ANSWER, LONGEST_PAGE},
    error, keep,
    leases::Leases,
    registrar::Receipt,
    source::EtcdSource,
};

/// What is asked for before any service is known. Nobody needs to have it, nor the right to read it.
const ANY_KEY: &str = "/discox";

/// The link to etcd: see [`discox_core::backend`].
///
/// It stays with one member. A request is never given to another one behind its back, so that a
/// member that hangs cannot take every third request with it.
pub struct Etcd {
    pub(crate) connector: Arc<Connector>,
    address: String,
    client: Client,
}

impl Etcd {
    pub(crate) fn new(connector: Arc<Connector>, address: String, client: Client) -> Self {
        Self { connector, address, client }
    }

    pub(crate) fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(LONGEST_ANSWER)
    }

    /// For lists.
    pub(crate) fn pages(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(LONGEST_PAGE)
    }

    pub(crate) fn lease(&self) -> LeaseClient {
        self.client.lease_client()
    }

    pub(crate) fn watch(&self) -> WatchClient {
        self.client.watch_client().max_decoding_message_size(LONGEST_ANSWER)
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.connector.leases
    }

    /// Reads a key without its value, from the quorum.
    pub(crate) async fn look_at(&self, key: &str) -> Result<GetResponse, etcd_client::Error> {
        self.kv().get(key, Some(GetOptions::new().with_keys_only())).await
    }

    /// Asks the quorum something. To be told that we may not ask is an answer.
    pub(crate) async fn probe(&self) -> Result<()> {
        let key = self.connector.probe_key.get().map_or(ANY_KEY, String::as_str);
        match self.look_at(key).await {
            Ok(_) => Ok(()),
            Err(error) if error::is_no_permission(&error) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Gets a new token where there are credentials.
    pub(crate) async fn renew_token(&self) -> Result<()> {
        self.client.refresh_token().await.map_err(|error| self.failed(error))
    }

    /// A request has failed.
    pub(crate) fn failed(&self, error: etcd_client::Error) -> Error {
        self.here(error::translate(error, self.connector.identified()))
    }

    /// Says where an error happened.
    pub(crate) fn here(&self, error: Error) -> Error {
        error.on(BackendType::Etcd).at(&self.address)
    }

    /// An operation that has lasted too long.
    pub(crate) fn too_late(&self, operation: &'static str, after: Duration) -> Error {
        self.here(Error::timed_out(operation, after))
    }

    /// Remembers a directory that this connection works with.
    pub(crate) fn works_in(&self, service: &Service) {
        self.connector.probe_key.get_or_init(|| format!("{}/", service.directory()));
    }
}

impl Link for Etcd {
    const BACKEND: BackendType = BackendType::Etcd;
    /// etcd takes requests of 1.5 MiB by default (`--max-request-bytes`).
    const ATTR_LIMIT: usize = 1024 * 1024;

    type Connector = Connector;
    type Source = EtcdSource;
    type Receipt = Receipt;

    fn place(connector: &Connector) -> String {
        connector.place()
    }

    fn members(connector: &Connector) -> usize {
        connector.members()
    }

    fn check(connector: &Connector, record: &Record, _attr: &str) -> Result<()> {
        if record.health_check.is_some() {
            connector.told.call_once(|| {
                info!(backend = %BackendType::Etcd, service = %record.service, "health_check_endpoint is ignored: etcd runs no checks");
            });
        }
        Ok(())
    }

    async fn connect(connector: &Arc<Connector>) -> Result<Self> {
        connector.connect().await
    }

    async fn keep(&self, pulse: &Pulse) -> Error {
        keep::keep(self, pulse).await
    }

    async fn close(&self) {
        let revoke = |id| async move { self.lease().revoke(id).await };
        // Best effort: what is not revoked expires.
        let _ = timeout(
            self.connector.settings.request_timeout,
            join_all(self.leases().forget_all().into_iter().map(revoke)),
        )
        .await;
    }

    fn source(self: &Arc<Self>, service: &Service, _options: &SourceOptions) -> EtcdSource {
        self.works_in(service);
        EtcdSource::new(self.clone(), service)
    }

    async fn register(&self, record: &Record, attr: &str, take: Take) -> Result<Registered<Receipt>> {
        self.works_in(&record.service);
        self.write(record, attr, take, None).await
    }

    async fn update(&self, record: &Record, attr: &str, receipt: &Receipt) -> Result<Registered<Receipt>> {
        self.write(record, attr, Take::Back, Some(receipt.revision)).await
    }

    async fn withdraw(&self, record: &Record, receipt: Option<&Receipt>) -> Result<()> {
        self.remove(record.key(), receipt).await
    }

    async fn verify(&self, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
        self.find_lost(held).await
    }
}
