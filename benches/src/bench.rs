//! A run: the servers, and what is known so far.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use discox::BackendType;
use discox_testkit::server::{Kind, Servers};

use crate::{
    client::{Client, Sight, Watching},
    facade::Discox,
    lane::Lane,
    options::Options,
    raw::{self, Layout, Raw},
    report::{Report, Row},
};

/// A heart beat of the usual length, as the numbers to reach have it.
pub const HEART_BEAT: Duration = Duration::from_secs(10);

/// What workloads work with.
pub struct Bench {
    /// What is to be measured.
    pub options: Options,
    /// What is known so far.
    pub report: Report,
}

impl Bench {
    /// Notes a row, and says it.
    pub fn note(&mut self, row: Row) {
        let cells = crate::report::cells(&row);
        eprintln!("  {}: {}", row.workload, cells.join("  "));
        self.report.put(row);
    }
}

/// A registry of its own for one workload.
pub struct World {
    /// Which registry.
    pub backend: BackendType,
    /// `127.0.0.1:PORT`.
    pub address: String,
    /// Fills it.
    pub driver: Driver,
    _servers: Servers,
}

impl World {
    /// Starts the server, and notes what it is.
    ///
    /// # Errors
    /// There is none to be had.
    pub async fn start(bench: &mut Bench, backend: BackendType) -> Result<Self> {
        let kind = match backend {
            BackendType::Etcd => Kind::Etcd,
            BackendType::Zookeeper => Kind::Zookeeper,
            BackendType::Consul => Kind::Consul,
            other => anyhow::bail!("{other} needs no server"),
        };
        let mut servers = Servers::builder(kind);
        if backend == BackendType::Zookeeper {
            // The tests' 128 MB are not meant for 100,000 nodes.
            servers = servers.env("JVMFLAGS", "-Xmx1g -XX:TieredStopAtLevel=4");
        }
        let servers = servers.start().await?;
        let member = servers.members().first().context("no server")?;
        bench.report.note_environment(member.version().await);
        let address = member.address().to_owned();
        let driver = Driver::connect(backend, &address).await?;
        Ok(Self { backend, address, driver, _servers: servers })
    }
}

/// A raw client that makes the changes which others watch, on a lane of its own.
pub struct Driver {
    lane: Lane,
    raw: Arc<dyn Raw>,
}

impl Driver {
    /// Connects to the registry.
    ///
    /// # Errors
    /// The registry's.
    pub async fn connect(backend: BackendType, address: &str) -> Result<Self> {
        let (lane, address) = (Lane::new("driver")?, address.to_owned());
        let connect =
            move || async move { Ok(Arc::from(raw::connect(backend, &address, HEART_BEAT).await?)) };
        let raw = lane.run(connect).await?;
        Ok(Self { lane, raw })
    }

    /// Writes the first `n` endpoints of a service.
    ///
    /// # Errors
    /// The registry's.
    pub async fn fill(&self, service: &str, n: usize, layout: Layout) -> Result<()> {
        let (raw, service) = (self.raw.clone(), service.to_owned());
        self.lane.run(move || async move { raw.fill(&service, n, layout).await }).await
    }

    /// Does something with the raw client.
    ///
    /// # Errors
    /// Its own.
    pub async fn run<T, F>(&self, work: impl FnOnce(Arc<dyn Raw>) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        let raw = self.raw.clone();
        self.lane.run(move || work(raw)).await
    }
}

/// Those that are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// discox.
    Discox,
    /// The raw client.
    Raw,
    /// discox, with a guard before the client crate: ZooKeeper.
    Guarded,
}

/// The first two, in the order in which they take turns.
pub const SIDES: [Side; 2] = [Side::Discox, Side::Raw];

impl Side {
    /// For names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discox => "discox",
            Self::Raw => "raw",
            Self::Guarded => "guarded",
        }
    }
}

/// One side on a lane of its own, connected.
#[derive(Clone)]
pub struct Party {
    /// Which side.
    pub side: Side,
    /// Its lane.
    pub lane: Arc<Lane>,
    /// Its connection.
    pub client: Arc<dyn Client>,
}

impl Party {
    /// Connects to the registry at `address`, which may be a [`Tap`](crate::tap::Tap)'s.
    ///
    /// # Errors
    /// The registry's.
    pub async fn connect(side: Side, backend: BackendType, address: &str) -> Result<Self> {
        Self::beating(side, backend, address, HEART_BEAT).await
    }

    /// As [`Party::connect`], with heart beats so far apart.
    ///
    /// # Errors
    /// The registry's.
    pub async fn beating(
        side: Side,
        backend: BackendType,
        address: &str,
        heart_beat: Duration,
    ) -> Result<Self> {
        let lane = Arc::new(Lane::new(side.as_str())?);
        let address = address.to_owned();
        let client = lane
            .run(move || async move {
                Ok(match side {
                    Side::Discox | Side::Guarded => {
                        let guard = side == Side::Guarded;
                        Arc::new(Discox::new(backend, &address, heart_beat, guard)?) as Arc<dyn Client>
                    }
                    Side::Raw => {
                        Arc::from(raw::connect(backend, &address, heart_beat).await? as Box<dyn Client>)
                    }
                })
            })
            .await?;
        Ok(Self { side, lane, client })
    }

    /// Watches a service.
    ///
    /// # Errors
    /// The registry's.
    pub async fn watch(&self, service: &str) -> Result<Watched> {
        let sight = Arc::new(Sight::default());
        let (client, service) = (self.client.clone(), service.to_owned());
        let watching = self
            .lane
            .run({
                let sight = sight.clone();
                move || async move { Ok(Arc::from(client.watch(&service, sight).await?)) }
            })
            .await?;
        Ok(Watched { watching, sight })
    }

    /// What the lane has worked so far.
    ///
    /// # Errors
    /// The lane has ended.
    pub async fn cpu(&self) -> Result<Duration> {
        self.lane.run(|| async { Ok(crate::clock::thread_cpu()) }).await
    }
}

/// A service that a party watches.
#[derive(Clone)]
pub struct Watched {
    /// The cache.
    pub watching: Arc<dyn Watching>,
    /// What looks at it.
    pub sight: Arc<Sight>,
}
