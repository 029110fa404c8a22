//! The conformance suite: what every backend must do, written against the public traits only and run
//! unchanged on each.
//!
//! A [`Site`] says where a registry can be had, a [`Ground`] is a running one with its own tools and
//! its faults, a [`Behaviour`] is one function that plays on a ground. [`run`] plays all of them:
//!
//! - those that share one server have names of their own ([`Scene`]) and run side by side;
//! - those that kill, hang or count get a server of their own;
//! - those that a backend cannot have are printed with the reason.

pub mod attrs;
pub mod cachers;
mod census;
pub mod configuration;
pub mod discovering;
mod ground;
mod laid_out;
pub mod lifecycle;
pub mod processes;
mod recorder;
pub mod registering;
mod remote;
pub mod restart;
mod runner;
mod scene;
pub mod services;
pub mod shared;
pub mod takeover;

use anyhow::Result;
use futures_util::future::LocalBoxFuture;

pub use self::{
    census::{connections_to, nothing_is_left},
    ground::{Data, Ground, Makers, Need, Place, Site},
    laid_out::LaidOut,
    recorder::{Recorder, Seen, What},
    runner::run,
    scene::{AT_ONCE, ATTR, ATTR2, PERIOD, SHORT_TTL, Scene, TTL, Watching, becomes, fails, same, started},
};

/// One behaviour.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// Its file and function.
    pub name: &'static str,
    /// What it does; an error says what is wrong.
    pub play: for<'a> fn(&'a dyn Ground) -> LocalBoxFuture<'a, Result<()>>,
    /// It kills, hangs or counts, so that nobody else may use its server.
    pub own_server: bool,
    /// What not every backend can give, besides a server of its own.
    pub needs: &'static [Need],
}

impl Behaviour {
    const fn new(
        name: &'static str,
        play: for<'a> fn(&'a dyn Ground) -> LocalBoxFuture<'a, Result<()>>,
    ) -> Self {
        Self { name, play, own_server: false, needs: &[] }
    }

    const fn own_server(mut self) -> Self {
        self.own_server = true;
        self
    }

    fn all_needs(&self) -> impl Iterator<Item = Need> {
        self.own_server.then_some(Need::ServerOfItsOwn).into_iter().chain(self.needs.iter().copied())
    }

    const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }
}

macro_rules! behaviour {
    ($file:ident::$function:ident) => {
        Behaviour::new(concat!(stringify!($file), "::", stringify!($function)), |ground| {
            Box::pin($file::$function(ground))
        })
    };
}

/// All behaviours.
pub fn all() -> Vec<Behaviour> {
    [on_a_shared_server(), with_processes(), on_a_server_of_its_own(), on_a_hung_server()].concat()
}

fn on_a_shared_server() -> Vec<Behaviour> {
    vec![
        behaviour!(attrs::an_attr_that_is_too_long_is_rejected),
        behaviour!(attrs::an_update_after_stop_fails),
        behaviour!(attrs::an_update_before_start_is_what_is_registered),
        behaviour!(attrs::an_update_is_one_event_in_place),
        behaviour!(attrs::an_update_to_the_same_attr_is_no_event),
        behaviour!(attrs::any_attr_arrives_byte_for_byte),
        behaviour!(attrs::any_attr_can_become_any_other),
        behaviour!(attrs::the_last_update_wins),
        behaviour!(cachers::a_callback_may_start_tasks_that_register),
        behaviour!(cachers::a_panicking_cacher_harms_nobody_else),
        behaviour!(cachers::a_slow_cacher_harms_nobody_else),
        behaviour!(cachers::no_callback_follows_stop),
        behaviour!(cachers::no_callback_follows_stop_under_changes),
        behaviour!(cachers::stop_inside_a_callback_only_signals),
        behaviour!(cachers::stop_waits_for_a_running_callback),
        behaviour!(configuration::wrong_configurations_are_rejected_before_any_io),
        behaviour!(discovering::a_rolling_update_is_never_an_empty_list),
        behaviour!(discovering::all_watchers_see_the_same),
        behaviour!(discovering::an_unknown_service_is_empty_and_appears_later),
        behaviour!(discovering::deleted_and_altered_records_are_repaired),
        behaviour!(discovering::nobody_flickers_because_of_others),
        behaviour!(discovering::records_of_the_registrys_own_tools_are_seen),
        behaviour!(discovering::unreadable_records_are_skipped),
        behaviour!(lifecycle::a_cancelled_start_leaves_nothing_and_can_be_repeated),
        behaviour!(lifecycle::a_discovery_starts_once_and_stops_for_good),
        behaviour!(lifecycle::a_dropped_handle_is_forgotten_by_its_ttl),
        behaviour!(lifecycle::a_dropped_handle_on_a_shared_connection_is_withdrawn),
        behaviour!(lifecycle::a_discoverys_stop_that_races_with_its_start_is_final),
        behaviour!(lifecycle::a_registration_starts_once_and_stops_for_good),
        behaviour!(lifecycle::a_registrations_stop_that_races_with_its_start_is_final),
        behaviour!(lifecycle::dropping_a_discoverys_start_equals_stop),
        behaviour!(registering::deregisters_at_once),
        behaviour!(registering::heart_beats_keep_a_record_alive),
        behaviour!(registering::long_names_are_stored),
        behaviour!(registering::one_endpoint_can_serve_two_services),
        behaviour!(registering::prefixes_are_normalised).needs(&[Need::NormalisedPrefix]),
        behaviour!(registering::registers_at_once_and_is_listed),
        behaviour!(registering::services_and_prefixes_do_not_mix),
        behaviour!(registering::several_endpoints_of_one_service),
        behaviour!(registering::stop_is_idempotent),
        behaviour!(registering::the_first_list_comes_before_synced),
        behaviour!(registering::the_prefix_may_be_empty).needs(&[Need::EmptyPrefix]),
        behaviour!(services::names_appear_and_vanish_with_their_records).needs(&[Need::Names]),
        behaviour!(services::names_of_other_prefixes_are_not_ours).needs(&[Need::Names]),
        behaviour!(shared::a_registration_outlives_the_registry_handle),
        behaviour!(shared::closing_the_connection_ends_everything),
        behaviour!(shared::different_ttls_live_over_one_connection),
        behaviour!(shared::many_endpoints_come_and_go_at_once),
        behaviour!(shared::one_connection_serves_several_services),
        behaviour!(shared::one_end_does_not_end_the_others),
        behaviour!(shared::stop_and_start_do_not_race_over_one_connection),
        behaviour!(shared::the_later_start_wins_over_one_connection),
        behaviour!(takeover::a_record_made_by_hand_is_taken_over),
        behaviour!(takeover::a_takeover_is_one_update_and_survives_the_former_life),
        behaviour!(takeover::a_stop_never_removes_a_successors_record),
        behaviour!(takeover::a_superseded_one_returns_when_the_record_is_gone),
        behaviour!(takeover::an_attr_wanted_while_superseded_is_written_later),
        behaviour!(takeover::of_many_starts_at_once_one_remains),
        behaviour!(takeover::the_later_start_wins),
    ]
}

fn with_processes() -> Vec<Behaviour> {
    let all = [
        behaviour!(processes::a_killed_process_is_gone_in_time),
        behaviour!(processes::a_process_restarted_within_its_ttl_is_not_missed),
        behaviour!(processes::a_terminated_process_deregisters_at_once),
    ];
    all.map(|behaviour| behaviour.needs(&[Need::Processes])).to_vec()
}

fn on_a_server_of_its_own() -> Vec<Behaviour> {
    let all = [
        behaviour!(lifecycle::nothing_is_left_after_drop),
        behaviour!(lifecycle::nothing_is_left_after_stop),
        behaviour!(lifecycle::ready_returns_when_discovery_has_ended),
        behaviour!(lifecycle::start_fails_in_time_without_a_registry),
        behaviour!(lifecycle::stop_during_start_ends_it),
        behaviour!(restart::a_crashed_registry_keeps_the_last_known),
        behaviour!(restart::a_registration_says_that_it_is_retrying),
        behaviour!(restart::a_restart_with_its_data_is_noticed_by_nobody),
        behaviour!(restart::a_shared_connection_survives_a_restart),
        behaviour!(restart::after_an_outage_additions_come_at_once_and_removals_after_the_grace),
        behaviour!(restart::an_update_during_an_outage_is_written_afterwards),
        behaviour!(restart::discovery_waits_for_its_registry),
        behaviour!(restart::what_a_registry_lost_is_registered_again),
        behaviour!(restart::without_a_grace_removals_come_with_the_recovery),
        behaviour!(services::names_survive_a_restart).needs(&[Need::Names]),
        behaviour!(shared::a_shared_connection_waits_for_its_registry),
    ];
    all.map(Behaviour::own_server).to_vec()
}

fn on_a_hung_server() -> Vec<Behaviour> {
    let all = [
        behaviour!(lifecycle::stop_ends_in_time_on_a_hung_registry),
        behaviour!(restart::a_hung_registry_is_noticed_in_time),
        behaviour!(restart::a_hung_registry_is_noticed_within_15_s_by_default),
        behaviour!(shared::a_start_that_timed_out_can_be_repeated),
    ];
    all.map(|behaviour| behaviour.own_server().needs(&[Need::Hang])).to_vec()
}
