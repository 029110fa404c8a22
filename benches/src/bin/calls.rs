//! What a balanced call costs, beside tonic's own channels, and what a pick costs.
//!
//! ```console
//! $ cargo run --release -p discox-benches --features calls --bin calls
//! ```
//!
//! Prints two tables. The servers are another process on the same machine; the client has one thread, and the sides take
//! turns. With an argument, each round takes so many milliseconds instead of two seconds.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use discox::{
    EndpointCacher, Event, LiteEndpoint,
    balance::{Options, Picker, Policy},
    tonic::Channel,
};
use discox_benches::clock::process_cpu;
use discox_testkit::grpc::Orders;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tonic::{
    body::Body,
    codegen::{Service, http},
    transport,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const ROUNDS: usize = 5;
const ENDPOINTS: [usize; 2] = [3, 100];
const IN_FLIGHT: [usize; 3] = [1, 64, 1024];
const PICKS: u32 = 2_000_000;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    if first.as_deref() == Some("serve") {
        return serve(args.next().context("how many?")?.parse()?);
    }
    let round = Duration::from_millis(first.map_or(Ok(2_000), |millis| millis.parse())?);
    calls(round)?;
    picks()
}

/// The servers' process: prints their endpoints, and ends with its input.
fn serve(count: usize) -> Result<()> {
    let servers: Vec<_> = (0..count).map(|_| Orders::start()).collect::<Result<_>>()?;
    let mut output = std::io::stdout().lock();
    for server in &servers {
        writeln!(output, "{}", server.endpoint())?;
    }
    output.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

struct Servers {
    child: Child,
    endpoints: Vec<String>,
}

impl Servers {
    fn start(count: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", &count.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let endpoints = lines.take(count).collect::<Result<_, _>>()?;
        Ok(Self { child, endpoints })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one round has seen.
#[derive(Clone, Copy)]
struct Round {
    per_second: f64,
    cpu: f64,
    p50: f64,
}

fn calls(round: Duration) -> Result<()> {
    println!(
        "| endpoints | in flight | side | calls/s | client CPU a call, us | p50, us |\n|--:|--:|---|--:|--:|--:|"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for endpoints in ENDPOINTS {
        let servers = Servers::start(endpoints)?;
        let one = runtime.block_on(plain(&servers.endpoints[..1]))?;
        let list = runtime.block_on(plain(&servers.endpoints))?;
        let discox = runtime.block_on(balanced(&servers.endpoints));
        for in_flight in IN_FLIGHT {
            let mut seen: [Vec<Round>; 3] = Default::default();
            for _ in 0..ROUNDS {
                seen[0].push(runtime.block_on(load(one.clone(), in_flight, round))?);
                seen[1].push(runtime.block_on(load(list.clone(), in_flight, round))?);
                seen[2].push(runtime.block_on(load(discox.clone(), in_flight, round))?);
            }
            for (side, rounds) in ["one plain channel", "`balance_list`", "discox"].iter().zip(&seen) {
                let of = |what: fn(&Round) -> f64| median(rounds.iter().map(what).collect());
                let (rate, cpu, p50) = (of(|r| r.per_second), of(|r| r.cpu), of(|r| r.p50));
                println!("| {endpoints} | {in_flight} | {side} | {rate:.0} | {cpu:.1} | {p50:.0} |");
            }
        }
    }
    Ok(())
}

/// tonic's own: one endpoint is a plain channel, more are `balance_list`.
async fn plain(endpoints: &[String]) -> Result<transport::Channel> {
    let parse = |endpoint: &String| transport::Endpoint::from_shared(format!("http://{endpoint}"));
    let mut endpoints: Vec<_> = endpoints.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(match (endpoints.pop(), endpoints.is_empty()) {
        (Some(only), true) => only.connect().await?,
        (last, _) => transport::Channel::balance_list(endpoints.into_iter().chain(last)),
    })
}

async fn balanced(endpoints: &[String]) -> Channel {
    let channel = Channel::new(cache(endpoints.iter().map(String::as_str)));
    channel.ready(endpoints.len()).await;
    channel
}

fn cache<'a>(endpoints: impl IntoIterator<Item = &'a str>) -> Arc<LiteEndpoint> {
    let cache = Arc::new(LiteEndpoint::new());
    for endpoint in endpoints {
        cache.add_or_update(endpoint, b"");
    }
    cache.on_event(&Event::Synced);
    cache
}

async fn load<C>(channel: C, in_flight: usize, round: Duration) -> Result<Round>
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
    let (began, cpu, mut times) = (Instant::now(), process_cpu(), Vec::new());
    while let Some(answered) = calling.next().await {
        times.push(answered?.as_secs_f64() * 1e6);
        if began.elapsed() < round {
            calling.push(call());
        }
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), (process_cpu() - cpu).as_secs_f64());
    let count = times.len() as f64;
    Ok(Round { per_second: count / took, cpu: cpu * 1e6 / count, p50: median(times) })
}

fn picks() -> Result<()> {
    println!("\n| policy | ready | a pick, ns | with two threads, ns |\n|---|--:|--:|--:|");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _entered = runtime.enter();
    for policy in [Policy::LeastRequest, Policy::RoundRobin, Policy::Random] {
        for ready in [10, 1_000, 10_000] {
            let names: Vec<_> = (0..ready).map(|i| format!("10.0.{}.{}:80", i / 250, i % 250 + 1)).collect();
            let endpoints = cache(names.iter().map(String::as_str));
            let picker = Picker::new(&endpoints, Options::default().policy(policy));
            runtime.block_on(picker.ready(ready));
            let alone = median((0..ROUNDS).map(|_| time_picks(&picker)).collect());
            let both = median(
                (0..ROUNDS)
                    .map(|_| {
                        std::thread::scope(|scope| {
                            let other = scope.spawn(|| time_picks(&picker));
                            time_picks(&picker).max(other.join().unwrap_or(f64::NAN))
                        })
                    })
                    .collect(),
            );
            println!("| {policy:?} | {ready} | {alone:.1} | {both:.1} |");
        }
    }
    Ok(())
}

fn time_picks(picker: &Picker) -> f64 {
    let began = Instant::now();
    for _ in 0..PICKS {
        std::hint::black_box(picker.pick());
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(PICKS)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}
