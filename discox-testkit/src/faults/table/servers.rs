//! What happens to servers and to the network before them.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    super::{
        cell::{
            Fault, Settings,
            Topology::{Cluster, Single},
        },
        clusters, hangs, kills, network,
    },
    BOTH, CLUSTER,
};
use crate::server::Kind::{Consul, Etcd, Zookeeper};

const SERF: &str =
    "Consul's own serfHealth takes the services of a dead or hung agent out of every answer after 5-6.5 s";
const UNNOTICED: &str = "the registry forgets the records in a hang that is too short to be noticed";

/// A client of a silent member notices within half of the TTL and moves to another one in what is left of it. On
/// a machine that plays many cells that takes longer than the rest of the usual TTL.
const MOVED_TTL: Duration = Duration::from_secs(6);

/// A ZooKeeper that was hung serves the connections that its clients have long given up, too, and closes a
/// session's newer connection for each: clients lose it again.
const ECHOES: RangeInclusive<usize> = 1..=4;

pub(super) fn killed() -> Vec<Fault> {
    let usual = Settings::USUAL;
    let moved = Settings::USUAL.losses(0..=3);
    vec![
        fault!(
            kills::killed_and_back_within_the_ttl,
            usual.clone(),
            "a server that is killed and comes back within the TTL costs no live endpoint"
        )
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            kills::killed_and_back_after_the_ttl,
            usual.clone(),
            "nor one that comes back after the TTL, with its data"
        )
        .short(&[(Single, Etcd)]),
        fault!(
            kills::killed_and_back_without_its_data,
            usual,
            "what a registry has lost with its data is registered again, and no watcher misses it"
        )
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            kills::member_killed_and_back_within_the_ttl,
            moved.clone(),
            "a member that is killed costs its clients a failover and no live endpoint"
        )
        .on(CLUSTER)
        .short(&[(Cluster, Etcd), (Cluster, Consul)]),
        fault!(
            kills::member_killed_and_back_after_the_ttl,
            moved,
            "nor one that stays away for longer than the TTL"
        )
        .on(CLUSTER)
        .excused(Cluster, Consul, SERF),
    ]
}

pub(super) fn hung() -> Vec<Fault> {
    let (brief, noticed) = (Settings::USUAL.losses(0..=1), Settings::USUAL);
    let moved = Settings { ttl: MOVED_TTL, ..Settings::USUAL.losses(0..=3) };
    vec![
        fault!(
            hangs::hung_shorter_than_the_ttl,
            brief.clone(),
            "a server that hangs for less than the TTL costs no live endpoint"
        )
        .on(BOTH),
        fault!(
            hangs::hung_longer_than_the_ttl,
            noticed,
            "a hang longer than the TTL is noticed within the detection, and costs no live endpoint"
        )
        .losses(Zookeeper, ECHOES)
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            hangs::hung_longer_than_the_ttl_by_default,
            super::by_default(Settings::USUAL),
            "the same holds with the defaults: a hang is noticed within 15 s"
        )
        .losses(Zookeeper, ECHOES),
        fault!(
            hangs::hung_longer_than_the_ttl_but_not_noticed,
            Settings { detection: Duration::from_secs(15), ..brief },
            "after a hang too short to be noticed every endpoint is registered and shown again"
        )
        .excused(Single, Etcd, UNNOTICED)
        .excused(Single, Zookeeper, UNNOTICED)
        .excused(Single, Consul, UNNOTICED),
        fault!(
            hangs::member_hung_longer_than_the_ttl,
            moved,
            "from a member that hangs, clients move on within the detection and 3 s"
        )
        .on(CLUSTER)
        .excused(Cluster, Consul, SERF)
        .short(&[(Cluster, Zookeeper)]),
    ]
}

pub(super) fn network() -> Vec<Fault> {
    let brief = Settings::USUAL.behind_doors().losses(0..=1);
    let noticed = Settings::USUAL.behind_doors();
    let moved = Settings { ttl: MOVED_TTL, ..Settings::USUAL.behind_doors().losses(0..=3) };
    vec![
        fault!(
            network::connections_reset_every_200_ms_under_load,
            Settings::USUAL.behind_doors().losses(1..=500),
            "connections that are reset all the time, under load, leave everything right in the end"
        )
        // Between two queries there is nothing that could break.
        .losses(Consul, 0..=500)
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            network::packets_dropped_shorter_than_the_ttl,
            brief.clone(),
            "a network that swallows everything for less than the TTL costs no live endpoint"
        ),
        fault!(
            network::packets_dropped_longer_than_the_ttl,
            noticed,
            "nor one that does for longer than the TTL"
        )
        .short(&[(Single, Zookeeper)]),
        fault!(
            network::member_black_holed_while_connected,
            moved,
            "from a member that is swallowed by the network, clients move on within the detection and 3 s"
        )
        .on(CLUSTER),
        fault!(
            network::member_black_holed_while_connecting,
            Settings::EMPTY.behind_doors(),
            "a member that swallows every packet delays no start by more than its connect timeout"
        )
        .on(CLUSTER)
        .short(&[(Cluster, Etcd)]),
        fault!(
            network::slow_network,
            brief,
            "100 ms each way and stalls of a second cost time and nothing else"
        )
        .short(&[(Single, Consul)]),
    ]
}

pub(super) fn clusters() -> Vec<Fault> {
    let moved = Settings::USUAL.losses(0..=3);
    let outage = Settings::USUAL.losses(1..=4);
    vec![
        fault!(clusters::leader_killed, moved.clone(), "a leader that is killed costs no live endpoint")
            .on(CLUSTER)
            .excused(Cluster, Consul, SERF),
        fault!(
            clusters::leader_cut_off_from_its_peers,
            moved,
            "a leader that is cut off from its peers, but not from its clients, is left for the others"
        )
        .on(CLUSTER)
        .excused(Cluster, Consul, SERF)
        .short(&[(Cluster, Etcd)]),
        fault!(
            clusters::rolling_restart,
            Settings::USUAL.losses(0..=6),
            "a restart of all members, one after the other, costs no live endpoint"
        )
        .on(CLUSTER)
        .excused(Cluster, Consul, SERF)
        .short(&[(Cluster, Zookeeper)]),
        fault!(
            clusters::quorum_lost_and_regained,
            outage,
            "a cluster that loses its quorum for longer than the TTL, and regains it, costs no live endpoint"
        )
        .on(CLUSTER)
        .excused(Cluster, Consul, SERF),
    ]
}
