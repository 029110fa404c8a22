//! Picks an endpoint for each request of a client that connects by itself: here reqwest, and so it is for a database or
//! a cache. The embedded backend by default:
//!
//! ```sh
//! cargo run -p discox-examples --features http --bin pick
//! ```

use std::collections::BTreeMap;

use axum::Router;
use discox::{
    BackendType, RegisterConfig, RegistryConfig,
    balance::{Options, Picker, Policy},
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let backend_type: BackendType = args.next().as_deref().unwrap_or("memory").parse()?;
    let backend_endpoints = args.collect();
    let registry = discox::connect(RegistryConfig { backend_type, backend_endpoints, ..Default::default() })?;

    let mut registrations = Vec::new();
    for weight in 1..=2 {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let register = registry.register(RegisterConfig {
            service_name: "stock".into(),
            service_endpoint: listener.local_addr()?.to_string(),
            attr: format!(r#"{{"weight":{weight}}}"#),
            ..Default::default()
        })?;
        let app = Router::new().fallback(async move || format!("weight {weight}"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        register.start().await?;
        registrations.push(register);
    }

    let stock = registry.watch("stock")?;
    stock.wait_for(2).await;
    let picker = Picker::new(&stock, Options::default().policy(Policy::RoundRobin));
    let client = reqwest::Client::new(); // it keeps connections to each endpoint
    let mut answered = BTreeMap::<String, u32>::new();
    for _ in 0..300 {
        let pick = picker.wait().await?; // counts as in flight until it is dropped
        match client.get(format!("http://{}/", pick.endpoint())).send().await {
            Ok(answer) => {
                pick.success();
                *answered.entry(answer.text().await?).or_default() += 1;
            }
            // Five in a row eject the endpoint for a while.
            Err(_) => pick.failure(),
        }
    }
    println!("{answered:?}");

    for register in registrations {
        register.stop().await?;
    }
    registry.close().await;
    Ok(())
}
