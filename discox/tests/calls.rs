//! Calls to a service on each real registry, unary and streaming, while its instances are replaced and the registry is
//! killed. `DISCOX_TEST_CALLS` says how many calls each has to see, 3,000 by default.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use discox::{
    BackendType, Register, RegisterConfig, Registry, RegistryConfig, Watching,
    tonic::{Channel, Leaving, leave},
};
use discox_testkit::{
    grpc::{Code, Direction, Orders, OrdersClient, Status, call, client, stream},
    server::{Data, Kind, Servers},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Within this time everything happens that should.
const DEADLINE: Duration = Duration::from_secs(60);

/// Instances of the service, of which each is replaced.
const INSTANCES: usize = 5;

/// Callers at once; and streams at once, of each direction.
const CALLERS: usize = 16;
const STREAMS: usize = 2;

struct Instance {
    orders: Orders,
    register: Arc<dyn Register>,
}

impl Instance {
    async fn start(registry: &Arc<dyn Registry>) -> Result<Self> {
        let orders = Orders::start()?;
        let register = registry.register(RegisterConfig {
            service_name: "orders".into(),
            service_endpoint: orders.endpoint().into(),
            heart_beat_period: Duration::from_secs(1),
            ..Default::default()
        })?;
        // Also while the registry is away.
        while let Err(error) = register.start().await {
            ensure!(error.kind().is_retryable(), error);
        }
        Ok(Self { orders, register })
    }

    async fn leave(self, watching: &Watching) -> Result<()> {
        let leaving = Leaving::default()
            .seen_by(watching.endpoints(), self.orders.endpoint())
            .settle(Duration::from_millis(100))
            .quiet(Duration::from_millis(200))
            .limit(Duration::from_secs(20));
        let left = leave(&*self.register, self.orders.traffic(), leaving).await;
        ensure!(left.in_flight == 0, "{left:?}");
        self.orders.end().await
    }

    /// As a process that is killed and replaced: its connections break, and its record goes later.
    async fn kill(mut self) -> Result<()> {
        self.orders.kill();
        Ok(self.register.stop().await?)
    }
}

/// Calls without a pause, until told to stop.
struct Load {
    answered: Arc<AtomicU64>,
    callers: Vec<JoinHandle<Vec<Status>>>,
    end: watch::Sender<()>,
}

impl Load {
    fn start(channel: &Channel) -> Self {
        let (end, until) = watch::channel(());
        let (answered, client) = (Arc::<AtomicU64>::default(), client(channel));
        let unary = (0..CALLERS).map(|_| {
            let once = async |client: OrdersClient| call(&client).await;
            tokio::spawn(caller(client.clone(), once, answered.clone(), until.clone()))
        });
        let streams = Direction::ALL.iter().cycle().take(3 * STREAMS).map(|direction| {
            let once = async |channel: Channel| stream(&channel, *direction).await;
            tokio::spawn(caller(channel.clone(), once, answered.clone(), until.clone()))
        });
        let callers = unary.chain(streams).collect();
        Self { answered, callers, end }
    }

    /// Until so many calls were answered.
    async fn reaches(&self, count: u64) {
        while self.answered.load(Relaxed) < count {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many were answered, and what the others said.
    async fn end(self) -> Result<(u64, Vec<Status>)> {
        drop(self.end);
        let mut failed = Vec::new();
        for caller in self.callers {
            failed.extend(caller.await?);
        }
        Ok((self.answered.load(Relaxed), failed))
    }
}

async fn caller<C: Clone, F: Future<Output = Result<(), Status>>>(
    client: C,
    once: impl Fn(C) -> F,
    answered: Arc<AtomicU64>,
    until: watch::Receiver<()>,
) -> Vec<Status> {
    let mut failed = Vec::new();
    while until.has_changed().is_ok() {
        match once(client.clone()).await {
            Ok(()) => drop(answered.fetch_add(1, Relaxed)),
            Err(status) => failed.push(status),
        }
    }
    failed
}

fn calls() -> Result<u64> {
    std::env::var("DISCOX_TEST_CALLS").map_or(Ok(3_000), |calls| Ok(calls.parse()?))
}

/// How an instance ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Leaves,
    IsKilled,
}

/// Replaces each instance, under load, and in the middle kills the registry. Returns what has failed.
async fn rolling_restart(kind: Kind, backend_type: BackendType, end: End) -> Result<Vec<Status>> {
    let servers = Servers::single(kind).await?;
    let registry = discox::connect(RegistryConfig {
        backend_type,
        backend_endpoints: servers.addresses(),
        ..Default::default()
    })?;
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        instances.push(Instance::start(&registry).await?);
    }
    let orders = registry.watch("orders")?;
    let channel = Channel::new(&orders);
    timeout(DEADLINE, channel.ready(INSTANCES)).await.context("the instances")?;

    let (calls, begun, load) = (calls()?, Instant::now(), Load::start(&channel));
    for (i, instance) in instances.iter_mut().enumerate() {
        if i == INSTANCES / 2 {
            servers.kill().await?;
            servers.start(Data::Kept).await?;
        }
        let next = Instance::start(&registry).await?;
        let old = std::mem::replace(instance, next);
        match end {
            End::Leaves => old.leave(&orders).await?,
            End::IsKilled => old.kill().await?,
        }
        let so_far = calls * (i as u64 + 1) / INSTANCES as u64;
        timeout(10 * DEADLINE, load.reaches(so_far)).await.context("the calls")?;
    }
    let (took, (answered, failed)) = (begun.elapsed(), load.end().await?);
    println!("{kind:?}, {end:?}: {answered} calls answered in {took:?}, {} failed", failed.len());
    for instance in instances {
        instance.register.stop().await?;
    }
    registry.close().await;
    Ok(failed)
}

async fn fails_no_call(kind: Kind, backend_type: BackendType) -> Result<()> {
    let failed = rolling_restart(kind, backend_type, End::Leaves).await?;
    ensure!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_on_etcd_fails_no_call() -> Result<()> {
    fails_no_call(Kind::Etcd, BackendType::Etcd).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_on_zookeeper_fails_no_call() -> Result<()> {
    fails_no_call(Kind::Zookeeper, BackendType::Zookeeper).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_on_consul_fails_no_call() -> Result<()> {
    fails_no_call(Kind::Consul, BackendType::Consul).await
}

/// What `leave` is for. Only what a killed instance may have begun fails: at most what was under way to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_leave_what_is_under_way_fails() -> Result<()> {
    let failed = rolling_restart(Kind::Etcd, BackendType::Etcd, End::IsKilled).await?;
    let (most, strange) = (
        INSTANCES * (CALLERS + 3 * STREAMS),
        failed
            .iter()
            .find(|status| !matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal)),
    );
    ensure!(failed.len() <= most && strange.is_none(), "{} failed: {strange:?}", failed.len());
    Ok(())
}
