//! Discovers a service and prints its endpoints whenever they change, until ctrl-C. The backend is
//! chosen at run time:
//!
//! ```sh
//! cargo run -p discox-examples --bin discover
//! cargo run -p discox-examples --features etcd --bin discover -- etcd http://127.0.0.1:2379
//! cargo run -p discox-examples --features zookeeper --bin discover -- zookeeper 127.0.0.1:2181
//! cargo run -p discox-examples --features consul --bin discover -- consul http://127.0.0.1:8500
//! ```
//!
//! Start `register` beside it. Without arguments it uses the embedded backend, and registers something
//! to be discovered itself.

use std::sync::Arc;

use discox::{BackendType, DiscoverConfig, LiteEndpoint, Register, RegisterConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut ctrl_c = tokio::spawn(tokio::signal::ctrl_c());
    let mut args = std::env::args().skip(1);
    let backend_type: BackendType = args.next().as_deref().unwrap_or("memory").parse()?;
    let config = DiscoverConfig {
        backend_type,
        backend_endpoints: args.collect(),
        discover_prefix: "/discox/demo".into(),
        service_name: "demo".into(),
        ..Default::default()
    };
    let discover = discox::new_discover(config)?;
    let endpoints = Arc::new(LiteEndpoint::new());
    let watching = tokio::spawn({
        let (discover, endpoints) = (discover.clone(), endpoints.clone());
        async move { discover.start(endpoints).await } // until stop()
    });
    let _company = if backend_type == BackendType::Memory { Some(register_something().await?) } else { None };

    endpoints.ready().await; // the first full list has been applied
    let mut changes = endpoints.changes();
    loop {
        tokio::select! {
            Some(now) = changes.next() => println!("{} endpoints: {:?}", now.len(), now.endpoints()),
            pressed = &mut ctrl_c => break pressed??,
        }
    }
    discover.stop().await;
    watching.await??;
    println!("the last known endpoints stay: {:?}", endpoints.list());
    Ok(())
}

async fn register_something() -> anyhow::Result<Arc<dyn Register>> {
    let register = discox::new_register(RegisterConfig {
        backend_type: BackendType::Memory,
        discover_prefix: "/discox/demo".into(),
        service_name: "demo".into(),
        service_endpoint: "127.0.0.1:8111".into(),
        ..Default::default()
    })?;
    register.start().await?;
    Ok(register)
}
