//! What happens to records, watchers and processes.

use super::{
    super::{
        absent, burst, by_hand,
        cell::{Fault, Settings, Topology::Single},
        fencing, grace, history, leaks, lives, logs, thousands,
    },
    by_default,
};
use crate::server::Kind::{Consul, Etcd, Zookeeper};

pub(super) fn by_hand() -> Vec<Fault> {
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
        .without(Zookeeper, "it has sessions, not leases")
        .without(Consul, "it has checks, not leases")
        .short(&[(Single, Etcd)]),
        fault!(
            by_hand::sessions_closed_by_the_server,
            Settings::USUAL.losses(0..=1),
            "records whose sessions are closed by the server are back within a heart beat and a second"
        )
        .without(Etcd, "it has leases, not sessions")
        .without(Consul, "it has checks, not sessions")
        .short(&[(Single, Zookeeper)]),
        fault!(
            by_hand::check_deregistered_by_hand,
            calm,
            "a record whose check is deregistered has it again within a heart beat and a second"
        )
        .without(Etcd, "it has leases, not checks")
        .without(Zookeeper, "it has sessions, not checks")
        .short(&[(Single, Consul)]),
    ]
}

pub(super) fn history() -> Vec<Fault> {
    let cut_off = Settings::USUAL.behind_doors();
    vec![
        fault!(
            history::compaction_while_the_watcher_is_cut_off,
            cut_off.clone(),
            "a watcher whose revision was compacted is right again by difference"
        )
        .without(Zookeeper, "it keeps no history that could be compacted")
        .without(Consul, "it keeps no history that could be compacted")
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
        .without(Etcd, "its revision goes backwards with its data only: see killed_and_back_without_its_data")
        .without(
            Zookeeper,
            "its zxid goes backwards with its data only: see killed_and_back_without_its_data",
        )
        .short(&[(Single, Consul)]),
    ]
}

pub(super) fn clients() -> Vec<Fault> {
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
            logs::an_outage_is_logged_once,
            Settings::EMPTY,
            "an outage is one line in the log when it begins and one, with how long it took, when it is over"
        )
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            fencing::overlapping_lives_do_not_harm_each_other,
            Settings::EMPTY,
            "no late end of an earlier life removes, overwrites or resurrects the record of a later one"
        )
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
    ]
}

pub(super) fn grace() -> Vec<Fault> {
    vec![
        fault!(
            grace::grace_removes_the_dead_and_none_of_100,
            Settings { config: burst::limits, ..Settings::USUAL },
            "an outage of three TTLs removes none of 100 live endpoints, and the one that died meanwhile in time"
        )
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            grace::grace_by_default_removes_the_dead_and_none_of_100,
            Settings { config: burst::limits, ..by_default(Settings::USUAL) },
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

pub(super) fn resources() -> Vec<Fault> {
    let many = Settings { config: burst::limits, ..by_default(Settings::EMPTY) }.behind_doors();
    vec![
        fault!(
            burst::burst_of_500_endpoints_and_500_watchers,
            many,
            "500 endpoints and 500 watchers come back at once after an outage, spread and complete"
        )
        .alone()
        .quiet()
        .short(&[(Single, Etcd)]),
        fault!(
            thousands::two_thousand_services_through_an_outage,
            by_default(Settings::EMPTY).behind_doors(),
            "one connection with 2,000 registrations and 2,000 watched services loses nobody in an outage"
        )
        .without(
            Consul,
            "one agent did not keep 2,000 TTL checks in time on the busy machine where it was tried; open",
        )
        .alone()
        .quiet(),
        fault!(
            leaks::starts_stops_and_outages_leave_nothing_behind,
            Settings::EMPTY.behind_doors(),
            "starts, stops and outages leave no task, socket, lease, session, service or memory behind"
        )
        .alone()
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
        fault!(
            leaks::an_outage_costs_less_than_2_percent_of_a_core,
            Settings::EMPTY.losses(2..=2),
            "in an outage a connection takes less than 2 % of a core"
        )
        // One of the two outages is a hang: see `servers::ECHOES`.
        .losses(Zookeeper, 2..=5)
        .alone()
        .short(&[(Single, Etcd), (Single, Zookeeper), (Single, Consul)]),
    ]
}
