//! A gRPC service of three instances and a client: calls spread by weight, one instance is killed, another one leaves.
//! The embedded backend by default:
//!
//! ```sh
//! cargo run -p discox-examples --features tonic --bin tonic_shop
//! cargo run -p discox-examples --features tonic,etcd --bin tonic_shop -- etcd http://127.0.0.1:2379
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use discox::{
    BackendType, Register, RegisterConfig, Registry, RegistryConfig,
    http::{Leaving, Traffic, leave},
    tonic::Channel,
};
use tokio::{net::TcpListener, runtime::Runtime, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Made by `build.rs`.
#[allow(missing_docs, unreachable_pub)]
mod shop {
    tonic::include_proto!("shop.Orders");
}
use shop::{
    orders_client::OrdersClient,
    orders_server::{Orders, OrdersServer},
};

/// What a call asks for.
#[derive(Clone, PartialEq, prost::Message)]
struct GetOrder {
    #[prost(uint64, tag = "1")]
    id: u64,
}

/// And what is answered.
#[derive(Clone, PartialEq, prost::Message)]
struct Order {
    #[prost(string, tag = "1")]
    served_by: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let backend_type: BackendType = args.next().as_deref().unwrap_or("memory").parse()?;
    let backend_endpoints = args.collect();
    let registry = discox::connect(RegistryConfig { backend_type, backend_endpoints, ..Default::default() })?;

    let mut instances = Vec::new();
    for weight in 1..=3 {
        instances.push(Instance::start(&registry, weight).await?);
    }

    // These three lines are all that a client needs.
    let orders = registry.watch("orders")?;
    let channel = Channel::new(&orders);
    let client = OrdersClient::new(channel.clone());

    timeout(Duration::from_secs(5), channel.ready(3)).await?;
    println!("weights 1, 2 and 3: {}", calls(&client).await);

    instances.remove(0).kill();
    println!("the first is killed: {}", calls(&client).await);

    let leaves = instances.remove(0);
    let (left, calls) = tokio::join!(leaves.leave(), calls(&client));
    left?;
    println!("the second leaves: {calls}");

    for instance in instances {
        instance.leave().await?;
    }
    registry.close().await;
    Ok(())
}

/// Who has answered 600 calls, and how many have failed.
async fn calls(client: &OrdersClient<Channel>) -> String {
    let mut answered = BTreeMap::<String, u32>::new();
    let mut failed = 0;
    for id in 0..600 {
        match client.clone().get(GetOrder { id }).await {
            Ok(order) => *answered.entry(order.into_inner().served_by).or_default() += 1,
            Err(_) => failed += 1,
        }
    }
    format!("{answered:?}, {failed} failed")
}

/// One instance of the service, on a runtime of its own so that it can be killed.
struct Instance {
    runtime: Runtime,
    register: Arc<dyn Register>,
    traffic: Traffic,
}

impl Instance {
    async fn start(registry: &Arc<dyn Registry>, weight: u32) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?.into_std()?;
        let endpoint = listener.local_addr()?.to_string();
        let (runtime, traffic) = (Runtime::new()?, Traffic::new());
        let service = OrdersServer::new(Answers { name: format!("weight {weight}") });
        let server = Server::builder().layer(traffic.clone()).add_service(service);
        runtime.spawn(async move {
            let listener = TcpListenerStream::new(TcpListener::from_std(listener)?);
            anyhow::Ok(server.serve_with_incoming(listener).await?)
        });
        let register = registry.register(RegisterConfig {
            service_name: "orders".into(),
            service_endpoint: endpoint,
            attr: format!(r#"{{"weight":{weight}}}"#),
            ..Default::default()
        })?;
        register.start().await?; // once it listens
        Ok(Self { runtime, register, traffic })
    }

    /// Out of service first, and ended when no call is under way any more.
    async fn leave(self) -> anyhow::Result<()> {
        let left = leave(&*self.register, &self.traffic, Leaving::default()).await;
        println!("    {} calls came late, {} were under way at the end", left.late, left.in_flight);
        self.runtime.shutdown_background();
        Ok(left.error.map_or(Ok(()), Err)?)
    }

    /// As `kill -9` does: nobody tells the registry, and the record is there until its TTL has passed.
    fn kill(self) {
        self.runtime.shutdown_background();
        // In a process of its own, it would be gone with it.
        std::mem::forget(self.register);
    }
}

struct Answers {
    name: String,
}

#[tonic::async_trait]
impl Orders for Answers {
    async fn get(&self, _: Request<GetOrder>) -> Result<Response<Order>, Status> {
        Ok(Response::new(Order { served_by: self.name.clone() }))
    }
}
