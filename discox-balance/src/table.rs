//! What the manager publishes and picks read.

use std::sync::Arc;

use discox_core::Snapshot;

use crate::{
    Connection, Policy, attr::UNIT, hash::score, ready::Ready, set::Set, shared::Turns, status::Census,
};

/// Above this share of a zone's weight all of its picks stay in it: 1 / 1.4, the spare room that
/// Envoy's zone-aware routing reckons with.
const SPARE: f64 = 1.4;

/// How often the stride passes over light endpoints before the weights are drawn instead.
const STRIDES: u32 = 64;

type Ranks<C> = Set<Arc<Ready<C>>>;

/// The endpoints that are ready, as of one list of the cache.
pub(crate) struct Table<C> {
    /// Those of our own zone; all, when zones do not matter.
    pub(crate) near: Ranks<C>,
    /// Those of other zones.
    pub(crate) far: Ranks<C>,
    /// Which share of the picks stays near.
    pub(crate) near_share: f64,
    /// Connections that take no more requests, and have some in flight.
    pub(crate) draining: Vec<Arc<Ready<C>>>,
    /// The list that this table is made of.
    pub(crate) source: Arc<Snapshot>,
    pub(crate) phase: Phase,
    pub(crate) census: Census,
}

/// Why a table is as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The first list has not come yet. Left by the first list, or by the end of the discovery.
    Undiscovered,
    /// The discovery ended before its first list. Not left.
    Ended,
    /// The list is empty. Left when an endpoint is registered.
    Empty,
    /// Nothing that is registered may be used: filtered, or no valid target.
    Unusable { registered: usize },
    /// No connection is ready, and not every endpoint has been tried; why attempts have failed, if any
    /// has. Left by a connection, or when all have been tried.
    Connecting(Option<Arc<str>>),
    /// The last attempt at every endpoint has failed: why. Left by a connection.
    Unreachable(Arc<str>),
    /// There are connections.
    Ready,
    /// The manager has ended. Not left.
    Closed,
}

/// What a pick asks for.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) policy: Policy,
    pub(crate) key: Option<u64>,
    pub(crate) zone_full: Option<u32>,
    /// Where this request has been already.
    pub(crate) tried: &'a [u64],
}

impl<C: Connection> Table<C> {
    pub(crate) fn empty(source: Arc<Snapshot>) -> Self {
        Self {
            near: Set::default(),
            far: Set::default(),
            near_share: 1.0,
            draining: Vec::new(),
            source,
            phase: Phase::Undiscovered,
            census: Census::default(),
        }
    }

    /// How much of the near weight is ready decides how much stays near.
    pub(crate) fn share(ready: u64, known: u64) -> f64 {
        if known == 0 { 1.0 } else { (SPARE * ready as f64 / known as f64).min(1.0) }
    }

    pub(crate) fn ready(&self) -> impl Iterator<Item = &Arc<Ready<C>>> {
        self.near.iter().chain(self.far.iter()).map(|(ready, _)| ready)
    }

    /// Picks one that `is_listed` still. None when there is none that takes requests.
    #[inline]
    pub(crate) fn pick(
        &self,
        ask: Ask<'_>,
        turns: &Turns,
        is_listed: impl Fn(&Ready<C>) -> bool,
    ) -> Option<&Arc<Ready<C>>> {
        let is_fine = |ready: &Ready<C>| ready.connection.is_open() && is_listed(ready);
        if let (Policy::Hash, Some(key)) = (ask.policy, ask.key) {
            return self.by_key(key, ask.tried, is_fine);
        }
        // A connection that closed this moment, or an endpoint that left, is seldom drawn twice.
        for _ in 0..4 {
            let ready = self.draw(ask, turns)?;
            if !ask.tried.contains(&ready.id) && is_fine(ready) {
                return Some(ready);
            }
        }
        self.any(|ready| !ask.tried.contains(&ready.id) && is_fine(ready)).or_else(|| self.any(is_fine))
    }

    fn draw(&self, ask: Ask<'_>, turns: &Turns) -> Option<&Arc<Ready<C>>> {
        let (side, other) = self.sides();
        let drawn = Self::draw_from(side, ask.policy, turns)?;
        let full = ask.zone_full.map_or(u64::MAX, |full| u64::from(full) * u64::from(UNIT));
        if std::ptr::eq(side, &self.near) && per_weight(drawn) >= full && other.len() > 0 {
            let other = Self::draw_from(other, ask.policy, turns)?;
            if is_less_loaded(other, drawn) {
                return Some(other.0);
            }
        }
        Some(drawn.0)
    }

    /// The side to draw from, and the other one.
    fn sides(&self) -> (&Ranks<C>, &Ranks<C>) {
        let is_far = self.near.len() == 0
            || self.near.total() == 0 && self.far.total() > 0
            || self.near_share < 1.0 && self.far.total() > 0 && fastrand::f64() >= self.near_share;
        if is_far { (&self.far, &self.near) } else { (&self.near, &self.far) }
    }

    #[inline]
    fn draw_from<'a>(set: &'a Ranks<C>, policy: Policy, turns: &Turns) -> Option<(&'a Arc<Ready<C>>, u32)> {
        match policy {
            Policy::Random | Policy::Hash => set.get(set.draw()?),
            Policy::RoundRobin => set.get(in_turn(set, turns)?),
            Policy::LeastRequest => least_of_two(set),
        }
    }

    /// The highest score of those that are fine; of those not tried yet, if there is one.
    fn by_key(&self, key: u64, tried: &[u64], is_fine: impl Fn(&Ready<C>) -> bool) -> Option<&Arc<Ready<C>>> {
        let has_weights = self.near.total() + self.far.total() > 0;
        let best = |skip: &[u64]| {
            let all = self.near.iter().chain(self.far.iter());
            let usable = all.filter(|(ready, weight)| {
                (*weight > 0 || !has_weights) && !skip.contains(&ready.id) && is_fine(ready)
            });
            let scored = usable.map(|(ready, weight)| {
                (ready, score(key, ready.hash, if has_weights { weight } else { UNIT }))
            });
            scored.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(ready, _)| ready)
        };
        best(tried).or_else(|| if tried.is_empty() { None } else { best(&[]) })
    }

    /// Any that will do, from a random place on: one with a weight, if there is one.
    fn any(&self, will_do: impl Fn(&Ready<C>) -> bool) -> Option<&Arc<Ready<C>>> {
        let (first, second) = self.sides();
        let mut without_weight = None;
        for set in [first, second] {
            let start = fastrand::usize(..set.len().max(1));
            for step in 0..set.len() {
                let Some((ready, weight)) = set.get((start + step) % set.len()) else { continue };
                if !will_do(ready) {
                    continue;
                }
                if weight > 0 {
                    return Some(ready);
                }
                without_weight = without_weight.or(Some(ready));
            }
        }
        let has_weights = self.near.total() + self.far.total() > 0;
        without_weight.filter(|_| !has_weights)
    }
}

/// Of two drawn by weight the one with fewer requests for its weight. When both are idle the draw has
/// decided: otherwise an endpoint of less weight would get nothing from a client with little to do.
#[inline]
fn least_of_two<C>(set: &Ranks<C>) -> Option<(&Arc<Ready<C>>, u32)> {
    let first = set.draw()?;
    let second = if set.is_uniform() && set.len() > 1 {
        // Never the same one
        let other = fastrand::usize(..set.len() - 1);
        if other < first { other } else { other + 1 }
    } else {
        set.draw()?
    };
    let (first, second) = (set.get(first)?, set.get(second)?);
    Some(if is_less_loaded(second, first) { second } else { first })
}

/// Compares (in flight + 1) / weight; two idle ones are equal.
fn is_less_loaded<C>(a: (&Arc<Ready<C>>, u32), b: (&Arc<Ready<C>>, u32)) -> bool {
    let (loads, weights) = ((a.0.load(), b.0.load()), (u64::from(a.1.max(1)), u64::from(b.1.max(1))));
    loads != (0, 0) && (u64::from(loads.0) + 1) * weights.1 < (u64::from(loads.1) + 1) * weights.0
}

/// Requests in flight for a weight of 1, in thousandths.
fn per_weight<C>(ready: (&Arc<Ready<C>>, u32)) -> u64 {
    u64::from(ready.0.load()) * u64::from(UNIT) * u64::from(UNIT) / u64::from(ready.1.max(1))
}

/// The static stride: in each round over the list an endpoint is taken or passed over, so that it is
/// taken as often as its weight is to the heaviest.
fn in_turn<C>(set: &Ranks<C>, turns: &Turns) -> Option<usize> {
    let len = set.len() as u64;
    if len == 0 {
        return None;
    }
    if set.is_uniform() {
        return Some((turns.next() % len) as usize);
    }
    let heaviest = u64::from(set.heaviest().max(1));
    for _ in 0..STRIDES {
        let turn = turns.next();
        let (position, round) = ((turn % len) as usize, turn / len);
        let weight = u64::from(set.get(position)?.1);
        // Endpoints of one weight are passed over in different rounds.
        let offset = heaviest / 2 * position as u64;
        let phase = weight.wrapping_mul(round).wrapping_add(offset) % heaviest;
        if weight > 0 && phase >= heaviest - weight {
            return Some(position);
        }
    }
    set.draw()
}
