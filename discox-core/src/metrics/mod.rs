//! Numbers for a recorder of the facade crate [`metrics`](https://docs.rs/metrics), with the feature `metrics`. Without
//! the feature nothing is counted here and nothing is in the tree.
//!
//! Labels are the backend and the service, a state, a change, an operation or an outcome: never an endpoint. Install the
//! recorder before the first connection is made: then all metrics are described to it. A recorder that comes later
//! hears what happens from then on, and needs [`describe`] for the descriptions.

#[cfg(feature = "metrics")]
mod meters;
#[cfg(not(feature = "metrics"))]
mod silence;
mod table;

#[cfg(feature = "metrics")]
pub use self::meters::describe;
#[cfg(feature = "metrics")]
pub(crate) use self::meters::{ConnectionMeter, DiscoveryMeter, RegistrationMeter, request};
#[cfg(not(feature = "metrics"))]
pub(crate) use self::silence::{ConnectionMeter, DiscoveryMeter, RegistrationMeter, request};
pub use self::table::{METRICS, Metric, MetricKind};
