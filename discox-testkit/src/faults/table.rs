//! The table of all faults: what is promised, where it is played, where it cannot be and why.

use super::{
    absent, burst, by_hand,
    cell::{Cell, Excuse, Fault, Settings, Topology, Without},
    clusters, fencing, grace, hangs, history, kills, leaks, lives, network,
};
use crate::server::Kind;

const BOTH: &[Topology] = &[Topology::Single, Topology::Cluster];
const CLUSTER: &[Topology] = &[Topology::Cluster];

use Kind::{Consul, Etcd, Zookeeper};
use Topology::{Cluster, Single};

macro_rules! fault {
    ($file:ident::$function:ident, $settings:expr, $promise:literal) => {
        Fault::new(stringify!($function), $promise, $settings, |stage| Box::pin($file::$function(stage)))
    };
}

/// All of them.
pub fn faults() -> Vec<Fault> {
    [killed(), hung(), network(), by_hand(), history(), clients(), clusters(), grace(), resources()].concat()
}

/// All cells, and those that cannot be with the reason.
pub(crate) fn cells() -> (Vec<Cell>, Vec<(Cell, &'static str)>) {
    let (mut cells, mut left_out) = (Vec::new(), Vec::new());
    for fault in faults() {
        for topology in fault.on.iter().copied() {
            for kind in Kind::ALL {
                let cell = Cell { fault: fault.clone(), topology, kind };
                let why = fault.without.iter().find(|without| {
                    without.kind == kind && without.topology.is_none_or(|where_not| where_not == topology)
                });
                match why {
                    Some(without) => left_out.push((cell, without.why)),
                    None => cells.push(cell),
                }
            }
        }
    }
    (cells, left_out)
}

const fn on_all(kind: Kind, why: &'static str) -> Without {
    Without { topology: None, kind, why }
}

const fn excuse(topology: Topology, kind: Kind, why: &'static str) -> Excuse {
    Excuse { topology, kind, why }
}

const SERF: &str =
    "Consul's own serfHealth takes the services of a dead or hung agent out of every answer after 5-6.5 s";
const UNNOTICED: &str = "the registry forgets the records in a hang that is too short to be noticed";

fn killed() -> Vec<Fault> {
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
        .excuses(&[excuse(Cluster, Consul, SERF)]),
    ]
}

fn hung() -> Vec<Fault> {
    let (brief, noticed) = (Settings::USUAL.losses(0..=1), Settings::USUAL);
    let moved = Settings::USUAL.losses(0..=3);
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
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            hangs::hung_longer_than_the_ttl_but_not_noticed,
            brief,
            "after a hang too short to be noticed every endpoint is registered and shown again"
        )
        .excuses(&[
            excuse(Single, Etcd, UNNOTICED),
            excuse(Single, Zookeeper, UNNOTICED),
            excuse(Single, Consul, UNNOTICED),
        ]),
        fault!(
            hangs::member_hung_longer_than_the_ttl,
            moved,
            "from a member that hangs, clients move on within the detection and 3 s"
        )
        .on(CLUSTER)
        .excuses(&[excuse(Cluster, Consul, SERF)])
        .short(&[(Cluster, Zookeeper)]),
    ]
}

fn network() -> Vec<Fault> {
    let brief = Settings::USUAL.behind_doors().losses(0..=1);
    let noticed = Settings::USUAL.behind_doors();
    let moved = Settings::USUAL.behind_doors().losses(0..=3);
    vec![
        fault!(
            network::connections_reset_every_200_ms_under_load,
            Settings::USUAL.behind_doors().losses(1..=500),
            "connections that are reset all the time, under load, leave everything right in the end"
        )
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

fn by_hand() -> Vec<Fault> {
    let calm = Settings::USUAL.losses(0..=0);
    vec![
        fault!(
            by_hand::record_deleted_by_hand,
            calm.clone(),
            "a record that is deleted by hand is back within a heart beat and a second"
        )
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            by_hand::record_overwritten_by_hand,
            calm.clone(),
            "a record that is overwritten by hand is set right within a heart beat and a second"
        ),
        fault!(
            by_hand::leases_revoked_by_hand,
            calm.clone(),
            "records whose leases are revoked are back within a heart beat and a second"
        )
        .without(&[
            on_all(Zookeeper, "it has sessions, not leases"),
            on_all(Consul, "it has checks, not leases"),
        ])
        .short(&[(Single, Etcd)]),
        fault!(
            by_hand::sessions_closed_by_the_server,
            Settings::USUAL.losses(0..=1),
            "records whose sessions are closed by the server are back within a heart beat and a second"
        )
        .without(&[
            on_all(Etcd, "it has leases, not sessions"),
            on_all(Consul, "it has checks, not sessions"),
        ])
        .short(&[(Single, Zookeeper)]),
        fault!(
            by_hand::check_deregistered_by_hand,
            calm,
            "a record whose check is deregistered has it again within a heart beat and a second"
        )
        .without(&[
            on_all(Etcd, "it has leases, not checks"),
            on_all(Zookeeper, "it has sessions, not checks"),
        ])
        .short(&[(Single, Consul)]),
    ]
}

fn history() -> Vec<Fault> {
    let cut_off = Settings::USUAL.behind_doors();
    vec![
        fault!(
            history::compaction_while_the_watcher_is_cut_off,
            cut_off.clone(),
            "a watcher whose revision was compacted is right again by difference"
        )
        .without(&[
            on_all(Zookeeper, "it keeps no history that could be compacted"),
            on_all(Consul, "it keeps no history that could be compacted"),
        ])
        .short(&[(Single, Etcd)]),
        fault!(
            history::five_thousand_changes_while_the_watcher_is_cut_off,
            cut_off,
            "a watcher that missed 5,000 changes is right again by difference"
        ),
        fault!(
            history::index_going_backwards,
            Settings::USUAL.losses(0..=1),
            "a registry whose index goes backwards is followed from there"
        )
        .without(&[
            on_all(
                Etcd,
                "its revision goes backwards with its data only: see killed_and_back_without_its_data",
            ),
            on_all(
                Zookeeper,
                "its zxid goes backwards with its data only: see killed_and_back_without_its_data",
            ),
        ])
        .short(&[(Single, Consul)]),
    ]
}

fn clients() -> Vec<Fault> {
    let calm = Settings { endpoints: 1, ..Settings::USUAL.losses(0..=0) };
    vec![
        fault!(
            lives::process_killed_and_restarted_within_the_ttl,
            calm.clone(),
            "a process that is killed and started again within the TTL is never missed, however often"
        )
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            lives::rolling_replacement_at_the_same_address,
            calm,
            "a replacement that starts at the same address before the old one stops is never missed"
        )
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            absent::registry_down_at_start,
            Settings::EMPTY.losses(1..=1),
            "what starts before its registry is there when the registry is"
        )
        .short(&[(Single, Etcd), (Single, Consul)]),
        fault!(
            fencing::overlapping_lives_do_not_harm_each_other,
            Settings::EMPTY,
            "no late end of an earlier life removes, overwrites or resurrects the record of a later one"
        )
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
    ]
}

fn clusters() -> Vec<Fault> {
    let moved = Settings::USUAL.losses(0..=3);
    let outage = Settings::USUAL.losses(1..=4);
    vec![
        fault!(clusters::leader_killed, moved.clone(), "a leader that is killed costs no live endpoint")
            .on(CLUSTER)
            .excuses(&[excuse(Cluster, Consul, SERF)]),
        fault!(
            clusters::leader_cut_off_from_its_peers,
            moved,
            "a leader that is cut off from its peers, but not from its clients, is left for the others"
        )
        .on(CLUSTER)
        .excuses(&[excuse(Cluster, Consul, SERF)])
        .short(&[(Cluster, Etcd)]),
        fault!(
            clusters::rolling_restart,
            Settings::USUAL.losses(0..=6),
            "a restart of all members, one after the other, costs no live endpoint"
        )
        .on(CLUSTER)
        .excuses(&[excuse(Cluster, Consul, SERF)])
        .short(&[(Cluster, Zookeeper)]),
        fault!(
            clusters::quorum_lost_and_regained,
            outage,
            "a cluster that loses its quorum for longer than the TTL, and regains it, costs no live endpoint"
        )
        .on(CLUSTER)
        .excuses(&[excuse(Cluster, Consul, SERF)]),
    ]
}

fn grace() -> Vec<Fault> {
    let defaults = Settings {
        heart_beat: std::time::Duration::from_secs(5),
        ttl: std::time::Duration::from_secs(15),
        grace: std::time::Duration::from_secs(15),
        detection: std::time::Duration::from_secs(15),
        ..Settings::USUAL
    };
    vec![
        fault!(
            grace::grace_removes_the_dead_and_none_of_100,
            Settings::USUAL,
            "an outage of three TTLs removes none of 100 live endpoints, and the one that died meanwhile in time"
        )
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            grace::grace_by_default_removes_the_dead_and_none_of_100,
            defaults,
            "the same holds with the defaults: heart beats of 5 s, a grace of 15 s"
        ),
        fault!(
            grace::flapping_connection_ends_the_grace,
            Settings::USUAL.behind_doors().losses(1..=40),
            "a connection that is up for 3 s and down for 3 s still ends the grace"
        )
        .short(&[(Single, Etcd)]),
    ]
}

fn resources() -> Vec<Fault> {
    let many = Settings { config: burst::limits, ..Settings::EMPTY.behind_doors() };
    vec![
        fault!(
            burst::burst_of_500_endpoints_and_500_watchers,
            many,
            "500 endpoints and 500 watchers come back at once after an outage, spread and complete"
        )
        .alone()
        .short(&[(Single, Etcd)]),
        fault!(
            leaks::starts_stops_and_outages_leave_nothing_behind,
            Settings::EMPTY.behind_doors(),
            "starts, stops and outages leave no task, socket, lease, session, service or memory behind"
        )
        .alone()
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            leaks::an_outage_costs_less_than_2_percent_of_a_core,
            Settings::EMPTY,
            "in an outage a connection takes less than 2 % of a core"
        )
        .alone()
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_selections_exist() {
        let names: Vec<_> = faults().iter().map(|fault| fault.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        let (cells, _) = cells();
        for fault in faults() {
            let of_fault: Vec<_> = cells.iter().filter(|cell| cell.fault.name == fault.name).collect();
            let short = of_fault.iter().filter(|cell| cell.is_short()).count();
            assert_eq!(short, fault.short.len(), "{}", fault.name);
        }
    }
}
