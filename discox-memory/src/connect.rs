//! From the configuration to a connection, and how it is kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use discox_core::{
    BackendType, ConnectionConfig, Error, Result,
    backend::{Held, Link, Liveness, Loss, Registered, Replace, SourceOptions},
    record::{Prefix, Record, Service},
};
use tokio::time::timeout;
use tracing::warn;

use crate::{
    names::MemoryNames,
    registrar,
    source::MemorySource,
    store::{Store, store},
    topic::Topic,
};

const BACKEND: BackendType = BackendType::Memory;
const FIELD: &str = "backend_endpoints";

/// How often an idle connection shows that it is alive: as often as a registration does by default.
const PROBE: Duration = Duration::from_secs(5);

/// The parsed configuration.
#[derive(Debug)]
pub(crate) struct Connector {
    store: Store,
    told_of_checks: AtomicBool,
}

impl Connector {
    /// No endpoint, or one `memory://NAME`.
    pub(crate) fn parse(endpoints: &[String], settings: &ConnectionConfig) -> Result<Self> {
        settings.check(BACKEND)?;
        let name = match endpoints {
            [] => "",
            [endpoint] => parse_name(endpoint)?,
            _ => {
                return Err(Error::config(FIELD, endpoints.join(","), "one memory://NAME at most")
                    .with_backend(BACKEND));
            }
        };
        Ok(Self { store: store(name), told_of_checks: AtomicBool::new(false) })
    }
}

fn parse_name(endpoint: &str) -> Result<&str> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    endpoint
        .strip_prefix("memory://")
        .filter(|name| (1..=255).contains(&name.len()) && name.chars().all(in_name))
        .ok_or_else(|| {
            let reason = "use nothing, or memory://NAME with a name of A-Za-z0-9._-";
            Error::config(FIELD, endpoint, reason).with_backend(BACKEND)
        })
}

/// A connection to a store. Its records are kept by heart beats and expire after it.
#[derive(Debug)]
pub(crate) struct MemoryLink {
    pub(crate) store: Store,
    pub(crate) session: u64,
    pub(crate) epoch: u64,
}

impl MemoryLink {
    /// Does `work` when the store serves. Waits as long as it hangs.
    pub(crate) async fn request<T>(
        &self,
        service: &Service,
        work: impl FnOnce(&mut Topic) -> T,
    ) -> Result<T> {
        self.served().await?;
        Ok(self.store.topic(service, work))
    }

    /// Waits until the store answers this link.
    pub(crate) async fn served(&self) -> Result<()> {
        answering(&self.store).await?.serves(self.epoch)
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.store.leave();
    }
}

impl Link for MemoryLink {
    const BACKEND: BackendType = BACKEND;
    const ATTR_LIMIT: usize = 1 << 20;

    type Connector = Connector;
    type Source = MemorySource;
    type Names = MemoryNames;
    type Receipt = ();

    fn place(connector: &Connector) -> String {
        connector.store.place()
    }

    fn check(connector: &Connector, record: &Record, _attr: &str) -> Result<()> {
        if record.health_check.is_some() && !connector.told_of_checks.swap(true, Ordering::Relaxed) {
            warn!(backend = %BACKEND, service = %record.service, "health_check_endpoint is ignored: only Consul runs checks");
        }
        Ok(())
    }

    async fn connect(connector: &Arc<Connector>) -> Result<Self> {
        let store = connector.store.clone();
        let condition = answering(&store).await?;
        condition.serves(condition.epoch)?;
        // Nobody else looks at services that are no longer used.
        store.topics().retain(|_, topic| !topic.is_idle());
        let session = store.enter();
        Ok(Self { store, session, epoch: condition.epoch })
    }

    async fn keep(&self, liveness: &Liveness) -> Error {
        let mut changes = self.store.condition();
        loop {
            let condition = *changes.borrow_and_update();
            if let Err(lost) = condition.serves(self.epoch) {
                return lost;
            }
            if condition.hung {
                let limit = liveness.detection();
                if timeout(limit, changes.changed()).await.is_err() {
                    return Error::timed_out("probe", limit);
                }
            } else {
                liveness.answered();
                tokio::select! {
                    _ = changes.changed() => {}
                    () = liveness.probe_due(PROBE) => {}
                }
            }
        }
    }

    async fn close(&self) {
        if answering(&self.store).await.is_ok_and(|condition| condition.serves(self.epoch).is_ok()) {
            self.store.topics().values_mut().for_each(|topic| topic.end_session(self.session));
        }
    }

    fn source(self: &Arc<Self>, service: &Service, _options: &SourceOptions) -> MemorySource {
        MemorySource::new(self.clone(), service.clone())
    }

    fn names(self: &Arc<Self>, prefix: &Prefix) -> MemoryNames {
        MemoryNames::new(self.clone(), prefix.clone())
    }

    async fn register(&self, record: &Record, attr: &str, replace: Replace) -> Result<Registered<()>> {
        let session = self.session;
        self.request(&record.service, |topic| registrar::register(topic, session, record, attr, replace))
            .await??;
        Ok(Registered { receipt: (), ttl: record.ttl })
    }

    async fn withdraw(&self, record: &Record, _receipt: Option<&()>) -> Result<()> {
        self.request(&record.service, |topic| registrar::withdraw(topic, record)).await
    }

    async fn verify(&self, held: &[Held<()>]) -> Result<Vec<(usize, Loss)>> {
        let mut losses = Vec::new();
        for (position, held) in held.iter().enumerate() {
            let loss = self.request(&held.record.service, |topic| registrar::verify(topic, held)).await?;
            losses.extend(loss.map(|loss| (position, loss)));
        }
        Ok(losses)
    }
}

/// Waits until the store answers, and returns in which condition it is then. Cancel-safe.
async fn answering(store: &Store) -> Result<crate::store::Condition> {
    let mut changes = store.condition();
    // The store outlives this call, so that this cannot fail.
    let answer = changes.wait_for(|condition| !condition.hung || condition.failing).await;
    answer
        .map(|condition| *condition)
        .map_err(|_| Error::new(discox_core::ErrorKind::Unavailable, "no store"))
}
