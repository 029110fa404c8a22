//! What users see when a real etcd goes away, hangs, restarts or forgets.

mod common;

use std::{slice::from_ref, sync::Arc, time::Duration};

use anyhow::Result;
use common::*;
use discox_core::backend::{Link, Watch};
use discox_etcd::{
    ConnectionConfig, DiscoverConfig, Etcd, LiteEndpoint, RegisterConfig, RegisterState, Registry,
    RegistryConfig,
};
use discox_testkit::{
    server::{Data, Kind, Servers},
    wait::eventually,
};
use tokio::time::{Instant, timeout};

/// A hung server is noticed within this time.
const DETECTION: Duration = Duration::from_secs(3);

fn registry(addresses: &[String]) -> Result<Arc<dyn Registry>> {
    let connection = ConnectionConfig { detection: DETECTION, ..Default::default() };
    let backend_endpoints = addresses.to_vec();
    Ok(discox_etcd::connect(RegistryConfig { backend_endpoints, connection, ..Default::default() })?)
}

fn discovery() -> DiscoverConfig {
    DiscoverConfig { discover_prefix: PREFIX.into(), service_name: "demo".into(), ..Default::default() }
}

async fn watch(registry: &Arc<dyn Registry>) -> Result<Arc<LiteEndpoint>> {
    let (discover, cache) = (registry.discover(discovery())?, Arc::new(LiteEndpoint::new()));
    tokio::spawn({
        let cache = cache.clone();
        async move { discover.start(cache).await }
    });
    cache.ready().await;
    Ok(cache)
}

/// How long it takes until the connection is known to be lost.
async fn lost(registry: &Arc<dyn Registry>) -> Result<Duration> {
    let began = Instant::now();
    eventually(DEADLINE, "the loss to be noticed", async || registry.trouble().is_some()).await?;
    Ok(began.elapsed())
}

async fn back(registry: &Arc<dyn Registry>) -> Result<()> {
    eventually(DEADLINE, "the connection to be back", async || registry.trouble().is_none()).await
}

/// Waits until the record is in the registry.
async fn written(etcd: &Servers) -> Result<Duration> {
    let began = Instant::now();
    let there = async || value(etcd.member(0), A_KEY).await.is_ok_and(|value| value.as_deref() == Some("1"));
    eventually(DEADLINE, "the record to be there", there).await?;
    Ok(began.elapsed())
}

#[tokio::test]
async fn registers_discovers_updates_and_stops() -> Result<()> {
    let etcd = Servers::single(Kind::Etcd).await?;
    let before = tasks();
    let backend_endpoints = etcd.addresses();
    let register = discox_etcd::new_register(RegisterConfig {
        backend_endpoints: backend_endpoints.clone(),
        ..registration(A, 3)
    })?;
    register.start().await?;
    let discover = discox_etcd::new_discover(DiscoverConfig { backend_endpoints, ..discovery() })?;
    let cache = Arc::new(LiteEndpoint::new());
    let watching = tokio::spawn({
        let (discover, cache) = (discover.clone(), cache.clone());
        async move { discover.start(cache).await }
    });
    cache.ready().await;
    assert_eq!(cache.list(), [A]);
    register.update_attr("2").await?;
    eventually(DEADLINE, "the attr", async || cache.attr(A).as_deref() == Some(b"2")).await?;
    register.stop().await?;
    eventually(DEADLINE, "the end of the endpoint", async || cache.is_empty()).await?;
    discover.stop().await;
    watching.await??;
    drop((register, discover));
    eventually(DEADLINE, "the last task to end", async || tasks() <= before).await?;
    assert!(leases(etcd.member(0)).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_lease_is_kept_beyond_its_ttl_without_an_event() -> Result<()> {
    let etcd = etcd().await?;
    let registry = registry(&etcd.addresses())?;
    let register = registry.register(registration(A, 2))?;
    register.start().await?;
    let observer = link(&etcd).await?;
    let (list, mut watch) = open(&observer).await?;
    assert_eq!(list.len(), 1);
    let quiet = timeout(Duration::from_secs(5), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    drop((register, registry));
    let began = Instant::now();
    assert_eq!(next(&mut watch).await?, [delete(A)]);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_killed_server_is_noticed_at_once_by_a_registrar() -> Result<()> {
    let etcd = etcd().await?;
    let registry = registry(&etcd.addresses())?;
    let register = registry.register(registration(A, 60))?;
    register.start().await?;
    etcd.member(0).kill().await?;
    let after = lost(&registry).await?;
    assert!(after < Duration::from_secs(1), "{after:?}");
    Ok(())
}

#[tokio::test]
async fn a_killed_server_is_noticed_at_once_by_a_watcher() -> Result<()> {
    let etcd = etcd().await?;
    let registry = registry(&etcd.addresses())?;
    watch(&registry).await?;
    etcd.member(0).kill().await?;
    let after = lost(&registry).await?;
    assert!(after < Duration::from_secs(1), "{after:?}");
    Ok(())
}

#[tokio::test]
async fn a_hung_server_is_noticed_in_time_and_found_again() -> Result<()> {
    let etcd = etcd().await?;
    let registry = registry(&etcd.addresses())?;
    let cache = watch(&registry).await?;
    etcd.member(0).pause().await?;
    let after = lost(&registry).await?;
    assert!(after < DETECTION, "{after:?}");
    etcd.member(0).resume().await?;
    back(&registry).await?;
    etcd.member(0).tool(&["put", A_KEY, "1"]).await?;
    eventually(DEADLINE, "what was written since", async || cache.list() == [A]).await
}

#[tokio::test]
async fn a_restart_with_data_changes_nothing() -> Result<()> {
    let etcd = etcd().await?;
    let registry = registry(&etcd.addresses())?;
    let register = registry.register(registration(A, 15))?;
    register.start().await?;
    let cache = watch(&registry).await?;
    let written = async || {
        let fields = etcd.member(0).tool(&["get", A_KEY, "-w", "fields"]).await?;
        let telling =
            fields.lines().filter(|line| line.contains("\"ModRevision\"") || line.contains("\"Lease\""));
        anyhow::Ok(telling.map(str::to_owned).collect::<Vec<_>>())
    };
    let before = written().await?;
    assert_eq!(before.len(), 2);
    let mut changes = cache.changes();
    changes.next().await;
    etcd.member(0).kill().await?;
    lost(&registry).await?;
    etcd.member(0).start(Data::Kept).await?;
    let registered = async || register.status().state == RegisterState::Registered;
    eventually(DEADLINE, "the registration", registered).await?;
    assert_eq!(written().await?, before, "nothing was written");
    assert!(
        timeout(Duration::from_secs(1), changes.next()).await.is_err(),
        "a watcher was told of something"
    );
    Ok(())
}

#[tokio::test]
async fn it_is_registered_again_after_the_server_lost_its_data() -> Result<()> {
    let etcd = etcd().await?;
    let registry = registry(&etcd.addresses())?;
    let register = registry.register(registration(A, 60))?;
    register.start().await?;
    let cache = watch(&registry).await?;
    etcd.member(0).kill().await?;
    etcd.member(0).start(Data::Wiped).await?;
    let after = written(&etcd).await?;
    assert!(after < Duration::from_secs(3), "{after:?}");
    assert_eq!(cache.list(), [A]);
    Ok(())
}

#[tokio::test]
async fn a_revoked_lease_is_replaced_within_a_heart_beat() -> Result<()> {
    let etcd = etcd().await?;
    let registry = registry(&etcd.addresses())?;
    let register = registry.register(registration(A, 60))?;
    register.start().await?;
    for lease in leases(etcd.member(0)).await? {
        etcd.member(0).tool(&["lease", "revoke", &lease]).await?;
    }
    let after = written(&etcd).await?;
    assert!(after < Duration::from_secs(2), "{after:?}");
    let registered = async || register.status().state == RegisterState::Registered;
    eventually(DEADLINE, "the registration's state", registered).await
}

#[tokio::test]
async fn what_a_request_writes_after_its_withdrawal_is_removed() -> Result<()> {
    let etcd = etcd().await?;
    let registry = registry(&etcd.addresses())?;
    let other = registry.register(registration("10.0.0.2:80", 60))?;
    other.start().await?;
    let lease = format!("--lease={}", leases(etcd.member(0)).await?.concat());
    let register = registry.register(registration(A, 60))?;
    etcd.member(0).pause().await?;
    let given_up = timeout(Duration::from_millis(500), register.start()).await;
    assert!(given_up.is_err(), "{given_up:?}");
    etcd.member(0).resume().await?;
    let write_late = async || {
        etcd.member(0).tool(&["put", &lease, A_KEY, "late"]).await?;
        let began = Instant::now();
        let gone = async || value(etcd.member(0), A_KEY).await.is_ok_and(|value| value.is_none());
        eventually(DEADLINE, "the late record to be removed", gone).await?;
        anyhow::Ok(began.elapsed())
    };
    // That may still have been the withdrawal itself.
    if write_late().await? < Duration::from_secs(5) {
        write_late().await?;
    }
    assert_eq!(other.status().state, RegisterState::Registered);
    Ok(())
}

#[tokio::test]
async fn a_member_without_quorum_is_left_for_another() -> Result<()> {
    let etcd = Servers::cluster(Kind::Etcd).await?;
    // Their connections are to members chosen at random.
    let registries = (0..6).map(|_| registry(&etcd.addresses())).collect::<Result<Vec<_>>>()?;
    let mut registrations = Vec::new();
    for (port, registry) in (1..).zip(&registries) {
        let register = registry.register(registration(&format!("10.0.0.2:{port}"), 15))?;
        register.start().await?;
        registrations.push(register);
    }
    let (leader, member) = etcd.elected().await?;
    member.cut_off().await?;
    let rest = etcd.member((leader + 1) % 3);
    // Longer than the TTL: only who has moved on is still there.
    let beyond = Instant::now() + Duration::from_secs(20);
    let stays = async || {
        let listed = rest.tool(&["get", PREFIX, "--prefix", "--keys-only"]).await;
        Instant::now() > beyond && listed.is_ok_and(|keys| keys.split_whitespace().count() == 6)
    };
    eventually(2 * DEADLINE, "all records, after the TTL", stays).await?;
    for register in registrations {
        assert_eq!(register.status().state, RegisterState::Registered);
    }
    member.rejoin().await
}

#[tokio::test]
async fn a_member_without_quorum_confirms_no_record() -> Result<()> {
    let etcd = Servers::cluster(Kind::Etcd).await?;
    let member = etcd.member(0);
    let link = Etcd::connect(&connector(&[member.address().to_owned()])?).await?;
    let held = hold(&link, record(A, 60)?, "1").await?;
    assert_eq!(link.verify(from_ref(&held)).await?, []);
    member.cut_off().await?;
    // It has the record as it was, and does not know what has become of it since.
    let confirmed = timeout(Duration::from_secs(3), link.verify(from_ref(&held))).await;
    assert!(!matches!(confirmed, Ok(Ok(_))), "{confirmed:?}");
    member.rejoin().await?;
    let confirmed = async || link.verify(from_ref(&held)).await.is_ok_and(|lost| lost.is_empty());
    eventually(DEADLINE, "the record to be confirmed again", confirmed).await
}
