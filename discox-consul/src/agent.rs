//! The connection to one agent: its client, and what is remembered of it.

use std::sync::{Arc, atomic::AtomicUsize};

use discox_core::{BackendType, Denial, Error, ErrorKind, Result};

use crate::{
    address::Address,
    client::{Client, Fault},
    connect::Connector,
    error,
    placements::Agent,
    query_slots::QuerySlots,
    scan_state::ScanState,
};

/// A service that there is not.
pub(crate) const NOBODY: &str = "discox-probe";

/// The link to Consul: one agent, see [`discox_core::backend`].
#[derive(Debug)]
pub struct Consul {
    pub(crate) connector: Arc<Connector>,
    pub(crate) agent: Agent,
    address: Address,
    pub(crate) client: Client,
    pub(crate) slots: Arc<QuerySlots>,
    pub(crate) scan: ScanState,
    /// TTL checks that were passed by heart beats.
    pub(crate) passed: AtomicUsize,
}

impl Consul {
    pub(crate) async fn open(connector: &Arc<Connector>, agent: Agent, address: &Address) -> Result<Self> {
        let link = Self {
            connector: connector.clone(),
            agent,
            address: address.clone(),
            client: connector.client(address).await?,
            slots: Arc::new(QuerySlots::new(connector.hold().wait)),
            scan: ScanState::default(),
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

    /// An agent that was cut off names the leader again before it gets an answer from there, and hangs until
    /// then: another agent does better.
    async fn reaches_leader(&self) -> Result<()> {
        match self.client.answers_for(NOBODY).await {
            // A denial is an answer, too: this asks for the way to the leader, not for rights.
            Ok(()) | Err(Fault::Denied(..) | Fault::Status(..500, _)) => Ok(()),
            Err(fault) => Err(self.failed(fault)),
        }
    }

    /// The error of a request that has failed.
    pub(crate) fn failed(&self, fault: Fault) -> Error {
        self.here(error::translate(fault, &self.connector.settings))
    }

    /// Adds backend and address.
    pub(crate) fn here(&self, error: Error) -> Error {
        error.with_backend(BackendType::Consul).with_address(self.address.to_string())
    }

    /// The registry is lost as if it could not be reached: what is missing may be alive, and come back soon.
    pub(crate) fn went_back(&self, from: u64, to: u64) -> Error {
        let message = format!(
            "the index went back from {from} to {to}: Consul has lost its state, or an earlier one was restored"
        );
        self.here(Error::new(ErrorKind::Unavailable, message).answered())
    }

    /// An empty list that hides what we may not read.
    pub(crate) fn hidden(&self, message: &'static str) -> Error {
        let token = self.connector.settings.consul.token.is_some();
        let denial = if token { Denial::MissingRights } else { Denial::NoCredentials };
        self.here(Error::denied(denial, message))
    }

    /// The agent answers, and knows of no leader.
    pub(crate) fn leaderless(&self) -> Error {
        self.here(Error::new(ErrorKind::Unavailable, "the cluster has no leader").answered())
    }
}
