//! Many services over one connection: `connect` gives a registry handle, and everything that is made
//! from it shares its connection, session or leases. The embedded backend by default:
//!
//! ```sh
//! cargo run -p discox-examples --bin many_services
//! cargo run -p discox-examples --features etcd --bin many_services -- etcd http://127.0.0.1:2379
//! ```

use std::sync::Arc;

use discox::{BackendType, DiscoverConfig, LiteEndpoint, RegisterConfig, RegistryConfig};

const SERVICES: [&str; 3] = ["orders", "payments", "users"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let backend_type: BackendType = args.next().as_deref().unwrap_or("memory").parse()?;
    let backend_endpoints = args.collect();
    let registry = discox::connect(RegistryConfig { backend_type, backend_endpoints, ..Default::default() })?;

    // This process offers every service on two ports of its own …
    let mut registered = Vec::new();
    for (number, service) in (0..).zip(SERVICES) {
        for port in [8000 + number, 9000 + number] {
            let register = registry.register(RegisterConfig {
                discover_prefix: "/discox/shop".into(),
                service_name: service.into(),
                service_endpoint: format!("127.0.0.1:{port}"),
                ..Default::default()
            })?;
            register.start().await?;
            registered.push(register);
        }
    }

    // … and discovers all of them.
    for service in SERVICES {
        let discover = registry.discover(DiscoverConfig {
            discover_prefix: "/discox/shop".into(),
            service_name: service.into(),
            ..Default::default()
        })?;
        let endpoints = Arc::new(LiteEndpoint::new());
        let watching = tokio::spawn({
            let (discover, endpoints) = (discover.clone(), endpoints.clone());
            async move { discover.start(endpoints).await } // until stop()
        });
        endpoints.ready().await;
        println!("{service}: {:?}", endpoints.list());
        discover.stop().await;
        watching.await??;
    }

    for register in registered {
        register.stop().await?;
    }
    registry.close().await; // ends the session or leases as well
    println!("{} services over one connection", SERVICES.len());
    Ok(())
}
