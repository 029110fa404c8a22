//! A round of calls over one channel.

use std::time::{Duration, Instant};

use anyhow::Result;
use discox_benches::{clock::process_cpu, memory::allocations, stats::Stat};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tonic::{
    body::Body,
    codegen::{Service, http},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// What one round has seen.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) per_second: f64,
    /// CPU time of this process a call, in microseconds.
    pub(crate) cpu: f64,
    /// Of the time that a call takes, in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Allocations a call.
    pub(crate) allocations: f64,
}

/// Calls by so many at once, on this thread, each followed by the next.
pub(crate) async fn load<C>(channel: C, in_flight: usize, round: Duration) -> Result<Round>
where
    C: Service<http::Request<Body>, Response = http::Response<Body>> + Clone,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let client = HealthClient::new(channel);
    let call = async || {
        let (mut client, began) = (client.clone(), Instant::now());
        client.check(HealthCheckRequest::default()).await.map(|_| began.elapsed())
    };
    // What is not there yet is made.
    for _ in 0..100 {
        call().await?;
    }
    let mut calling = FuturesUnordered::new();
    for _ in 0..in_flight {
        calling.push(call());
    }
    let mut times = Vec::with_capacity(1 << 18);
    let (began, cpu, allocated) = (Instant::now(), process_cpu(), allocations());
    while let Some(answered) = calling.next().await {
        times.push(answered?.as_secs_f64() * 1e6);
        if began.elapsed() < round {
            calling.push(call());
        }
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), (process_cpu() - cpu).as_secs_f64());
    let (count, allocated) = (times.len() as f64, (allocations() - allocated) as f64);
    let stat = Stat::of(times);
    Ok(Round {
        per_second: count / took,
        cpu: cpu * 1e6 / count,
        p50: stat.median,
        p99: stat.p99,
        allocations: allocated / count,
    })
}

/// The median of one figure of some rounds.
pub(crate) fn median(rounds: &[Round], figure: fn(&Round) -> f64) -> f64 {
    Stat::of(rounds.iter().map(figure).collect()).median
}
