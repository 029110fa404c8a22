//! What it costs to make sure that a record is still ours, as discox does before every change: the same change by the
//! raw client, plain and fenced. Consul has no such thing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use discox::BackendType;
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use zookeeper_client::{Acls, CreateMode, Error, MultiReadResult};

use crate::{
    bench::{Bench, World},
    fleet,
    raw::zookeeper,
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
            _ => continue,
        };
        let [put, fenced_put, delete, fenced_delete] = times.map(|times| Stat::millis(&times));
        for (what, plain, fenced) in [("a put", put, fenced_put), ("a deletion", delete, fenced_delete)] {
            bench.note(Row::new("fences", backend, what, 1, "ms", fenced).against(plain));
        }
    }
    Ok(())
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
    let client = zookeeper::connect(address).await?;
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
