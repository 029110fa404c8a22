//! An `EndpointCacher` of one's own: it picks endpoints by the weight that is their attr. The backend is
//! chosen at run time, the embedded one by default:
//!
//! ```sh
//! cargo run -p discox-examples --bin own_cacher
//! cargo run -p discox-examples --features etcd --bin own_cacher -- etcd http://127.0.0.1:2379
//! ```

use std::collections::BTreeMap;
use std::iter::repeat_n;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use discox::{BackendType, DiscoverConfig, EndpointCacher, Error, Event, RegisterConfig, RegistryConfig};
use tokio::sync::Notify;

/// Endpoints with their weights. `LiteEndpoint` reads faster; this shows the principle.
#[derive(Default)]
struct WeightedPicker {
    weights: Mutex<BTreeMap<String, u8>>,
    told: Notify,
}

impl WeightedPicker {
    fn weights(&self) -> MutexGuard<'_, BTreeMap<String, u8>> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pick(&self) -> Option<String> {
        let weights = self.weights();
        let tickets = weights.iter().flat_map(|(endpoint, weight)| repeat_n(endpoint, (*weight).into()));
        fastrand::choice(tickets.collect::<Vec<_>>()).cloned()
    }
}

impl EndpointCacher for WeightedPicker {
    fn add_or_update(&self, endpoint: &str, attribute: &[u8]) {
        let weight = str::from_utf8(attribute).ok().and_then(|text| text.parse().ok());
        self.weights().insert(endpoint.into(), weight.unwrap_or(1));
    }

    fn delete(&self, endpoint: &str) {
        self.weights().remove(endpoint);
    }

    fn add_error(&self, error: &Error) {
        eprintln!("{error}");
    }

    fn on_event(&self, event: &Event) {
        if matches!(event, Event::Synced | Event::Ended) {
            self.told.notify_one(); // the whole list has been told, or will never be
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let backend_type: BackendType = args.next().as_deref().unwrap_or("memory").parse()?;
    let backend_endpoints = args.collect();
    let registry = discox::connect(RegistryConfig { backend_type, backend_endpoints, ..Default::default() })?;
    let service = || RegisterConfig { service_name: "shop".into(), ..Default::default() };
    let light = RegisterConfig { service_endpoint: "127.0.0.1:8111".into(), attr: "1".into(), ..service() };
    let heavy = RegisterConfig { service_endpoint: "127.0.0.1:8112".into(), attr: "3".into(), ..service() };
    let (light, heavy) = (registry.register(light)?, registry.register(heavy)?);
    tokio::try_join!(light.start(), heavy.start())?;

    let picker = Arc::new(WeightedPicker::default());
    let discover = registry.discover(DiscoverConfig { service_name: "shop".into(), ..Default::default() })?;
    let (discovering, fed) = (discover.clone(), picker.clone());
    tokio::spawn(async move { discovering.start(fed).await }); // until stop()
    picker.told.notified().await;
    let mut picked = BTreeMap::<_, u32>::new();
    (0..1000).filter_map(|_| picker.pick()).for_each(|endpoint| *picked.entry(endpoint).or_default() += 1);
    println!("of 1000 picks: {picked:?}");
    discover.stop().await;
    registry.close().await; // ends the registrations too
    Ok(())
}
