//! A backend that reports what it is told to: to measure what core costs, and nothing else.

use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use discox_core::{
    BackendType, Connection, ConnectionConfig, Discover, DiscoverConfig, Error, ErrorKind, Result,
    backend::{
        Change, Held, Link, Listing, Liveness, Loss, Registered, Replace, Source, SourceOptions, Watch,
    },
    record::{Prefix, Record, Service},
};
use tokio::sync::mpsc;

/// What a discovery is told: the first list, and the changes that follow it.
pub struct Script {
    list: Mutex<Option<Listing>>,
    changes: Mutex<Option<mpsc::Receiver<Vec<Change>>>>,
}

/// What the registry is to say next.
pub type Feed = mpsc::Sender<Vec<Change>>;

/// A discovery that begins with `list` and follows what is sent.
///
/// # Errors
/// None that is expected.
pub fn discover(list: Listing) -> Result<(Arc<dyn Discover>, Feed)> {
    let (sender, receiver) = mpsc::channel(1024);
    let script = Script { list: Mutex::new(Some(list)), changes: Mutex::new(Some(receiver)) };
    let config = DiscoverConfig { service_name: "demo".into(), ..Default::default() };
    let connection = Connection::<ScriptedLink>::new(script, &ConnectionConfig::default())?;
    Ok((connection.single_discover(&config)?, sender))
}

/// A connection to nowhere.
pub struct ScriptedLink(Arc<Script>);

/// The list, once.
pub struct ScriptedSource(Arc<Script>);

/// What was sent.
pub struct ScriptedWatch(mpsc::Receiver<Vec<Change>>);

impl Link for ScriptedLink {
    const BACKEND: BackendType = BackendType::Memory;
    const ATTR_LIMIT: usize = usize::MAX;

    type Connector = Script;
    type Source = ScriptedSource;
    type Names = ScriptedSource;
    type Receipt = ();

    fn place(_: &Script) -> String {
        "script".into()
    }

    async fn connect(connector: &Arc<Script>) -> Result<Self> {
        Ok(Self(connector.clone()))
    }

    async fn keep(&self, _: &Liveness) -> Error {
        pending().await
    }

    async fn close(&self) {}

    fn source(self: &Arc<Self>, _: &Service, _: &SourceOptions) -> ScriptedSource {
        ScriptedSource(self.0.clone())
    }

    fn names(self: &Arc<Self>, _: &Prefix) -> ScriptedSource {
        ScriptedSource(self.0.clone())
    }

    async fn register(&self, _: &Record, _: &str, _: Replace) -> Result<Registered<()>> {
        Ok(Registered { receipt: (), ttl: Duration::from_secs(15) })
    }

    async fn withdraw(&self, _: &Record, _: Option<&()>) -> Result<()> {
        Ok(())
    }

    async fn verify(&self, _: &[Held<()>]) -> Result<Vec<(usize, Loss)>> {
        Ok(Vec::new())
    }
}

impl Source for ScriptedSource {
    type Watch = ScriptedWatch;

    async fn open(&self) -> Result<(Listing, ScriptedWatch)> {
        let taken = |what| Error::new(ErrorKind::Protocol, format!("the {what} can be taken once"));
        let list = self.0.list.lock().unwrap_or_else(PoisonError::into_inner).take();
        let changes = self.0.changes.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok((list.ok_or_else(|| taken("list"))?, ScriptedWatch(changes.ok_or_else(|| taken("changes"))?)))
    }
}

impl Watch for ScriptedWatch {
    async fn next(&mut self) -> Result<Vec<Change>> {
        match self.0.recv().await {
            Some(changes) => Ok(changes),
            None => pending().await,
        }
    }
}
