//! What it costs to make sure that a record is still ours, as discox does before every change: the same change by the
//! raw client, plain and fenced. Consul has no fences, but answers questions.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use discox::BackendType;
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use zookeeper_client::{Acls, CreateMode, Error, MultiReadResult};

use crate::{
    bench::{Bench, HEART_BEAT, World},
    client::{Client, Sight},
    fleet,
    raw::{Layout, Raw, consul::Consul, zookeeper},
    report::Row,
    stats::Stat,
};

/// A change of a record that is there.
#[derive(Clone, Copy)]
enum Way {
    Put,
    FencedPut,
    Delete,
    FencedDelete,
}

const WAYS: [Way; 4] = [Way::Put, Way::FencedPut, Way::Delete, Way::FencedDelete];

const DIRECTORY: &str = "/bench-fences";
const KEY: &str = "/bench-fences/10.0.0.1:80";

/// Measures, and notes rows.
///
/// # Errors
/// It could not be run.
pub async fn run(bench: &mut Bench) -> Result<()> {
    for backend in bench.options.backends() {
        let samples = bench.options.samples(300, 30);
        let times = match backend {
            BackendType::Etcd => etcd(&World::start(bench, backend).await?.address, samples).await?,
            BackendType::Zookeeper => {
                zookeeper(&World::start(bench, backend).await?.address, samples).await?
            }
            _ => {
                consul(bench).await?;
                continue;
            }
        };
        let [put, fenced_put, delete, fenced_delete] = times.map(|times| Stat::millis(&times));
        for (what, plain, fenced) in [("a put", put, fenced_put), ("a deletion", delete, fenced_delete)] {
            bench.note(Row::new("fences", backend, what, 1, "ms", fenced).against(plain));
        }
    }
    Ok(())
}

/// From the call to a watcher's cache, as in `propagation`, by the raw client that asks nothing and by one that asks what
/// discox does.
async fn consul(bench: &mut Bench) -> Result<()> {
    const STEPS: [&str; 3] = ["register → seen", "attr → seen", "deregister → seen"];
    let world = World::start(bench, BackendType::Consul).await?;
    for n in bench.options.sizes(&[0, 1_000, 10_000], &[100]) {
        let (mut asking, mut plain) =
            (Asker::new(&world, n, true).await?, Asker::new(&world, n, false).await?);
        for sample in 0..bench.options.samples(if n < 10_000 { 300 } else { 50 }, 5) {
            let (first, second) =
                if sample % 2 == 0 { (&mut asking, &mut plain) } else { (&mut plain, &mut asking) };
            first.round(sample).await?;
            second.round(sample).await?;
        }
        for (step, what) in STEPS.iter().enumerate() {
            let [asking, plain] = [&asking, &plain].map(|asker| Stat::millis(&asker.times[step]));
            bench.note(Row::new("fences", BackendType::Consul, what, n, "ms", asking).against(plain));
        }
    }
    Ok(())
}

/// A raw client of Consul, and a service that it watches.
struct Asker {
    client: Consul,
    service: String,
    sight: Arc<Sight>,
    _watching: Box<dyn crate::client::Watching>,
    times: [Vec<Duration>; 3],
}

impl Asker {
    async fn new(world: &World, n: usize, careful: bool) -> Result<Self> {
        let client = Consul::connect(&world.address, HEART_BEAT, careful).await?;
        let service = format!("fences-{n}-{careful}");
        client.fill(&service, n, Layout::Discox).await?;
        let sight = Arc::new(Sight::default());
        let watching = client.watch(&service, sight.clone()).await?;
        Ok(Self { client, service, sight, _watching: watching, times: [const { Vec::new() }; 3] })
    }

    /// An endpoint comes, changes and goes.
    async fn round(&mut self, sample: usize) -> Result<()> {
        const ENDPOINT: &str = "10.255.255.1:9000";
        let [attr, other] = [0, 1].map(|step| fleet::attr(step, sample));
        let (coming, began) = (self.sight.of(ENDPOINT, Some(&attr)), Instant::now());
        let entry = self.client.register(&self.service, ENDPOINT, &attr).await?;
        self.times[0].push(coming.after(began).await?);
        let (coming, began) = (self.sight.of(ENDPOINT, Some(&other)), Instant::now());
        entry.update(&other).await?;
        self.times[1].push(coming.after(began).await?);
        let (coming, began) = (self.sight.of(ENDPOINT, None), Instant::now());
        entry.withdraw().await?;
        self.times[2].push(coming.after(began).await?);
        Ok(())
    }
}

/// Behind a comparison, in a transaction.
async fn etcd(address: &str, samples: usize) -> Result<[Vec<Duration>; 4]> {
    let mut kv = etcd_client::Client::connect([address], None).await?.kv_client();
    let behind = |change| Txn::new().when([Compare::version(KEY, CompareOp::Greater, 0)]).and_then([change]);
    let mut times = [const { Vec::new() }; 4];
    for sample in 0..samples {
        for way in 0..times.len() {
            kv.put(KEY, "", None).await?;
            let attr = fleet::attr(1, sample);
            let began = Instant::now();
            match WAYS[way] {
                Way::Put => drop(kv.put(KEY, attr, None).await?),
                Way::FencedPut => drop(kv.txn(behind(TxnOp::put(KEY, attr, None))).await?),
                Way::Delete => drop(kv.delete(KEY, None).await?),
                Way::FencedDelete => drop(kv.txn(behind(TxnOp::delete(KEY, None))).await?),
            }
            times[way].push(began.elapsed());
        }
    }
    Ok(times)
}

/// After a read of who owns the node, and behind the versions that it found.
async fn zookeeper(address: &str, samples: usize) -> Result<[Vec<Duration>; 4]> {
    let client = zookeeper::connect(address, HEART_BEAT).await?;
    client.create(DIRECTORY, b"", &CreateMode::Persistent.with_acls(Acls::anyone_all())).await?;
    let mut times = [const { Vec::new() }; 4];
    for sample in 0..samples {
        for way in 0..times.len() {
            let created =
                client.create(KEY, b"", &CreateMode::Ephemeral.with_acls(Acls::anyone_all())).await.map(drop);
            created.or_else(|error| if error == Error::NodeExists { Ok(()) } else { Err(error) })?;
            let attr = fleet::attr(1, sample);
            let began = Instant::now();
            match WAYS[way] {
                Way::Put => drop(client.set_data(KEY, attr.as_bytes(), None).await?),
                Way::FencedPut => fenced(&client, Some(&attr)).await?,
                Way::Delete => client.delete(KEY, None).await?,
                Way::FencedDelete => fenced(&client, None).await?,
            }
            times[way].push(began.elapsed());
        }
    }
    Ok(times)
}

/// Sets the node, or deletes it, if it is what a read has found.
async fn fenced(client: &zookeeper_client::Client, attr: Option<&str>) -> Result<()> {
    let mut reader = client.new_multi_reader();
    reader.add_get_data(DIRECTORY)?;
    reader.add_get_data(KEY)?;
    let mut versions = Vec::new();
    for result in reader.commit().await? {
        if let MultiReadResult::Data { stat, .. } = result {
            versions.push(stat.version);
        }
    }
    let [directory, node] = versions[..] else { return Err(Error::NoNode).context("no node to change") };
    let mut writer = client.new_multi_writer();
    writer.add_check_version(DIRECTORY, directory)?;
    match attr {
        Some(attr) => writer.add_set_data(KEY, attr.as_bytes(), Some(node))?,
        None => writer.add_delete(KEY, Some(node))?,
    }
    writer.commit().await?;
    Ok(())
}
