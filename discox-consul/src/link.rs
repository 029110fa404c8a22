//! The connection to one agent.

use std::sync::{Arc, atomic::AtomicUsize};

use discox_core::{
    BackendType, Error, ErrorKind, Result,
    backend::{Held, Link, Loss, Pulse, Registered, SourceOptions, Take},
    key::{Record, Service},
};

use crate::{
    catalogue::Memory,
    check,
    client::{Client, Fault},
    connect::{Address, Connector},
    error,
    keep::{self, NOBODY},
    layout,
    ledger::Agent,
    registrar::{self, Receipt},
    source::ConsulSource,
    turns::Turns,
    verify,
};

/// The link to Consul: one agent, see [`discox_core::backend`].
#[derive(Debug)]
pub struct Consul {
    pub(crate) connector: Arc<Connector>,
    pub(crate) agent: Agent,
    address: Address,
    pub(crate) client: Client,
    pub(crate) turns: Arc<Turns>,
    pub(crate) catalogue: Memory,
    /// TTL checks that were passed by heart beats.
    pub(crate) passed: AtomicUsize,
}

impl Consul {
    async fn open(connector: &Arc<Connector>, agent: Agent, address: &Address) -> Result<Self> {
        let link = Self {
            connector: connector.clone(),
            agent,
            address: address.clone(),
            client: connector.client(address)?,
            turns: Arc::new(Turns::new(connector.hold().wait)),
            catalogue: Memory::default(),
            passed: AtomicUsize::new(0),
        };
        let leader = link.client.leader().await.map_err(|fault| link.failed(fault))?;
        if leader.is_empty() {
            return Err(link.leaderless());
        }
        if connector.agents.all().len() > 1 {
            link.reaches_leader().await?;
        }
        Ok(link)
    }

    /// An agent that was cut off knows again who leads before it gets an answer from there, and is silent meanwhile:
    /// another one does better.
    async fn reaches_leader(&self) -> Result<()> {
        match self.client.health(NOBODY, None).await {
            // Denied, say: what we may do is another question.
            Ok(_) | Err(Fault::Denied(..) | Fault::Status(..500, _)) => Ok(()),
            Err(fault) => Err(self.failed(fault)),
        }
    }

    /// A request has failed.
    pub(crate) fn failed(&self, fault: Fault) -> Error {
        self.here(error::translate(fault, &self.connector.settings))
    }

    /// Adds backend and address.
    pub(crate) fn here(&self, error: Error) -> Error {
        error.on(BackendType::Consul).at(self.address.to_string())
    }

    /// The agent answers, and knows of no leader.
    pub(crate) fn leaderless(&self) -> Error {
        self.here(Error::new(ErrorKind::Unavailable, "the cluster has no leader"))
    }
}

impl Link for Consul {
    const BACKEND: BackendType = BackendType::Consul;
    const ATTR_LIMIT: usize = layout::ATTR_LIMIT;

    type Connector = Connector;
    type Source = ConsulSource;
    type Receipt = Receipt;

    fn place(connector: &Connector) -> String {
        connector.to_string()
    }

    fn members(connector: &Connector) -> usize {
        connector.agents.all().len()
    }

    fn check(_: &Connector, record: &Record, _: &str) -> Result<()> {
        check::check(record, "").map(drop).map_err(|error| error.on(BackendType::Consul))
    }

    async fn connect(connector: &Arc<Connector>) -> Result<Self> {
        let limit = connector.settings.request_timeout;
        connector.agents.first(limit, |(agent, address)| Self::open(connector, *agent, address)).await
    }

    async fn keep(&self, pulse: &Pulse) -> Error {
        keep::keep(self, pulse).await
    }

    /// There is no session to end.
    async fn close(&self) {}

    fn source(self: &Arc<Self>, service: &Service, options: &SourceOptions) -> ConsulSource {
        ConsulSource::new(self.clone(), service.clone(), options.include_warning)
    }

    async fn register(&self, record: &Record, attr: &str, take: Take) -> Result<Registered<Receipt>> {
        registrar::register(self, record, attr, take).await
    }

    async fn update(&self, record: &Record, attr: &str, _: &Receipt) -> Result<Registered<Receipt>> {
        registrar::update(self, record, attr).await
    }

    async fn withdraw(&self, record: &Record, receipt: Option<&Receipt>) -> Result<()> {
        registrar::withdraw(self, record, receipt).await
    }

    async fn verify(&self, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
        verify::verify(self, held).await
    }
}
