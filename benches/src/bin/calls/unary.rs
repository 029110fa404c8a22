//! Unary calls: by how many at once, to how many endpoints.

use std::time::Duration;

use anyhow::Result;
use discox::balance::Options;
use discox_testkit::grpc::Served;

use crate::{
    load::{Round, load, median},
    sides::{balanced, plain},
};

const ROUNDS: usize = 7;
const ENDPOINTS: [usize; 2] = [3, 100];
const IN_FLIGHT: [usize; 3] = [1, 64, 1024];

pub(crate) fn calls(round: Duration) -> Result<()> {
    println!(
        "| endpoints | in flight | side | calls/s | client CPU a call, us | p50, us | allocations a call |"
    );
    println!("|--:|--:|---|--:|--:|--:|--:|");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for endpoints in ENDPOINTS {
        let servers = Served::start(endpoints)?;
        let one = runtime.block_on(plain(&servers.endpoints()[..1]))?;
        let list = runtime.block_on(plain(servers.endpoints()))?;
        let discox = runtime.block_on(balanced(servers.endpoints(), Options::default()));
        for in_flight in IN_FLIGHT {
            let mut seen: [Vec<Round>; 3] = Default::default();
            for _ in 0..ROUNDS {
                seen[0].push(runtime.block_on(load(one.clone(), in_flight, round))?);
                seen[1].push(runtime.block_on(load(list.clone(), in_flight, round))?);
                seen[2].push(runtime.block_on(load(discox.clone(), in_flight, round))?);
            }
            for (side, rounds) in ["one plain channel", "`balance_list`", "discox"].iter().zip(&seen) {
                let (rate, cpu) = (median(rounds, |r| r.per_second), median(rounds, |r| r.cpu));
                let (p50, allocations) = (median(rounds, |r| r.p50), median(rounds, |r| r.allocations));
                println!(
                    "| {endpoints} | {in_flight} | {side} | {rate:.0} | {cpu:.1} | {p50:.0} | {allocations:.1} |"
                );
            }
        }
    }
    Ok(())
}
