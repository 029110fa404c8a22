//! The seam to core, put together.

use std::sync::Arc;

use discox_core::{
    BackendType, Error, Result,
    backend::{Held, Link, Liveness, Loss, Registered, Replace, SourceOptions},
    record::{Prefix, Record, Service},
};

use crate::{
    address::unstorable,
    client::Client,
    connect::Connector,
    names::ZookeeperNames,
    registrar::Receipt,
    source::{self, ZookeeperSource},
};

/// One connection to one member. Its session may outlive it: the next link goes on with it.
#[derive(Debug)]
pub struct Zookeeper {
    pub(crate) client: Box<dyn Client>,
    pub(crate) connector: Arc<Connector>,
}

impl Zookeeper {
    /// The node that a service's records lie under.
    pub(crate) fn directory(&self, service: &Service) -> String {
        format!("{}{}", self.connector.address.chroot, service.directory())
    }
}

impl Link for Zookeeper {
    const BACKEND: BackendType = BackendType::Zookeeper;
    /// ZooKeeper takes no request of more than 1 MiB (`jute.maxbuffer`): path and headers need room.
    const ATTR_LIMIT: usize = 1_000_000;
    /// Answers to pings and events of watches share one ordered stream.
    const LIVENESS_CONFIRMS_WATCH: bool = true;

    type Connector = Connector;
    type Source = ZookeeperSource;
    type Names = ZookeeperNames;
    type Receipt = Receipt;

    fn place(connector: &Connector) -> String {
        connector.place()
    }

    fn members(connector: &Connector) -> usize {
        connector.address.members.len()
    }

    fn check(connector: &Connector, record: &Record, _attr: &str) -> Result<()> {
        Self::check_service(connector, &record.service)?;
        if record.service.is_named() {
            let name = record.name();
            let reason = if name.contains('/') {
                Some("`/` is not allowed, it is one node")
            } else {
                unstorable(&format!("/records/{name}"))
            };
            if let Some(reason) = reason {
                let error = Error::config("layout_options.instance_id", name, reason);
                return Err(error.with_backend(Self::BACKEND));
            }
        }
        connector.ask(record.ttl);
        Ok(())
    }

    fn check_service(connector: &Connector, service: &Service) -> Result<()> {
        let chroot = &connector.address.chroot;
        let reject =
            |field, value: &str, reason| Err(Error::config(field, value, reason).with_backend(Self::BACKEND));
        if let Some(reason) = unstorable(&format!("{chroot}{}", service.prefix())) {
            return reject("discover_prefix", service.prefix(), reason);
        }
        match unstorable(&format!("{chroot}{}", service.directory())) {
            Some(reason) => reject("service_name", service.name(), reason),
            None => Ok(()),
        }
    }

    fn check_prefix(connector: &Connector, prefix: &Prefix) -> Result<()> {
        match unstorable(&format!("{}{prefix}", connector.address.chroot)) {
            Some(reason) => Err(Error::config("discover_prefix", prefix, reason).with_backend(Self::BACKEND)),
            None => Ok(()),
        }
    }

    async fn connect(connector: &Arc<Connector>) -> Result<Self> {
        connector.connect().await
    }

    async fn keep(&self, liveness: &Liveness) -> Error {
        self.keep_alive(liveness).await
    }

    async fn close(&self) {
        self.end().await;
    }

    fn source(self: &Arc<Self>, service: &Service, _options: &SourceOptions) -> ZookeeperSource {
        source::of(self, service)
    }

    fn names(self: &Arc<Self>, prefix: &Prefix) -> ZookeeperNames {
        ZookeeperNames::new(self.clone(), prefix)
    }

    async fn register(&self, record: &Record, attr: &str, replace: Replace) -> Result<Registered<Receipt>> {
        self.write(record, attr, replace).await.map_err(|error| self.connector.explain(error))
    }

    async fn withdraw(&self, record: &Record, receipt: Option<&Receipt>) -> Result<()> {
        self.remove(record, receipt).await.map_err(|error| self.connector.explain(error))
    }

    async fn verify(&self, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
        self.find_losses(held).await
    }
}
