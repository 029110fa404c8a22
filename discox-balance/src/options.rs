//! How to choose, and how long to wait for it.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use discox_core::Entry;

type Filter = Arc<dyn Fn(&Entry) -> bool + Send + Sync>;
type Weigh = Arc<dyn Fn(&Entry) -> f64 + Send + Sync>;

/// How one of several ready endpoints is chosen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Policy {
    /// Two are drawn at random, by weight; the one with fewer requests in flight for its weight is
    /// picked. The default: a slow server gets fewer requests.
    #[default]
    LeastRequest,
    /// In turn, each as often as its weight says (the static stride of gRFC A58).
    RoundRobin,
    /// At random, by weight.
    Random,
    /// By the key of the request (weighted rendezvous): the same key goes to the same endpoint while it
    /// is ready, and an endpoint that comes or goes moves only its share of the keys. A pick looks at
    /// every ready endpoint. Without a key as [`Policy::Random`].
    Hash,
}

/// How a balancer chooses and connects. Every setting has a default.
///
/// ```
/// use std::time::Duration;
/// use discox_balance::{Options, Policy};
///
/// let options = Options::default()
///     .policy(Policy::RoundRobin)
///     .filter(|entry| !entry.attr().starts_with(b"canary"))
///     .wait(Duration::from_millis(500));
/// assert!(format!("{options:?}").contains("RoundRobin"));
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) policy: Policy,
    pub(crate) filter: Option<Filter>,
    pub(crate) weigh: Option<Weigh>,
    pub(crate) zone: Option<Arc<str>>,
    pub(crate) zone_full: Option<u32>,
    pub(crate) subset: Option<NonZeroUsize>,
    pub(crate) seed: u64,
    pub(crate) wait: Duration,
    pub(crate) wait_for_ready: bool,
    pub(crate) drain: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) eject_after: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            policy: Policy::default(),
            filter: None,
            weigh: None,
            zone: None,
            zone_full: None,
            subset: None,
            seed: fastrand::u64(..),
            wait: Duration::from_secs(5),
            wait_for_ready: false,
            drain: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            // The first retry comes before a request has waited for long; the last ones do not hammer.
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
            eject_after: 5,
        }
    }
}

impl Options {
    /// The service's name, for errors. By default that of the discovery.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How an endpoint is chosen.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Which endpoints are used at all. Asked once for every change of an endpoint.
    pub fn filter(mut self, filter: impl Fn(&Entry) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// The weight of an endpoint, instead of the member `weight` of its attr. Asked once for every
    /// change of an endpoint. 0 means no new picks, unless all are 0; what is no weight is 1.
    pub fn weight(mut self, weigh: impl Fn(&Entry) -> f64 + Send + Sync + 'static) -> Self {
        self.weigh = Some(Arc::new(weigh));
        self
    }

    /// Our own zone: its endpoints (by the member `zone` of the attr) are picked first. While less than
    /// five sevenths of the zone's weight are ready, picks go to other zones in proportion to what
    /// is missing.
    pub fn zone(mut self, zone: &str) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// With [`Options::zone`]: from this many requests in flight per weight of 1 on, an endpoint of our
    /// own zone is full, and a pick goes to another zone that is less loaded. No limit by default.
    pub fn zone_full(mut self, requests: u32) -> Self {
        self.zone_full = Some(requests);
        self
    }

    /// Use only so many endpoints, chosen by this process at random (gRFC A68): one that comes or goes
    /// changes at most one of them. 0 means all.
    pub fn subset(mut self, size: usize) -> Self {
        self.subset = NonZeroUsize::new(size);
        self
    }

    /// What the subset is chosen by, for a process that wants the same one after a restart.
    pub fn subset_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How long a request waits for the first list and the first connections. 5 s by default; 0 is
    /// possible.
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = limit;
        self
    }

    /// Requests wait also while there is no endpoint or while every endpoint refuses, up to their
    /// deadline, or [`Options::wait`] if they have none. False by default, as in gRPC.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = wait;
        self
    }

    /// How long requests in flight may go on after their endpoint was removed. 30 s by default.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// How long one attempt to connect may take. 5 s by default.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// The shortest and the longest pause between attempts to connect, which double, with full jitter.
    /// 100 ms and 10 s by default.
    pub fn backoff(mut self, shortest: Duration, longest: Duration) -> Self {
        self.backoff = (shortest, longest.max(shortest));
        self
    }

    /// How many failures in a row eject an endpoint, for 1 s, doubling to 30 s. 5 by default; 0 means
    /// that none is ejected.
    pub fn eject_after(mut self, failures: u32) -> Self {
        self.eject_after = failures;
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("policy", &self.policy)
            .field("zone", &self.zone)
            .field("subset", &self.subset)
            .field("wait", &self.wait)
            .field("wait_for_ready", &self.wait_for_ready)
            .field("drain", &self.drain)
            .field("connect_timeout", &self.connect_timeout)
            .field("backoff", &self.backoff)
            .field("eject_after", &self.eject_after)
            .finish_non_exhaustive()
    }
}
