//! Registers an endpoint and keeps it registered until ctrl-C. The backend is chosen at run time:
//!
//! ```sh
//! cargo run -p discox-examples --bin register
//! cargo run -p discox-examples --features etcd --bin register -- etcd http://127.0.0.1:2379
//! cargo run -p discox-examples --features zookeeper --bin register -- zookeeper 127.0.0.1:2181
//! cargo run -p discox-examples --features consul --bin register -- consul http://127.0.0.1:8500
//! ```
//!
//! Without arguments it uses the embedded backend, which no other program can see.

use discox::{BackendType, RegisterConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let ctrl_c = tokio::spawn(tokio::signal::ctrl_c());
    let mut args = std::env::args().skip(1);
    let backend_type: BackendType = args.next().as_deref().unwrap_or("memory").parse()?;
    let config = RegisterConfig {
        backend_type,
        backend_endpoints: args.collect(),
        discover_prefix: "/discox/demo".into(),
        service_name: "demo".into(),
        service_endpoint: "127.0.0.1:8111".into(),
        attr: r#"{"weight":1}"#.into(),
        ..Default::default()
    };
    let register = discox::new_register(config)?; // checks the configuration, does no I/O
    register.start().await?; // Ok: the endpoint is in the registry, and stays there
    println!("registered 127.0.0.1:8111 on {backend_type}; ctrl-C ends it");

    ctrl_c.await??;
    let status = register.status();
    println!(
        "{:?} since {:?}, attempts that failed: {}",
        status.state,
        status.since.elapsed(),
        status.attempts
    );
    register.stop().await?; // gone from every watcher at once
    println!("deregistered");
    Ok(())
}
