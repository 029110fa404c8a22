//! The cases: what takes the registry's place.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    bytes::Noise,
    consul::Mischief as Consul,
    etcd::{self, What},
    server::Script,
    zookeeper::Mischief as Zookeeper,
};
use crate::{proxy::Tamper, server::Kind};

/// One way to be hostile.
pub(super) struct Case {
    pub(super) name: &'static str,
    kinds: &'static [Kind],
    /// Whether it is played behind a guard (ZooKeeper), without one, or both.
    guards: &'static [bool],
    pub(super) wrong: Wrong,
    /// It shows, and so it is told.
    pub(super) told: bool,
    growth: u64,
}

impl Case {
    /// Whether it is played there.
    pub(super) fn is_for(&self, victim: Victim) -> bool {
        self.kinds.contains(&victim.kind) && self.guards.contains(&victim.guard)
    }

    /// By so many MiB the process may grow meanwhile.
    pub(super) fn growth(&self, victim: Victim) -> u64 {
        match victim {
            Victim { guard: true, .. } => self.growth.min(LITTLE),
            Victim { kind: Kind::Zookeeper, .. } if self.growth == NOISE => FRAMES,
            _ => self.growth,
        }
    }
}

/// Who is to be harmed: clients of this registry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Victim {
    pub(super) kind: Kind,
    /// With [`guard`](discox_core::ZookeeperOptions::guard).
    pub(super) guard: bool,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guarded = if self.guard { "-guarded" } else { "" };
        write!(f, "{}{guarded}", self.kind)
    }
}

/// What is wrong.
#[derive(Clone)]
pub(super) enum Wrong {
    /// Another server answers.
    Server(Arc<dyn Script>),
    /// Another server answers, and sends everybody to a third one, which nobody may ask.
    Elsewhere(u16),
    /// The registry's answers are tampered with.
    Answers(Tamper),
    /// As many connections one after the other, the answers of each tampered with at another place.
    AtEveryByte(Tamper, usize),
}

/// What is no answer is not kept, but by zookeeper-client where nothing guards it.
const NOISE: u64 = 32;
/// What is allowed of one service here, 8 MiB, for each of who watches, who lists and who registers, some times: as it
/// comes in, as room is made for more of it, and decoded. (A case that is played alone takes 62 MiB at most; what has
/// no bound takes hundreds in the same time.)
const LITTLE: u64 = 128;
/// Answers of nothing but empty records or names, decoded: of who lists, who has just listed, and who watches.
const DECODED: u64 = 512;
/// What comes in over the loopback until the connection is given up: zookeeper-client keeps it all, up to 2 GiB.
const FRAMES: u64 = 2048;

const BOTH: &[bool] = &[false, true];
const UNGUARDED: &[bool] = &[false];
const GUARDED: &[bool] = &[true];

const ALL: &[Kind] = &[Kind::Etcd, Kind::Zookeeper, Kind::Consul];
const ETCD: &[Kind] = &[Kind::Etcd];
const ZOOKEEPER: &[Kind] = &[Kind::Zookeeper];
const CONSUL: &[Kind] = &[Kind::Consul];

/// All cases.
pub(super) fn all() -> Vec<Case> {
    let mut cases = anywhere();
    cases.extend(etcd());
    cases.extend(zookeeper());
    cases.extend(consul());
    cases
}

fn anywhere() -> Vec<Case> {
    let noise = |name, noise: Noise| Case {
        name,
        kinds: ALL,
        guards: BOTH,
        wrong: Wrong::Server(Arc::new(noise)),
        told: true,
        growth: NOISE,
    };
    let answers = |name, wrong| Case { name, kinds: ALL, guards: BOTH, wrong, told: true, growth: NOISE };
    vec![
        noise("closed", Noise::Closed),
        noise("closed_after_the_request", Noise::ClosedAfterTheRequest),
        noise("random_bytes", Noise::Random),
        noise("zeroes", Noise::Same(0)),
        noise("ones", Noise::Same(0xff)),
        noise("spaces", Noise::Same(b' ')),
        noise("dripping", Noise::Dripping(0)),
        answers("ends_at_every_byte", Wrong::AtEveryByte(Tamper::EndLater, 120)),
        answers("spoilt_at_every_byte", Wrong::AtEveryByte(Tamper::SpoilLater, 120)),
        answers("garbled", Wrong::Answers(Tamper::Garble { after: 150 })),
        answers("slow", Wrong::Answers(Tamper::Drip { every: Duration::from_millis(50) })),
    ]
}

fn etcd() -> Vec<Case> {
    let case = |name, what| {
        let empty = matches!(what, What::EmptyRecords | What::EmptyEvents);
        let growth = if empty { DECODED } else { LITTLE };
        let wrong = Wrong::Server(Arc::new(etcd::Mischief::new(what)));
        Case { name, kinds: ETCD, guards: UNGUARDED, wrong, told: !matches!(what, What::EmptyEvents), growth }
    };
    vec![
        case("endless_pages", What::EndlessPages),
        case("endless_foreign_pages", What::ForeignPages),
        case("huge_values", What::HugeValues),
        case("millions_of_empty_records", What::EmptyRecords),
        case("message_of_4_gib", What::Length(u32::MAX)),
        case("message_of_7_mib_without_end", What::Length(7 << 20)),
        case("slow_message", What::Slow),
        case("endless_watch", What::EndlessWatch),
        case("millions_of_empty_events", What::EmptyEvents),
        case("long_status", What::LongStatus),
        case("redirect", What::Redirect),
        case("no_protobuf", What::NoProtobuf),
    ]
}

fn zookeeper() -> Vec<Case> {
    let case = |name, guards, what: Zookeeper| {
        let wrong = Wrong::Server(Arc::new(what));
        let many = matches!(what, Zookeeper::MillionChildren | Zookeeper::HugeData);
        let growth = if many { DECODED } else { LITTLE };
        Case { name, kinds: ZOOKEEPER, guards, wrong, told: true, growth }
    };
    vec![
        case("negative_length", BOTH, Zookeeper::Length(-1)),
        case("lowest_length", UNGUARDED, Zookeeper::Length(i32::MIN)),
        case("length_of_2_gib", GUARDED, Zookeeper::Length(i32::MAX)),
        case("claims_50_million_children", UNGUARDED, Zookeeper::Claimed(50_000_000)),
        case("claims_2_billion_children", GUARDED, Zookeeper::Claimed(i32::MAX)),
        case("a_million_children", BOTH, Zookeeper::MillionChildren),
        case("huge_data", BOTH, Zookeeper::HugeData),
        case("endless_events", BOTH, Zookeeper::EndlessEvents),
        case("other_numbers", UNGUARDED, Zookeeper::OtherNumbers),
        case("other_errors", UNGUARDED, Zookeeper::OtherErrors),
        case("empty_answers", BOTH, Zookeeper::Empty),
    ]
}

fn consul() -> Vec<Case> {
    const CUT: &str = r#"[{"Node":{},"Service":{"ID":"1"},"Checks":[]},{"Node":{},"Service":{"ID":"2"#;
    let case =
        |name, wrong| Case { name, kinds: CONSUL, guards: UNGUARDED, wrong, told: true, growth: LITTLE };
    let agent = |name, what: Consul| case(name, Wrong::Server(Arc::new(what)));
    vec![
        agent("endless_instances", Consul::EndlessInstances),
        agent("endless_instance_in_small_pieces", Consul::EndlessInstance),
        agent("thirty_thousand_instances", Consul::Instances(30_000)),
        agent("length_of_exbibytes", Consul::Length(u64::MAX / 16)),
        agent("length_within_the_limit", Consul::Length(7 << 20)),
        agent("endless_headers", Consul::EndlessHeaders),
        agent("endless_header", Consul::EndlessHeader),
        agent("deep_json", Consul::Deep(100_000)),
        agent("deep_json_in_an_instance", Consul::DeepInside(100_000)),
        agent("instances_cut_in_the_middle", Consul::Other(CUT)),
        agent(
            "instances_without_a_comma",
            Consul::Other(r#"[{"Node":{},"Service":{}}{"Node":{},"Service":{}}]"#),
        ),
        agent("json_of_another_kind", Consul::Other(r#"{"Node":7}"#)),
        agent("instances_of_another_kind", Consul::Other(r#"[{"Node":[],"Service":null}]"#)),
        agent("slow_body", Consul::Slow),
        agent("endless_error", Consul::EndlessError),
        case("redirect_301", Wrong::Elsewhere(301)),
        case("redirect_307", Wrong::Elsewhere(307)),
    ]
}
