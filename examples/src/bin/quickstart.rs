//! The life of a service as those who use it see it: it registers, is discovered, changes, gets a
//! second instance, and both leave. On the embedded backend, so that nothing else has to run:
//!
//! ```sh
//! cargo run -p discox-examples --bin quickstart
//! ```

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use discox::{BackendType, Changes, DiscoverConfig, Entry, LiteEndpoint, Register, RegisterConfig, Snapshot};

#[tokio::main]
async fn main() -> Result<()> {
    println!("A registry lives inside this program; a client watches the service \"demo\" in it.");
    let discover = discox::new_discover(DiscoverConfig {
        backend_type: BackendType::Memory,
        service_name: "demo".into(),
        ..Default::default()
    })?;
    let endpoints = Arc::new(LiteEndpoint::new());
    let watching = tokio::spawn({
        let (discover, endpoints) = (discover.clone(), endpoints.clone());
        async move { discover.start(endpoints).await } // until stop()
    });
    endpoints.ready().await;
    let mut changes = endpoints.changes();
    show(&mut changes, |now| now.is_empty()).await?;

    println!("The service registers: 127.0.0.1:8111 with weight 1.");
    let first = instance("127.0.0.1:8111")?;
    first.start().await?;
    show(&mut changes, |now| now.len() == 1).await?;

    println!("It changes its attr in place: weight 2.");
    first.update_attr(r#"{"weight":2}"#).await?;
    show(&mut changes, |now| now.attr("127.0.0.1:8111").is_some_and(|attr| attr == r#"{"weight":2}"#))
        .await?;

    println!("A second instance joins: 127.0.0.1:8112.");
    let second = instance("127.0.0.1:8112")?;
    second.start().await?;
    show(&mut changes, |now| now.len() == 2).await?;

    println!("The first instance leaves.");
    first.stop().await?;
    show(&mut changes, |now| now.len() == 1).await?;

    println!("The second one leaves too.");
    second.stop().await?;
    show(&mut changes, |now| now.is_empty()).await?;

    discover.stop().await;
    watching.await??;
    println!("That is all. The same program runs on etcd, ZooKeeper and Consul by another `backend_type`.");
    Ok(())
}

fn instance(endpoint: &str) -> Result<Arc<dyn Register>> {
    Ok(discox::new_register(RegisterConfig {
        backend_type: BackendType::Memory,
        service_name: "demo".into(),
        service_endpoint: endpoint.into(),
        attr: r#"{"weight":1}"#.into(),
        ..Default::default()
    })?)
}

/// Waits until the client's cache is as wanted, and prints it.
async fn show(changes: &mut Changes, wanted: impl FnMut(&Snapshot) -> bool) -> Result<()> {
    let arrived = tokio::time::timeout(Duration::from_secs(5), changes.wait_for(wanted)).await;
    let now = arrived.context("the change did not arrive")?.context("the cache is gone")?;
    let text = |entry: &Entry| format!("{} {}", entry.endpoint(), String::from_utf8_lossy(entry.attr()));
    let mut shown: Vec<_> = now.iter().map(text).collect();
    shown.sort();
    println!("    the client sees: {}", if shown.is_empty() { "nobody".into() } else { shown.join(", ") });
    Ok(())
}
