//! What a fault is, and where it is played.

use std::{fmt, ops::RangeInclusive, time::Duration};

use anyhow::Result;
use futures_util::future::BoxFuture;

use super::stage::Stage;
use crate::server::Kind;

/// One server, or a cluster of three.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Topology {
    /// One server.
    Single,
    /// Three members.
    Cluster,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "single",
            Self::Cluster => "cluster",
        })
    }
}

/// What is on stage before the fault, and how it is configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Live endpoints: the larger half on one shared connection, the others on connections of their own.
    pub endpoints: usize,
    /// Watchers: the second one on the shared connection, the others on connections of their own.
    pub watchers: usize,
    /// The heart beat period of the registrations.
    pub heart_beat: Duration,
    /// The TTL of the registrations, and ZooKeeper's session timeout.
    pub ttl: Duration,
    /// The grace of the watchers.
    pub grace: Duration,
    /// Within which a hung server is noticed.
    pub detection: Duration,
    /// Clients reach the servers through proxies.
    pub doors: bool,
    /// How often a watcher may be told that the registry is lost.
    pub losses: RangeInclusive<usize>,
    /// More configuration of the servers, by registry (see [`crate::server::Builder::config`]).
    pub config: fn(Kind) -> &'static str,
}

impl Settings {
    /// Five endpoints with a TTL of 3 s, three watchers with a grace of 5 s, hangs noticed within 5 s, one loss.
    pub const USUAL: Self = Self {
        endpoints: 5,
        watchers: 3,
        heart_beat: Duration::from_secs(1),
        ttl: Duration::from_secs(3),
        grace: Duration::from_secs(5),
        detection: Duration::from_secs(5),
        doors: false,
        losses: 1..=1,
        config: |_| "",
    };

    /// With nobody there yet.
    pub const EMPTY: Self = Self { endpoints: 0, watchers: 0, losses: 0..=0, ..Self::USUAL };

    /// Through proxies.
    pub const fn behind_doors(mut self) -> Self {
        self.doors = true;
        self
    }

    /// With this range of losses told to each watcher.
    pub const fn losses(mut self, losses: RangeInclusive<usize>) -> Self {
        self.losses = losses;
        self
    }
}

/// Plays a fault; an error says what is wrong.
pub type Play = for<'a> fn(&'a mut Stage) -> BoxFuture<'a, Result<()>>;

/// Where a fault cannot be, and why.
#[derive(Clone, Copy, Debug)]
pub struct Without {
    /// On which topology, or on all.
    pub topology: Option<Topology>,
    /// On which registry.
    pub kind: Kind,
    /// Why.
    pub why: &'static str,
}

/// A removal of live endpoints that is not promised to be avoided: where, and why.
#[derive(Clone, Copy, Debug)]
pub struct Excuse {
    /// On which topology.
    pub topology: Topology,
    /// On which registry.
    pub kind: Kind,
    /// Why.
    pub why: &'static str,
}

/// One line of the suite's table.
#[derive(Clone)]
pub struct Fault {
    /// What happens: the first part of the test's name.
    pub name: &'static str,
    /// What discox promises, in one line.
    pub promise: &'static str,
    /// Where it is played.
    pub on: &'static [Topology],
    /// Where it does not apply.
    pub without: &'static [Without],
    /// Where live endpoints may be removed.
    pub excuses: &'static [Excuse],
    /// Which cells are in the short form.
    pub short: &'static [(Topology, Kind)],
    /// It measures its process and needs one of its own.
    pub alone: bool,
    /// What is on stage.
    pub settings: Settings,
    /// What is done.
    pub play: Play,
}

impl Fault {
    /// One that is played on single servers, and not in the short form.
    pub const fn new(name: &'static str, promise: &'static str, settings: Settings, play: Play) -> Self {
        Self {
            name,
            promise,
            on: &[Topology::Single],
            without: &[],
            excuses: &[],
            short: &[],
            alone: false,
            settings,
            play,
        }
    }

    /// Played on these.
    pub const fn on(mut self, on: &'static [Topology]) -> Self {
        self.on = on;
        self
    }

    /// Not played on these.
    pub const fn without(mut self, without: &'static [Without]) -> Self {
        self.without = without;
        self
    }

    /// Live endpoints may be removed on these.
    pub const fn excuses(mut self, excuses: &'static [Excuse]) -> Self {
        self.excuses = excuses;
        self
    }

    /// In the short form on these.
    pub const fn short(mut self, short: &'static [(Topology, Kind)]) -> Self {
        self.short = short;
        self
    }

    /// In a process of its own.
    pub const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }
}

/// A fault on a topology of a registry.
#[derive(Clone)]
pub struct Cell {
    /// What happens.
    pub fault: Fault,
    /// On what.
    pub topology: Topology,
    /// Of which registry.
    pub kind: Kind,
}

impl Cell {
    /// Why live endpoints may be removed, if they may.
    pub fn excuse(&self) -> Option<&'static str> {
        let excuses = self.fault.excuses.iter();
        excuses
            .filter(|excuse| excuse.topology == self.topology && excuse.kind == self.kind)
            .map(|e| e.why)
            .next()
    }

    /// Whether it is in the short form.
    pub fn is_short(&self) -> bool {
        self.fault.short.contains(&(self.topology, self.kind))
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}::{}", self.fault.name, self.topology, self.kind)
    }
}
