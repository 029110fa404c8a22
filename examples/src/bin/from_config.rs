//! Everything from a TOML file, so that another registry is another file and not another program:
//!
//! ```sh
//! cargo run -p discox-examples --bin from_config
//! cargo run -p discox-examples --features consul --bin from_config -- examples/config/consul.toml
//! ```
//!
//! It registers, discovers itself, and ends.

use std::{fs, sync::Arc};

use anyhow::Context;
use discox::{DiscoverConfig, LiteEndpoint, RegisterConfig, RegistryConfig};
use serde::Deserialize;

const DEFAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/memory.toml");

/// The file: discox's own configuration types, with durations such as "5s".
#[derive(Deserialize)]
struct Config {
    registry: RegistryConfig,
    register: RegisterConfig,
    discover: DiscoverConfig,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| DEFAULT.into());
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let config: Config = toml::from_str(&text).with_context(|| path.clone())?;
    println!("the backend is {}", config.registry.backend_type);

    let registry = discox::connect(config.registry)?;
    let register = registry.register(config.register)?;
    register.start().await?;

    let discover = registry.discover(config.discover)?;
    let endpoints = Arc::new(LiteEndpoint::new());
    let watching = tokio::spawn({
        let (discover, endpoints) = (discover.clone(), endpoints.clone());
        async move { discover.start(endpoints).await } // until stop()
    });
    endpoints.ready().await;
    println!("discovered {:?}", endpoints.list());

    register.stop().await?;
    discover.stop().await;
    watching.await??;
    registry.close().await;
    println!("deregistered");
    Ok(())
}
