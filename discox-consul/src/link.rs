//! The seam: each call of [`Link`] leads to the file that does it.

use std::sync::Arc;

use discox_core::{
    BackendType, Error, Result,
    backend::{Held, Link, Liveness, Loss, Registered, Replace, SourceOptions},
    record::{Prefix, Record, Service},
};

use crate::{
    agent::Consul, check, connect::Connector, keep, layout, names::ConsulNames, record::Receipt, registrar,
    source::ConsulSource, verify,
};

impl Link for Consul {
    const BACKEND: BackendType = BackendType::Consul;
    const ATTR_LIMIT: usize = layout::ATTR_LIMIT;

    type Connector = Connector;
    type Source = ConsulSource;
    type Names = ConsulNames;
    type Receipt = Receipt;

    fn place(connector: &Connector) -> String {
        connector.to_string()
    }

    fn members(connector: &Connector) -> usize {
        connector.agents.all().len()
    }

    fn check(connector: &Connector, record: &Record, _: &str) -> Result<()> {
        Self::check_service(connector, &record.service)?;
        check::check(record, "").map(drop).map_err(|error| error.with_backend(BackendType::Consul))
    }

    fn check_service(_: &Connector, service: &Service) -> Result<()> {
        layout::check_name(service.name()).map_err(|error| error.with_backend(BackendType::Consul))
    }

    async fn connect(connector: &Arc<Connector>) -> Result<Self> {
        let limit = connector.settings.request_timeout;
        connector.agents.first(limit, |(agent, address)| Self::open(connector, *agent, address)).await
    }

    fn member(&self) -> Option<String> {
        self.connector.agent(self.agent).map(ToString::to_string)
    }

    async fn keep(&self, liveness: &Liveness) -> Error {
        keep::keep(self, liveness).await
    }

    /// There is no session to end.
    async fn close(&self) {}

    fn source(self: &Arc<Self>, service: &Service, options: &SourceOptions) -> ConsulSource {
        ConsulSource::new(self.clone(), service.clone(), options.include_warning)
    }

    fn names(self: &Arc<Self>, prefix: &Prefix) -> ConsulNames {
        ConsulNames::new(self.clone(), prefix.clone())
    }

    async fn register(&self, record: &Record, attr: &str, replace: Replace) -> Result<Registered<Receipt>> {
        registrar::register(self, record, attr, replace).await
    }

    async fn update(&self, record: &Record, attr: &str, _: &Receipt) -> Result<Registered<Receipt>> {
        registrar::update(self, record, attr).await
    }

    async fn withdraw(&self, record: &Record, _: Option<&Receipt>) -> Result<()> {
        registrar::withdraw(self, record).await
    }

    async fn verify(&self, held: &[Held<Receipt>]) -> Result<Vec<(usize, Loss)>> {
        verify::verify(self, held).await
    }
}
