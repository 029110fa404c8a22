//! What it costs etcd to check that a record is still ours, as discox has it check before every change: the same
//! change by the raw client, plain and behind a comparison.

use std::time::{Duration, Instant};

use anyhow::Result;
use discox::BackendType;
use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp};

use crate::{
    bench::{Bench, World},
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

const KEY: &str = "/bench/fences/10.0.0.1:80";

/// Measures, and notes rows.
///
/// # Errors
/// It could not be run.
pub async fn run(bench: &mut Bench) -> Result<()> {
    if !bench.options.backends().contains(&BackendType::Etcd) {
        return Ok(());
    }
    let world = World::start(bench, BackendType::Etcd).await?;
    let client = Client::connect([&world.address], None).await?;
    let mut times = [const { Vec::new() }; 4];
    for sample in 0..bench.options.samples(300, 30) {
        for way in 0..times.len() {
            client.kv_client().put(KEY, "", None).await?;
            times[way].push(timed(&client, WAYS[way], sample).await?);
        }
    }
    let [put, fenced_put, delete, fenced_delete] = times.map(|times| Stat::millis(&times));
    for (what, plain, fenced) in [("a put", put, fenced_put), ("a deletion", delete, fenced_delete)] {
        bench.note(Row::new("fences", BackendType::Etcd, what, 1, "ms", fenced).against(plain));
    }
    Ok(())
}

async fn timed(client: &Client, way: Way, sample: usize) -> Result<Duration> {
    let (mut kv, attr) = (client.kv_client(), crate::fleet::attr(1, sample));
    let behind = |change| Txn::new().when([Compare::version(KEY, CompareOp::Greater, 0)]).and_then([change]);
    let began = Instant::now();
    match way {
        Way::Put => drop(kv.put(KEY, attr, None).await?),
        Way::FencedPut => drop(kv.txn(behind(TxnOp::put(KEY, attr, None))).await?),
        Way::Delete => drop(kv.delete(KEY, None).await?),
        Way::FencedDelete => drop(kv.txn(behind(TxnOp::delete(KEY, None))).await?),
    }
    Ok(began.elapsed())
}
