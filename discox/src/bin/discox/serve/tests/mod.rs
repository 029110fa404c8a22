//! The server on the embedded backend.

mod client;
mod many;
mod openapi;
mod reading;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use discox::{
    BackendType, RegistryConfig, Secret,
    memory::{Store, store},
};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep},
};

use self::client::{Answer, get};
use super::{Settings, Shared, connections};

const TOKEN: &str = "a-token-of-the-tests";

/// A running server on a store of its own.
struct Server {
    address: SocketAddr,
    store: Store,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        Self::with(None, |_| {}).await
    }

    async fn with(token: Option<Secret>, prepare: impl FnOnce(&mut Shared)) -> Self {
        let name = format!("serve-{:016x}", fastrand_like());
        let store = store(&name);
        let registry = RegistryConfig {
            backend_type: BackendType::Memory,
            backend_endpoints: vec![format!("memory://{name}")],
            ..RegistryConfig::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Settings { listen: address, token, registry: registry.clone() };
        let mut shared = Shared::new(discox::connect(registry).unwrap(), &settings).unwrap();
        prepare(&mut shared);
        let shared = Arc::new(shared);
        let task = tokio::spawn({
            let shared = shared.clone();
            async move { connections::serve(listener, &shared).await }
        });
        Self { address, store, shared, task }
    }

    fn put(&self, service: &str, endpoint: &str, attr: &str) {
        self.store.put("", service, endpoint, attr.to_owned()).unwrap();
    }

    async fn get(&self, path: &str) -> Answer {
        get(self.address, path, &[]).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A number that no other test has.
fn fastrand_like() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what} did not happen");
        sleep(Duration::from_millis(5)).await;
    }
}
