//! An axum service that is registered while it serves and leaves before it ends, and a client that calls it by its name.
//! The embedded backend by default:
//!
//! ```sh
//! cargo run -p discox-examples --features http --bin http_shop
//! cargo run -p discox-examples --features http,consul --bin http_shop -- consul http://127.0.0.1:8500
//! ```

use axum::{Router, extract::Path, routing::get};
use bytes::Bytes;
use discox::{
    BackendType, RegisterConfig, RegistryConfig, Watching,
    http::{Channel, Leaving, Traffic, serve, terminated},
};
use http_body_util::{BodyExt, Empty};
use tokio::{net::TcpListener, sync::oneshot};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let backend_type: BackendType = args.next().as_deref().unwrap_or("memory").parse()?;
    let backend_endpoints = args.collect();
    let registry = discox::connect(RegistryConfig { backend_type, backend_endpoints, ..Default::default() })?;

    // The service: what it is called, what counts as traffic, and how it ends.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let register = registry.register(RegisterConfig {
        service_name: "orders".into(),
        service_endpoint: listener.local_addr()?.to_string(),
        ..Default::default()
    })?;
    let traffic = Traffic::ignoring(&["/healthz"]);
    let app = Router::new()
        .route("/orders/{id}", get(async |Path(id): Path<u64>| format!("order {id}")))
        .route("/healthz", get(async || "well"))
        .layer(traffic.clone());
    let (enough, had_enough) = oneshot::channel::<()>();
    let shutdown = async {
        tokio::select! {
            () = terminated() => {} // ctrl-C or SIGTERM
            _ = had_enough => {}
        }
    };
    let service = tokio::spawn(serve(register, traffic, Leaving::default(), shutdown, |shutdown| {
        axum::serve(listener, app).with_graceful_shutdown(shutdown)
    }));

    call(&registry.watch("orders")?).await?;
    drop(enough);
    let left = service.await??;
    println!("the service has left: {} requests came late", left.late);
    registry.close().await;
    Ok(())
}

/// The client: it need not know where the service is, nor wait until it is there.
async fn call(orders: &Watching) -> anyhow::Result<()> {
    orders.wait_for(1).await;
    let channel = Channel::new(orders);
    for id in 1..=3 {
        let request = http::Request::get(format!("/orders/{id}")).body(Empty::<Bytes>::new())?;
        let answer = channel.send(request).await?;
        let (status, body) = (answer.status(), answer.into_body().collect().await?.to_bytes());
        println!("{status}: {}", String::from_utf8_lossy(&body));
    }
    println!("{:?}", channel.status());
    Ok(())
}
