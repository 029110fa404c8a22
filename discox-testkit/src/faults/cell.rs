//! What a fault is, and where it is played.

use std::{fmt, ops::RangeInclusive, time::Duration};

use anyhow::Result;
use futures_util::future::LocalBoxFuture;

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
    /// Five endpoints with a TTL of 4 s, three watchers with a grace of 5 s, hangs noticed within 5 s, one loss.
    pub const USUAL: Self = Self {
        endpoints: 5,
        watchers: 3,
        heart_beat: Duration::from_secs(1),
        ttl: Duration::from_secs(4),
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
pub type Play = for<'a> fn(&'a mut Stage) -> LocalBoxFuture<'a, Result<()>>;

/// One line of the suite's table.
#[derive(Clone)]
pub struct Fault {
    /// What happens: the first part of the test's name.
    pub name: &'static str,
    /// What discox promises, in one line.
    pub promise: &'static str,
    /// Where it is played.
    pub on: &'static [Topology],
    /// Where it does not apply, and why.
    pub without: Vec<(Kind, &'static str)>,
    /// Where a watcher may be told of more losses than the settings say.
    pub more_losses: Vec<(Kind, RangeInclusive<usize>)>,
    /// Where live endpoints may be removed, and why: reported exceptions.
    pub excuses: Vec<(Topology, Kind, &'static str)>,
    /// Which cells are in the short form.
    pub short: &'static [(Topology, Kind)],
    /// It measures its process and needs one of its own.
    pub alone: bool,
    /// It needs the machine for itself: no other cell runs beside it.
    pub quiet: bool,
    /// What is on stage.
    pub settings: Settings,
    /// What is done.
    pub play: Play,
}

impl Fault {
    /// One that is played on single servers, and not in the short form.
    pub fn new(name: &'static str, promise: &'static str, settings: Settings, play: Play) -> Self {
        Self {
            name,
            promise,
            on: &[Topology::Single],
            without: Vec::new(),
            more_losses: Vec::new(),
            excuses: Vec::new(),
            short: &[],
            alone: false,
            quiet: false,
            settings,
            play,
        }
    }

    /// Played on these.
    pub fn on(mut self, on: &'static [Topology]) -> Self {
        self.on = on;
        self
    }

    /// Not played on this registry, and why.
    pub fn without(mut self, kind: Kind, why: &'static str) -> Self {
        self.without.push((kind, why));
        self
    }

    /// With this range of losses told to each watcher on this registry.
    pub fn losses(mut self, kind: Kind, losses: RangeInclusive<usize>) -> Self {
        self.more_losses.push((kind, losses));
        self
    }

    /// Live endpoints may be removed there, and why.
    pub fn excused(mut self, topology: Topology, kind: Kind, why: &'static str) -> Self {
        self.excuses.push((topology, kind, why));
        self
    }

    /// In the short form on these.
    pub fn short(mut self, short: &'static [(Topology, Kind)]) -> Self {
        self.short = short;
        self
    }

    /// Without others beside it.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// In a process of its own.
    pub fn alone(mut self) -> Self {
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
        let mut excuses = self.fault.excuses.iter();
        excuses
            .find(|(topology, kind, _)| (*topology, *kind) == (self.topology, self.kind))
            .map(|(.., why)| *why)
    }

    /// How often a watcher may be told that the registry is lost.
    pub fn losses(&self) -> RangeInclusive<usize> {
        let of_kind = self.fault.more_losses.iter().find(|(kind, _)| *kind == self.kind);
        of_kind.map_or_else(|| self.fault.settings.losses.clone(), |(_, losses)| losses.clone())
    }

    /// Why it cannot be, if it cannot.
    pub fn why_not(&self) -> Option<&'static str> {
        self.fault.without.iter().find(|(kind, _)| *kind == self.kind).map(|(_, why)| *why)
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
