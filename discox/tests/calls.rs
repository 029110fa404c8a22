//! Calls to a service on each real registry, while its instances are replaced and the registry is killed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use discox::{
    BackendType, Register, RegisterConfig, Registry, RegistryConfig, Watching,
    tonic::{Channel, Leaving, Options, leave},
};
use discox_testkit::{
    grpc::{Orders, call, client},
    server::{Data, Kind, Servers},
};
use tokio::{sync::watch, time::timeout};

/// Within this time everything happens that should.
const DEADLINE: Duration = Duration::from_secs(60);

/// Instances of the service, of which each is replaced.
const INSTANCES: usize = 5;

/// Callers at once.
const CALLERS: usize = 16;

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
}

/// How many calls were answered, and what the others said.
async fn callers(channel: &Channel, mut until: watch::Receiver<()>) -> (u64, Vec<String>) {
    let (client, mut answered, mut failed) = (client(channel), 0, Vec::new());
    while until.has_changed().is_ok() {
        match call(&client).await {
            Ok(()) => answered += 1,
            Err(status) => failed.push(status.to_string()),
        }
    }
    until.borrow_and_update();
    (answered, failed)
}

async fn rolling_restart(kind: Kind, backend_type: BackendType) -> Result<()> {
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
    let channel = Channel::builder(&orders).options(Options::default()).build();
    timeout(DEADLINE, channel.ready(INSTANCES)).await.context("the instances")?;

    let (end, until) = watch::channel(());
    let calling: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (channel, until) = (channel.clone(), until.clone());
            tokio::spawn(async move { callers(&channel, until).await })
        })
        .collect();
    drop(until);
    let begun = Instant::now();
    for (i, instance) in instances.iter_mut().enumerate() {
        if i == INSTANCES / 2 {
            servers.kill().await?;
            servers.start(Data::Kept).await?;
        }
        let next = Instance::start(&registry).await?;
        let old = std::mem::replace(instance, next);
        old.leave(&orders).await?;
    }
    let took = begun.elapsed();
    drop(end);
    let (mut answered, mut failed) = (0, Vec::new());
    for caller in calling {
        let (its_answered, its_failed) = caller.await?;
        answered += its_answered;
        failed.extend(its_failed);
    }
    println!("{kind:?}: {answered} calls answered in {took:?}, {} failed", failed.len());
    ensure!(failed.is_empty(), "of {answered} calls {} failed: {:?}", failed.len(), failed.first());
    ensure!(answered > 1_000, "only {answered} calls were made");
    for instance in instances {
        instance.register.stop().await?;
    }
    registry.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_on_etcd_fails_no_call() -> Result<()> {
    rolling_restart(Kind::Etcd, BackendType::Etcd).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_on_zookeeper_fails_no_call() -> Result<()> {
    rolling_restart(Kind::Zookeeper, BackendType::Zookeeper).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_on_consul_fails_no_call() -> Result<()> {
    rolling_restart(Kind::Consul, BackendType::Consul).await
}
