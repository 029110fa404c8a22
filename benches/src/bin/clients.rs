//! What the client crates differ in: the figures of the README's table, measured on discox itself.
//!
//! ```console
//! $ cargo run --release -p discox-benches --features clients --bin clients
//! ```
//!
//! Wants the servers that `scripts/fetch-test-servers` fetches, and prints one table. Advisories are not
//! counted here: `cargo deny check advisories` does.

use std::{
    net::Ipv4Addr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use discox::{
    ClientCrate, ConnectionConfig, DiscoverConfig, LiteEndpoint, RegisterConfig, RegisterState, Registry,
    RegistryConfig,
};
use discox_benches::{
    bench::HEART_BEAT,
    client::PREFIX,
    raw::{self, Layout},
};
use discox_testkit::{
    proxy::Proxy,
    server::{Kind, Servers},
    wait::eventually,
};
use tokio::{io::AsyncReadExt, net::TcpListener, time::sleep};

const CLIENTS: [ClientCrate; 4] =
    [ClientCrate::ZookeeperClient, ClientCrate::ZookeeperAsync, ClientCrate::Reqwest, ClientCrate::Consulrs];

const SERVICE: &str = "clients";
const RECORDS: usize = 10_000;
const RUNS: usize = 5;
const STORM: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let mut rows: Vec<(&str, Vec<String>)> = [
        "connect and list, one of three members black-holed (worst)",
        "failover from a member that is killed (worst)",
        "failover from a member that is black-holed (worst)",
        "connections a second to a server that accepts and hangs up",
        "first list of 10,000",
        "packages in the tree",
    ]
    .map(|what| (what, Vec::new()))
    .into();
    for client in CLIENTS {
        // A runtime for each: nothing of the last one is left.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let figures = runtime.block_on(measure(client)).with_context(|| client.to_string())?;
        for (row, figure) in rows.iter_mut().zip(figures) {
            eprintln!("{client}: {}: {figure}", row.0);
            row.1.push(figure);
        }
    }
    println!("| | `{}` |", CLIENTS.map(ClientCrate::as_str).join("` | `"));
    println!("|---|{}", "---|".repeat(CLIENTS.len()));
    for (what, figures) in rows {
        println!("| {what} | {} |", figures.join(" | "));
    }
    Ok(())
}

async fn measure(client: ClientCrate) -> Result<[String; 6]> {
    let servers = Servers::cluster(kind(client)).await?;
    let black_holed = connects(&servers, client).await?;
    let killed = failover(&servers, client, Loss::Killed).await?;
    let held = failover(&servers, client, Loss::BlackHoled).await?;
    drop(servers);
    Ok([
        milliseconds(black_holed),
        milliseconds(killed),
        milliseconds(held),
        storm(client).await?,
        milliseconds(first_list(client).await?),
        packages(client)?,
    ])
}

/// The time to a first list, one of three members being silent, at worst.
async fn connects(servers: &Servers, client: ClientCrate) -> Result<Duration> {
    let doors = doors(servers).await?;
    doors[0].hold();
    let mut worst = Duration::ZERO;
    for _ in 0..3 * RUNS {
        let registry = registry(client, addresses(&doors))?;
        let (took, _endpoints) = list(&registry).await?;
        registry.close().await;
        worst = worst.max(took);
    }
    Ok(worst)
}

/// What happens to the member in use.
#[derive(Clone, Copy)]
enum Loss {
    /// It breaks its connections and refuses new ones.
    Killed,
    /// It swallows everything.
    BlackHoled,
}

/// From the loss of the member in use to a confirmed registration, at worst.
async fn failover(servers: &Servers, client: ClientCrate, loss: Loss) -> Result<Duration> {
    let mut worst = Duration::ZERO;
    for _ in 0..RUNS {
        let doors = doors(servers).await?;
        let registry = registry(client, addresses(&doors))?;
        let register = registry.register(record(0))?;
        register.start().await?;
        let used = doors.iter().find(|door| door.connections() > 0).context("connected to none")?;
        let lost = Instant::now();
        match loss {
            Loss::Killed => {
                used.refuse().await;
                used.reset_all();
            }
            Loss::BlackHoled => used.hold(),
        }
        let was_lost = async || register.status().state == RegisterState::Retrying;
        eventually(PATIENCE, "the loss", was_lost).await?;
        let is_back = async || register.status().state == RegisterState::Registered;
        eventually(PATIENCE, "the recovery", is_back).await?;
        worst = worst.max(lost.elapsed());
        register.stop().await?;
        registry.close().await;
    }
    Ok(worst)
}

/// How often a server without a quorum, say, is connected to, by one handle.
async fn storm(client: ClientCrate) -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (address, accepted) = (listener.local_addr()?.to_string(), Arc::new(AtomicUsize::new(0)));
    let counted = accepted.clone();
    let accepting = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            // The request, and then the end.
            let _ = stream.read(&mut [0; 64]).await;
        }
    });
    let registry = registry(client, vec![address])?;
    let register = registry.register(record(0))?;
    ensure!(register.start().await.is_err(), "such a server registers nothing");
    let before = accepted.load(Ordering::Relaxed);
    sleep(STORM).await;
    let connections = accepted.load(Ordering::Relaxed) - before;
    accepting.abort();
    Ok(format!("{:.1}", connections as f64 / STORM.as_secs_f64()))
}

/// The time to a first list of many records, the median.
async fn first_list(client: ClientCrate) -> Result<Duration> {
    let server = Servers::single(kind(client)).await?;
    let writer = raw::connect(client.backend(), &server.addresses()[0], HEART_BEAT).await?;
    writer.fill(SERVICE, RECORDS, Layout::Discox).await?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let reader = registry(client, server.addresses())?;
        let (took, endpoints) = list(&reader).await?;
        ensure!(endpoints.len() == RECORDS, "{} listed", endpoints.len());
        times.push(took);
        reader.close().await;
    }
    times.sort_unstable();
    Ok(times[RUNS / 2])
}

/// The packages that a program with this backend and client compiles, as `cargo tree` shows them.
fn packages(client: ClientCrate) -> Result<String> {
    let package = format!("discox-{}", client.backend());
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["tree", "-p", &package, "--no-default-features", "--features", client.as_str()]);
    command.args(["-e", "normal,build", "--prefix", "none", "--format", "{p}"]);
    let output = command.output().context("cargo tree")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut packages: Vec<_> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    packages.sort_unstable();
    packages.dedup();
    Ok(packages.len().to_string())
}

/// A proxy before each member.
async fn doors(servers: &Servers) -> Result<Vec<Proxy>> {
    let mut doors = Vec::new();
    for address in servers.addresses() {
        doors.push(Proxy::to(address).await?);
    }
    Ok(doors)
}

fn addresses(doors: &[Proxy]) -> Vec<String> {
    doors.iter().map(|door| door.address().to_owned()).collect()
}

fn kind(client: ClientCrate) -> Kind {
    if client.backend() == discox::BackendType::Consul { Kind::Consul } else { Kind::Zookeeper }
}

/// A handle with the default settings, but for the client crate.
fn registry(client: ClientCrate, backend_endpoints: Vec<String>) -> Result<Arc<dyn Registry>> {
    let mut connection = ConnectionConfig::default();
    match kind(client) {
        Kind::Consul => connection.consul.client = Some(client),
        _ => connection.zookeeper.client = Some(client),
    }
    Ok(discox::connect(RegistryConfig {
        backend_type: client.backend(),
        backend_endpoints,
        connection,
        ..Default::default()
    })?)
}

fn record(i: usize) -> RegisterConfig {
    RegisterConfig {
        discover_prefix: PREFIX.into(),
        service_name: SERVICE.into(),
        service_endpoint: format!("10.0.{}.{}:80", i / 256, i % 256),
        attr: r#"{"weight":1}"#.into(),
        ..Default::default()
    }
}

/// A first list, and the time to it.
async fn list(registry: &Arc<dyn Registry>) -> Result<(Duration, Arc<LiteEndpoint>)> {
    let discover = registry.discover(DiscoverConfig {
        discover_prefix: PREFIX.into(),
        service_name: SERVICE.into(),
        ..Default::default()
    })?;
    let (endpoints, began) = (Arc::new(LiteEndpoint::new()), Instant::now());
    tokio::spawn({
        let endpoints = endpoints.clone();
        async move { discover.start(endpoints).await }
    });
    endpoints.ready().await;
    Ok((began.elapsed(), endpoints))
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
