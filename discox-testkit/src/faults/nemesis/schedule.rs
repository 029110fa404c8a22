//! What happens when: a random schedule, the same for the same seed.

use std::{fmt, time::Duration};

use fastrand::Rng;

use super::super::cell::Topology;
use crate::server::{Data, Kind};

/// Within this many milliseconds all steps begin. Those that last may end later.
const STORM: u64 = 20_000;

/// What is on stage when it begins.
pub(super) const REGISTRARS: usize = 5;

/// One thing that is done, at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) act: Act,
}

/// What is done. Numbers choose among what there is at that time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Act {
    /// A server is killed by signal 9 and started again.
    Kill { member: usize, down: Duration, data: Data },
    /// A server hangs.
    Pause { member: usize, lasts: Duration },
    /// A proxy refuses connections, after it has reset those that there are.
    Refuse { door: usize, lasts: Duration },
    /// A proxy swallows everything.
    BlackHole { door: usize, lasts: Duration },
    /// Every byte takes longer.
    Slow { door: usize, each_way: Duration, lasts: Duration },
    /// All connections are reset.
    Reset,
    /// etcd's history is compacted.
    Compact,
    /// etcd's database is defragmented.
    Defragment,
    /// etcd's leader hands over.
    MoveLeader,
    /// A record is deleted by an operator.
    Delete { registrar: usize },
    /// A record is overwritten by an operator.
    Overwrite { registrar: usize },
    /// All leases are revoked, all sessions closed.
    RevokeAll,
    /// A registration is started.
    Join { shared: bool },
    /// One is stopped.
    Leave { registrar: usize },
    /// One is dropped without `stop`.
    Abandon { registrar: usize },
    /// A start is given up.
    CancelStart { after: Duration, shared: bool },
    /// A stop is given up.
    CancelStop { registrar: usize, after: Duration },
    /// An attr changes.
    Update { registrar: usize },
    /// The call that changes it is given up.
    CancelUpdate { registrar: usize, after: Duration },
    /// The same endpoint is registered by a later incarnation.
    TakeOver { registrar: usize, shared: bool },
    /// A process registers, and is killed by signal 9 later.
    KilledProcess { lives: Duration },
    /// A process registers, stops for longer than its TTL (SIGSTOP), goes on, and is terminated later.
    FrozenProcess { lasts: Duration },
    /// Another watcher comes, and leaves again.
    Watch { lasts: Duration },
}

/// A seed and what became of it on a topology of a registry.
#[derive(Clone)]
pub(super) struct Schedule {
    pub(super) seed: u64,
    pub(super) kind: Kind,
    pub(super) topology: Topology,
    pub(super) steps: Vec<Step>,
}

impl Schedule {
    pub(super) fn new(seed: u64, kind: Kind, topology: Topology) -> Self {
        let mut rng = Rng::with_seed(seed ^ ((kind as u64) << 56) ^ ((topology as u64) << 60));
        // In a few of them everybody's lease is revoked: watchers may then miss everybody.
        let revokes = rng.u32(..8) == 0;
        let count = rng.usize(12..24);
        let mut steps: Vec<_> = (0..count)
            .map(|_| Step { at: millis(&mut rng, 0..STORM), act: act(&mut rng, kind, topology, revokes) })
            .collect();
        steps.sort_by_key(|step| step.at);
        Self { seed, kind, topology, steps }
    }

    /// Without some of its steps.
    pub(super) fn without(&self, dropped: &[usize]) -> Self {
        let steps = self.steps.iter().enumerate();
        let steps = steps.filter(|(i, _)| !dropped.contains(i)).map(|(_, step)| *step).collect();
        Self { steps, ..self.clone() }
    }
}

fn act(rng: &mut Rng, kind: Kind, topology: Topology, revokes: bool) -> Act {
    let member = rng.usize(..if topology == Topology::Cluster { 3 } else { 1 });
    let registrar = rng.usize(..64);
    match rng.u32(..100) {
        0..10 => {
            // A cluster whose only member with data is wiped would be another registry.
            let wiped = topology == Topology::Single && rng.bool();
            let data = if wiped { Data::Wiped } else { Data::Kept };
            Act::Kill { member, down: millis(rng, 0..9_000), data }
        }
        10..17 => Act::Pause { member, lasts: millis(rng, 200..9_000) },
        17..22 => Act::Refuse { door: member, lasts: millis(rng, 100..8_000) },
        22..27 => Act::BlackHole { door: member, lasts: millis(rng, 200..9_000) },
        27..30 => Act::Slow { door: member, each_way: millis(rng, 5..150), lasts: millis(rng, 500..6_000) },
        30..38 => Act::Reset,
        38..43 => by_operator(rng, kind, topology),
        43..47 => Act::Delete { registrar },
        47..50 => Act::Overwrite { registrar },
        50..52 if revokes && kind != Kind::Consul => Act::RevokeAll,
        50..60 => Act::Join { shared: rng.bool() },
        60..65 => Act::Leave { registrar },
        65..68 => Act::Abandon { registrar },
        68..73 => Act::CancelStart { after: millis(rng, 0..300), shared: rng.bool() },
        73..76 => Act::CancelStop { registrar, after: millis(rng, 0..50) },
        76..84 => Act::Update { registrar },
        84..88 => Act::CancelUpdate { registrar, after: millis(rng, 0..50) },
        88..92 => Act::TakeOver { registrar, shared: rng.bool() },
        92..95 => Act::KilledProcess { lives: millis(rng, 0..8_000) },
        95..97 => Act::FrozenProcess { lasts: millis(rng, 500..12_000) },
        _ => Act::Watch { lasts: millis(rng, 0..10_000) },
    }
}

/// What only one registry has; another one's connections are reset instead.
fn by_operator(rng: &mut Rng, kind: Kind, topology: Topology) -> Act {
    match (kind, rng.u32(..3)) {
        (Kind::Etcd, 0) => Act::Compact,
        (Kind::Etcd, 1) => Act::Defragment,
        (Kind::Etcd, _) if topology == Topology::Cluster => Act::MoveLeader,
        _ => Act::Reset,
    }
}

fn millis(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

impl fmt::Display for Schedule {
    /// One line a step, with the number by which it is dropped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} on {} {}", self.seed, self.kind, self.topology)?;
        for (i, Step { at, act }) in self.steps.iter().enumerate() {
            write!(f, "\n  {i:2}  {:6.3} s  {act:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_same_schedule_and_dropping_steps_keeps_the_others() {
        for seed in 0..200 {
            for (kind, topology) in [(Kind::Etcd, Topology::Single), (Kind::Consul, Topology::Cluster)] {
                let schedule = Schedule::new(seed, kind, topology);
                assert_eq!(schedule.steps, Schedule::new(seed, kind, topology).steps);
                assert!(schedule.steps.iter().all(|step| step.at < Duration::from_millis(STORM)));
                let fewer = schedule.without(&[0, 2]);
                assert_eq!(fewer.steps.len() + 2, schedule.steps.len());
                assert_eq!(fewer.steps[0], schedule.steps[1]);
            }
        }
    }
}
