//! The cases: what takes the registry's place.

use std::{sync::Arc, time::Duration};

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
    pub(super) kinds: &'static [Kind],
    pub(super) wrong: Wrong,
    /// It shows, and so it is told.
    pub(super) told: bool,
    growth: u64,
}

impl Case {
    /// By so many MiB the process may grow meanwhile.
    pub(super) fn growth(&self, kind: Kind) -> u64 {
        if kind == Kind::Zookeeper && self.growth == NOISE { FRAMES } else { self.growth }
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

/// What is no answer is not kept, but by zookeeper-client.
const NOISE: u64 = 32;
/// A few times what is allowed of one service here, 8 MiB.
const LITTLE: u64 = 64;
/// Answers of nothing but empty records or names, decoded: of who lists, who has just listed, and who watches.
const DECODED: u64 = 512;
/// What comes in over the loopback until the connection is given up: zookeeper-client keeps it all, up to 2 GiB.
const FRAMES: u64 = 2048;

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
        wrong: Wrong::Server(Arc::new(noise)),
        told: true,
        growth: NOISE,
    };
    let answers = |name, wrong| Case { name, kinds: ALL, wrong, told: true, growth: NOISE };
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
        Case { name, kinds: ETCD, wrong, told: !matches!(what, What::EmptyEvents), growth }
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
    let case = |name, what: Zookeeper| {
        let wrong = Wrong::Server(Arc::new(what));
        let many = matches!(what, Zookeeper::MillionChildren | Zookeeper::HugeData);
        let growth = if many { DECODED } else { LITTLE };
        Case { name, kinds: ZOOKEEPER, wrong, told: true, growth }
    };
    vec![
        case("negative_length", Zookeeper::Length(-1)),
        case("lowest_length", Zookeeper::Length(i32::MIN)),
        case("claims_50_million_children", Zookeeper::Claimed(50_000_000)),
        case("a_million_children", Zookeeper::MillionChildren),
        case("huge_data", Zookeeper::HugeData),
        case("endless_events", Zookeeper::EndlessEvents),
        case("other_numbers", Zookeeper::OtherNumbers),
        case("other_errors", Zookeeper::OtherErrors),
        case("empty_answers", Zookeeper::Empty),
    ]
}

fn consul() -> Vec<Case> {
    let case = |name, wrong| Case { name, kinds: CONSUL, wrong, told: true, growth: LITTLE };
    let agent = |name, what: Consul| case(name, Wrong::Server(Arc::new(what)));
    vec![
        agent("endless_instances", Consul::EndlessInstances),
        agent("thirty_thousand_instances", Consul::Instances(30_000)),
        agent("length_of_exbibytes", Consul::Length(u64::MAX / 16)),
        agent("length_within_the_limit", Consul::Length(7 << 20)),
        agent("endless_headers", Consul::EndlessHeaders),
        agent("endless_header", Consul::EndlessHeader),
        agent("deep_json", Consul::Deep(100_000)),
        agent("json_of_another_kind", Consul::Other(r#"{"Node":7}"#)),
        agent("instances_of_another_kind", Consul::Other(r#"[{"Node":[],"Service":null}]"#)),
        agent("slow_body", Consul::Slow),
        agent("endless_error", Consul::EndlessError),
        case("redirect_301", Wrong::Elsewhere(301)),
        case("redirect_307", Wrong::Elsewhere(307)),
    ]
}
