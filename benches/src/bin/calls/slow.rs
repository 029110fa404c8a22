//! One server that is ten times slower than the others.

use std::time::Duration;

use anyhow::Result;
use discox::balance::{Options, Policy};
use discox_testkit::grpc::{Orders, Pace};

use crate::{
    load::{Round, load, median},
    sides::{balanced, plain},
};

const ROUNDS: usize = 5;
const SERVERS: usize = 5;
const IN_FLIGHT: usize = 64;

/// What a server works on at once.
const AT_ONCE: usize = 8;
const FAST: Duration = Duration::from_millis(2);
const SLOW: Duration = Duration::from_millis(20);

pub(crate) fn slow(round: Duration) -> Result<()> {
    println!("| side | calls/s | p50, ms | p99, ms |\n|---|--:|--:|--:|");
    let start = |i| {
        let takes = if i == 0 { SLOW } else { FAST };
        Orders::start_at("127.0.0.1:0", Pace::new(takes, AT_ONCE))
    };
    let servers: Vec<_> = (0..SERVERS).map(start).collect::<Result<_>>()?;
    let endpoints: Vec<_> = servers.iter().map(|server| server.endpoint().to_owned()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let list = runtime.block_on(plain(&endpoints))?;
    let by = |policy| runtime.block_on(balanced(&endpoints, Options::default().policy(policy)));
    let (least, turns) = (by(Policy::LeastRequest), by(Policy::RoundRobin));
    let mut seen: [Vec<Round>; 3] = Default::default();
    for _ in 0..ROUNDS {
        seen[0].push(runtime.block_on(load(list.clone(), IN_FLIGHT, round))?);
        seen[1].push(runtime.block_on(load(turns.clone(), IN_FLIGHT, round))?);
        seen[2].push(runtime.block_on(load(least.clone(), IN_FLIGHT, round))?);
    }
    for (side, rounds) in ["`balance_list`", "`RoundRobin`", "`LeastRequest`"].iter().zip(&seen) {
        let (rate, p50, p99) =
            (median(rounds, |r| r.per_second), median(rounds, |r| r.p50), median(rounds, |r| r.p99));
        println!("| {side} | {rate:.0} | {:.1} | {:.1} |", p50 / 1e3, p99 / 1e3);
    }
    Ok(())
}
