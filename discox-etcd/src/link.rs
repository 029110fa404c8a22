//! What core asks of a connection, each in one line.

use std::{sync::Arc, time::Duration};

use discox_core::{
    BackendType, Error, Result,
    backend::{Held, Link, Liveness, Loss, Registered, Replace, SourceOptions},
    record::{Prefix, Record, Service},
};
use futures_util::future::join_all;
use tokio::time::{sleep_until, timeout};
use tracing::info;

use crate::{
    client::Etcd, connect, connector::Connector, keep, names::EtcdNames, registrar::Receipt,
    source::EtcdSource,
};

/// How long a lease outlives the withdrawal of a record. Watchers ask at once, with two requests.
const LINGER: Duration = Duration::from_millis(250);

impl Link for Etcd {
    const BACKEND: BackendType = BackendType::Etcd;
    /// etcd takes requests of 1.5 MiB by default (`--max-request-bytes`).
    const ATTR_LIMIT: usize = 1024 * 1024;
    /// Until the watch reports its own progress.
    const LIVENESS_CONFIRMS_WATCH: bool = true;

    type Connector = Connector;
    type Source = EtcdSource;
    type Names = EtcdNames;
    type Receipt = Receipt;

    fn place(connector: &Connector) -> String {
        connector.place()
    }

    fn members(connector: &Connector) -> usize {
        connector.members.all().len()
    }

    fn check(connector: &Connector, record: &Record, _attr: &str) -> Result<()> {
        if record.health_check.is_some() {
            connector.told_checks.call_once(|| {
                info!(backend = %BackendType::Etcd, service = %record.service, "health_check_endpoint is ignored: etcd runs no checks");
            });
        }
        Ok(())
    }

    async fn connect(connector: &Arc<Connector>) -> Result<Self> {
        connect::connect(connector).await
    }

    fn member(&self) -> Option<String> {
        Some(self.address().to_owned())
    }

    async fn keep(&self, liveness: &Liveness) -> Error {
        keep::keep(self, liveness).await
    }

    async fn close(&self) {
        // A watcher that asks why a record went must find its lease alive: then it was deleted, and has not expired.
        if let Some(left) = self.leases().last_left() {
            sleep_until(left + LINGER).await;
        }
        let revoke = |id| async move { self.revoke(id).await };
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

    fn names(self: &Arc<Self>, prefix: &Prefix) -> EtcdNames {
        EtcdNames::new(self.clone(), prefix)
    }

    async fn register(&self, record: &Record, attr: &str, replace: Replace) -> Result<Registered<Receipt>> {
        self.works_in(&record.service);
        self.write(record, attr, replace, None).await
    }

    async fn update(&self, record: &Record, attr: &str, receipt: &Receipt) -> Result<Registered<Receipt>> {
        self.write(record, attr, Replace::OnlyOwn, Some(receipt.revision)).await
    }

    async fn withdraw(&self, record: &Record, receipt: Option<&Receipt>) -> Result<()> {
        self.remove(record.key(), receipt).await
    }

    async fn verify(&self, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
        self.find_lost(held).await
    }
}
