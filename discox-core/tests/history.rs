//! Histories in virtual time: what each fault leaves behind, and that asking for causes delays nothing.

#![allow(clippy::panic, clippy::unwrap_used)]

mod fixtures;
mod recorder;
mod sim;

use std::{sync::Arc, time::Duration};

use discox_core::{
    Connection, ConnectionConfig, Discover, EndpointCacher, HistoryEvent, LiteEndpoint, RegisterState,
    Registry as _,
};
use fixtures::{KEY, SECOND, connection, discover_config, numbered, register_config, run, settings, until};
use sim::{Net, SimLink, World};
use tokio::time::{Instant, sleep};

const BY_HAND: &str = "/sim/demo/10.0.0.2:1";
const HANDS: &str = "10.0.0.2:1";

fn texts(events: &[HistoryEvent]) -> Vec<String> {
    events.iter().map(ToString::to_string).collect()
}

/// Whether events of these beginnings are in a history, in this order.
fn tells(events: &[HistoryEvent], wanted: &[&str]) -> bool {
    let texts = texts(events);
    let mut texts = texts.iter();
    wanted.iter().all(|wanted| texts.any(|text| text.starts_with(wanted)))
}

struct Site {
    world: Arc<World>,
    shared: Connection<SimLink>,
    cache: Arc<LiteEndpoint>,
    discover: Arc<dyn Discover>,
}

impl Site {
    async fn start() -> Self {
        Self::with(settings()).await
    }

    async fn with(settings: ConnectionConfig) -> Self {
        let world = World::start();
        let shared = Connection::new(world.clone(), &settings).unwrap();
        let cache = Arc::new(LiteEndpoint::new());
        let discover = shared.discover(discover_config()).unwrap();
        run(&discover, cache.clone() as Arc<dyn EndpointCacher>);
        cache.ready().await;
        // Keeps the session alive.
        let (config, _) = numbered(1);
        let config = discox_core::RegisterConfig { service_name: "other".into(), ..config };
        let register = shared.register(config).unwrap();
        register.start().await.unwrap();
        std::mem::forget(register);
        Self { world, shared, cache, discover }
    }

    async fn told(&self, wanted: &[&str]) -> Vec<HistoryEvent> {
        let history = self.discover.history();
        let began = Instant::now();
        while !tells(&history.after(0), wanted) {
            assert!(began.elapsed() < 120 * SECOND, "{wanted:#?} is not in {:#?}", texts(&history.events()));
            sleep(Duration::from_millis(5)).await;
        }
        history.after(0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_and_the_end_of_a_session_are_told_apart() {
    let site = Site::start().await;
    site.world.put_by_hand(BY_HAND, "1");
    site.world.put_by_hand(BY_HAND, "2");
    site.told(&["synced, 0 endpoints", "added 10.0.0.2:1: it was written"]).await;
    site.world.delete_by_hand(BY_HAND);
    site.told(&["removed 10.0.0.2:1: it was deleted in the registry"]).await;

    let other = connection(&site.world);
    let register = other.register(register_config("x")).unwrap();
    register.start().await.unwrap();
    until("the registration", || site.cache.contains("10.0.0.1:8000")).await;
    register.stop().await.unwrap();
    site.told(&["added 10.0.0.1:8000", "removed 10.0.0.1:8000: it was deleted in the registry"]).await;

    let again = connection(&site.world).single_register(&register_config("x")).unwrap();
    again.start().await.unwrap();
    until("the registration", || site.cache.contains("10.0.0.1:8000")).await;
    site.world.end_session_of(KEY);
    site.told(&["removed 10.0.0.1:8000: its session has ended"]).await;
    assert!(again.history().is_on());
}

#[tokio::test(start_paused = true)]
async fn an_outage_a_hold_and_its_end_are_told() {
    let site = Site::start().await;
    site.world.put_by_hand(BY_HAND, "1");
    site.world.put_by_hand("/sim/demo/10.0.0.3:1", "1");
    until("two", || site.cache.len() == 2).await;
    site.world.net(Net::Dead);
    site.told(&["lost: memory at sim: "]).await;
    site.world.wipe();
    sleep(20 * SECOND).await;
    site.world.net(Net::Fine);
    let events = site.told(&["failed_over from member 1 to ", "held 10.0.0.", "recovered after 2"]).await;
    let held: Vec<_> = events.iter().filter(|event| event.kind.as_str() == "held").collect();
    assert_eq!(held.len(), 2, "{:#?}", texts(&events));
    assert!(
        held.iter().all(|event| event
            .to_string()
            .ends_with("by the grace for 15.0 s: it is missing from the list that was read")),
        "{:#?}",
        texts(&events)
    );
    site.world.put_by_hand("/sim/demo/10.0.0.3:1", "1");
    site.told(&["returned 10.0.0.3:1: it is in the list"]).await;
    assert_eq!(site.cache.len(), 2);
    site.told(&["released 10.0.0.2:1: it is missing from the list that was read"]).await;
    assert_eq!(site.cache.list(), ["10.0.0.3:1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_while_the_grace_holds_keeps_its_cause() {
    let site = Site::start().await;
    site.world.put_by_hand(BY_HAND, "1");
    until("one", || site.cache.len() == 1).await;
    site.world.net(Net::Partitioned);
    sleep(2 * SECOND).await;
    site.world.net(Net::Fine);
    site.told(&["recovered"]).await;
    site.world.delete_by_hand(BY_HAND);
    site.told(&["held 10.0.0.2:1 by the grace", "released 10.0.0.2:1: it was deleted in the registry"]).await;
    assert!(site.cache.is_empty());
}

#[tokio::test(start_paused = true)]
async fn to_ask_for_a_cause_delays_no_removal_and_takes_two_seconds_at_most() {
    let site = Site::start().await;
    site.world.put_by_hand(BY_HAND, "1");
    until("one", || site.cache.len() == 1).await;
    site.world.delay("why", 60 * SECOND);
    site.world.delete_by_hand(BY_HAND);
    assert!(until("none", || site.cache.is_empty()).await < SECOND / 2);
    let history = site.discover.history();
    assert!(tells(&history.events(), &["removed 10.0.0.2:1: the registry does not tell why"]));
    assert!(!tells(&history.after(0), &["removed"]));
    site.world.put_by_hand(BY_HAND, "1");
    let waited =
        until("the cause", || tells(&history.after(0), &["removed 10.0.0.2:1", "added 10.0.0.2:1"])).await;
    assert!(waited < 3 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn readers_wait_for_nothing_when_the_connection_is_lost_while_a_cause_is_asked_for() {
    let site = Site::start().await;
    site.world.put_by_hand(BY_HAND, "1");
    until("one", || site.cache.contains(HANDS)).await;
    site.world.delay("why", 60 * SECOND);
    site.world.delete_by_hand(BY_HAND);
    until("none", || site.cache.is_empty()).await;
    site.discover.stop().await;
    let texts = texts(&site.discover.history().after(0));
    let last: Vec<_> = texts.iter().rev().take(2).map(String::as_str).collect();
    assert_eq!(last, ["stopped", "removed 10.0.0.2:1: the registry does not tell why"]);
}

#[tokio::test(start_paused = true)]
async fn a_registration_tells_its_losses_repairs_and_its_end() {
    let site = Site::start().await;
    let register = site.shared.register(register_config("1")).unwrap();
    register.start().await.unwrap();
    let history = register.history();
    register.update_attr("2").await.unwrap();
    site.world.delete_by_hand(KEY);
    until("the repair", || tells(&history.after(0), &["repaired"])).await;
    site.world.put_by_hand(KEY, "altered");
    until("the repair", || {
        tells(&history.after(0), &["lost 10.0.0.1:8000: the record is altered", "repaired"])
    })
    .await;
    site.world.net(Net::Dead);
    sleep(3 * SECOND).await;
    site.world.net(Net::Fine);
    until("the repair", || register.status().state == RegisterState::Registered).await;
    register.stop().await.unwrap();
    let texts = texts(&history.events());
    let begins = [
        "registered 10.0.0.1:8000 with a TTL of 6.0 s: the program asked",
        "changed 10.0.0.1:8000: the program asked",
        "lost 10.0.0.1:8000: the record is gone",
        "repaired 10.0.0.1:8000 after ",
        "lost 10.0.0.1:8000: the record is altered",
        "repaired 10.0.0.1:8000 after ",
        "lost 10.0.0.1:8000: memory at sim: ",
        "failed_over 10.0.0.1:8000 from member 1 to ",
        "repaired 10.0.0.1:8000 after ",
        "withdrawn 10.0.0.1:8000: the program asked",
    ];
    assert_eq!(texts.len(), begins.len(), "{texts:#?}");
    for (text, begin) in texts.iter().zip(begins) {
        assert!(text.starts_with(begin), "{begin} is not in its place in {texts:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registration_tells_who_has_taken_over() {
    let site = Site::start().await;
    let first = site.shared.register(register_config("1")).unwrap();
    first.start().await.unwrap();
    let other = connection(&site.world);
    let second = other.register(register_config("2")).unwrap();
    second.start().await.unwrap();
    let history = first.history();
    until("the word", || {
        tells(
            &history.after(0),
            &[
                "registered",
                "superseded 10.0.0.1:8000: another incarnation",
                "superseded 10.0.0.1:8000: held by another",
            ],
        )
    })
    .await;
    second.stop().await.unwrap();
    until("the repair", || tells(&history.after(0), &["repaired"])).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_registration_and_a_refused_withdrawal_are_told() {
    let site = Site::start().await;
    site.world.deny(KEY, true);
    let register = site.shared.register(register_config("1")).unwrap();
    register.start().await.unwrap_err();
    let history = register.history();
    assert!(
        tells(&history.after(0), &["failed 10.0.0.1:8000: memory at sim: register"]),
        "{:#?}",
        texts(&history.events())
    );
    site.world.deny(KEY, false);
    register.start().await.unwrap();
    site.world.deny(KEY, true);
    register.stop().await.unwrap_err();
    until("the word", || tells(&history.after(0), &["registered", "not_withdrawn 10.0.0.1:8000"])).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_when_it_is_off() {
    let site = Site::with(ConnectionConfig { history: 0, ..settings() }).await;
    site.world.put_by_hand(BY_HAND, "1");
    until("one", || site.cache.len() == 1).await;
    site.world.net(Net::Dead);
    sleep(SECOND).await;
    site.world.net(Net::Fine);
    site.world.delete_by_hand(BY_HAND);
    until("none", || site.cache.is_empty()).await;
    let history = site.discover.history();
    assert!(!history.is_on() && history.events().is_empty());
}
