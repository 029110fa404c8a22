//! The link on a real Consul: what is stored, how it is fenced, and how a loss shows.

#![allow(clippy::unwrap_used)]

mod common;

use std::{slice::from_ref, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use common::*;
use discox_consul::{Consul, ErrorKind};
use discox_core::{
    backend::{Held, Link, Loss, Replace, Source, Watch},
    record::{Record, Service},
};
use discox_testkit::{
    server::{Kind, Servers},
    wait::eventually,
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

#[tokio::test]
async fn a_record_is_what_consul_shows_and_back() -> Result<()> {
    let servers = consul().await?;
    let (server, at) = (servers.member(0), servers.member(0).address());
    let link = link(at).await?;
    let attr = "{\"weight\":1,\"name\":\"Grüße\",\"more\":{}}";
    let registered = link.register(&record(A)?, attr, Replace::Anyone).await?;
    assert_eq!(registered.ttl, Duration::from_secs(60));

    let service = only_service(at).await?;
    let id = service["ID"].as_str().context("no ID")?;
    assert!(id.starts_with("demo-10.0.0.1-80-") && id.len() > 40, "{id}");
    assert_eq!((&service["Service"], &service["Address"]), (&"demo".into(), &"10.0.0.1".into()));
    assert_eq!((&service["Port"], &service["Meta"]["weight"]), (&80.into(), &"1".into()));
    assert_eq!(service["Meta"]["name"], "Grüße");
    assert_eq!(service["Meta"]["discox-prefix"], PREFIX);
    assert_eq!(service["Meta"]["more"], json!(null));
    let check = get(at, &format!("health/checks/demo?filter=CheckID=={:?}", format!("service:{id}"))).await?;
    assert_eq!((&check[0]["Status"], &check[0]["Name"]), (&"passing".into(), &"discox heart beat".into()));

    server
        .tool(&["services", "register", "-name=demo", "-address=::1", "-port=1", "-meta=z=1", "-meta=a=2"])
        .await?;
    server.tool(&["services", "register", "-name=demo", "-id=no-port", "-address=10.0.0.9"]).await?;
    server
        .tool(&["services", "register", "-name=Demo", "-id=capital", "-address=10.0.0.8", "-port=1"])
        .await?;
    let expected = [("10.0.0.1:80", attr), ("[::1]:1", r#"{"a":"2","z":"1"}"#)];
    let (mut first, mut watch) = open(&link).await?;
    while first != list(&expected) {
        first = next(&mut watch).await?;
    }
    server.tool(&["services", "deregister", "-id=demo"]).await?;
    until(&mut watch, &expected, &expected[..1]).await?;

    // Consul's catalogue takes them for one; we do not.
    assert_eq!(source(&link, "Demo")?.open().await?.0, [("10.0.0.8:1".into(), "{}".into())]);
    assert_eq!(source(&link, "nothing")?.open().await?.0, []);
    let other_prefix = Service::parse("/elsewhere", "demo")?;
    assert_eq!(link.source(&other_prefix, &Default::default()).open().await?.0, []);
    Ok(())
}

#[tokio::test]
async fn the_longest_attrs_come_back_and_change_in_place() -> Result<()> {
    let servers = consul().await?;
    let link = link(servers.member(0).address()).await?;
    let record = record(A)?;
    let most_pairs: std::collections::BTreeMap<String, u32> =
        (0..200).map(|i| (format!("key-{i}"), i)).collect();
    let attrs = [
        String::new(),
        "\0\u{1}\r\n\"\\\u{2028}<&>\u{fffd}".into(),
        serde_json::to_string(&most_pairs)?,
        "x".repeat(Consul::ATTR_LIMIT),
        "€".repeat(Consul::ATTR_LIMIT / 3),
        format!("a{}", "\u{10348}".repeat((Consul::ATTR_LIMIT - 1) / 4)),
    ];
    link.register(&record, "first", Replace::Anyone).await?;
    let (mut before, mut watch) = open(&link).await?;
    for attr in &attrs {
        link.register(&record, attr, Replace::OnlyOwn).await?;
        let now = next(&mut watch).await?;
        assert_eq!(now, list(&[(A, attr)]), "after {before:?}");
        before = now;
    }
    Ok(())
}

#[tokio::test]
async fn names_of_all_kinds_are_kept_apart() -> Result<()> {
    let servers = consul().await?;
    let link = link(servers.member(0).address()).await?;
    let names =
        ["de mo", " demo ", "dé-мо", "a%2Fb", "a?b=c", "a#b", "a+b", "a&b", "a\"b\\", "..a", "consul"];
    let mut held = Vec::new();
    for (name, port) in names.iter().zip(1..) {
        let mut config = registration(&format!("[2001:db8::1]:{port}"));
        config.service_name = (*name).into();
        held.push(hold(&link, Record::parse(&config)?, name).await?);
    }
    assert_eq!(link.verify(&held).await?, []);
    for (name, port) in names.iter().zip(1..) {
        let source = source(&link, name)?;
        let endpoint = format!("[2001:db8::1]:{port}");
        eventually(DEADLINE, name, async || {
            // `consul` has the server's own record, too.
            let list = sorted(source.open().await.ok()?.0);
            list.contains(&(endpoint.clone(), name.to_string().into())).then_some(())
        })
        .await?;
    }
    for held in &held {
        link.withdraw(&held.record, Some(&held.receipt)).await?;
    }
    assert!(services(servers.member(0).address()).await?.is_empty());
    Ok(())
}

/// Our own check rejects such a name; should Consul know of more, its answer is final, too.
#[tokio::test]
async fn what_consul_rejects_is_final() -> Result<()> {
    let servers = consul().await?;
    let link = link(servers.member(0).address()).await?;
    for name in ["de\u{a0}mo", "de\u{200b}mo"] {
        let service = Service::parse(PREFIX, name)?;
        let connector = connector(&["h".into()])?;
        let rejected = Consul::check_service(&connector, &service).unwrap_err();
        assert_eq!(rejected.field(), Some("service_name"), "{rejected}");
        let mut config = registration(A);
        config.service_name = name.into();
        let registered = link.register(&Record::parse(&config)?, "1", Replace::Anyone).await;
        let opened = source(&link, name)?.open().await.map(drop);
        for error in [registered.map(drop).unwrap_err(), opened.unwrap_err()] {
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains("400"), "{error}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_take_over_is_one_change_and_the_later_start_wins() -> Result<()> {
    let servers = consul().await?;
    let at = servers.member(0).address();
    let (earlier, later) = (link(at).await?, link(at).await?);
    let held = hold(&earlier, record(A)?, "1").await?;
    let (_, mut watch) = open(&earlier).await?;

    let theirs = hold(&later, record(A)?, "2").await?;
    until(&mut watch, &[(A, "1")], &[(A, "2")]).await?;
    only_service(at).await?;
    assert_eq!(earlier.verify(from_ref(&held)).await?, [(0, Loss::Superseded)]);
    let taken_back = earlier.register(&held.record, "1", Replace::OnlyOwn).await;
    assert_eq!(taken_back.err().map(|error| error.kind()), Some(ErrorKind::Superseded));
    let updated = earlier.update(&held.record, "3", &held.receipt).await;
    assert_eq!(updated.err().map(|error| error.kind()), Some(ErrorKind::Superseded));
    earlier.withdraw(&held.record, Some(&held.receipt)).await?;
    earlier.withdraw(&held.record, None).await?;
    assert_eq!(later.verify(from_ref(&theirs)).await?, []);

    later.withdraw(&theirs.record, Some(&theirs.receipt)).await?;
    until(&mut watch, &[(A, "2")], &[]).await?;
    later.withdraw(&theirs.record, Some(&theirs.receipt)).await?;
    eventually(DEADLINE, "the endpoint to be free", async || {
        earlier.register(&held.record, "3", Replace::OnlyOwn).await.is_ok()
    })
    .await?;
    until(&mut watch, &[], &[(A, "3")]).await?;
    Ok(())
}

/// One that started at the same time may remove the record before it is complete: core would try again.
async fn start(link: &Arc<Consul>) -> Result<Held<<Consul as Link>::Receipt>> {
    loop {
        match hold(link, record(A)?, "x").await {
            Err(error) if error.to_string().contains("removed at once") => {}
            held => return held,
        }
    }
}

#[tokio::test]
async fn simultaneous_starts_leave_exactly_one() -> Result<()> {
    let servers = consul().await?;
    let at = servers.member(0).address();
    let mut links = Vec::new();
    for _ in 0..8 {
        links.push(link(at).await?);
    }
    for round in 0..5 {
        let starts = links.iter().map(start);
        let held = futures_util::future::try_join_all(starts).await?;
        only_service(at).await.with_context(|| format!("round {round}"))?;
        let mut kept = 0;
        for (link, held) in links.iter().zip(&held) {
            match &*link.verify(from_ref(held)).await? {
                [] => kept += 1,
                [(0, Loss::Superseded)] => {}
                other => bail!("{other:?}"),
            }
        }
        assert_eq!(kept, 1);
    }
    Ok(())
}

/// A service that was changed after a snapshot, and a watch that has seen it. No agent looks after it: nobody but us
/// writes to it.
struct Restorable {
    servers: Servers,
    link: Arc<Consul>,
    file: String,
}

impl Restorable {
    async fn start() -> Result<Self> {
        let servers = consul().await?;
        let at = servers.member(0).address();
        let service = json!({ "ID": "other", "Service": "demo", "Address": "10.0.0.1", "Port": 80 });
        let body = json!({ "Node": "other", "Address": "10.0.0.9", "Service": service });
        put(at, "catalog/register", &body).await?;
        let link = link(at).await?;
        let file = format!("/tmp/discox-test-{at}.snapshot");
        servers.member(0).tool(&["snapshot", "save", &file]).await?;
        Ok(Self { servers, link, file })
    }

    async fn change(&self) -> Result<impl Watch + use<>> {
        let (there, mut watch) = open(&self.link).await?;
        assert_eq!(there, list(&[(A, "{}")]));
        let gone = json!({ "Node": "other", "ServiceID": "other" });
        put(self.servers.member(0).address(), "catalog/deregister", &gone).await?;
        until(&mut watch, &[(A, "{}")], &[]).await?;
        Ok(watch)
    }

    /// The service's index is behind what the watch has seen then, and stays there.
    async fn restore(&self) -> Result<()> {
        self.servers.member(0).tool(&["snapshot", "restore", &self.file]).await.map(drop)
    }
}

impl Drop for Restorable {
    fn drop(&mut self) {
        // It is not there where the server has a file system of its own.
        let _ = std::fs::remove_file(&self.file);
    }
}

/// That the registry lost its state, and what the list is then.
async fn loses(consul: &Restorable, watch: &mut impl Watch) -> Result<()> {
    let lost = async {
        loop {
            if let Err(error) = watch.next().await {
                return error;
            }
        }
    };
    let error = timeout(DEADLINE, lost).await?;
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("went back"), "{error}");
    assert_eq!(open(&consul.link).await?.0, list(&[(A, "{}")]));
    Ok(())
}

#[tokio::test]
async fn a_snapshot_that_was_restored_between_two_queries_is_noticed() -> Result<()> {
    let consul = Restorable::start().await?;
    let mut watch = consul.change().await?;
    consul.restore().await?;
    loses(&consul, &mut watch).await
}

#[tokio::test]
async fn a_record_that_the_catalogue_takes_for_dead_is_told_again() -> Result<()> {
    let servers = consul().await?;
    let at = servers.member(0).address();
    let link = link(at).await?;
    let held = hold(&link, record(A)?, "1").await?;
    let (there, mut watch) = open(&link).await?;
    assert_eq!(there, list(&[(A, "1")]));
    let instance = get(at, "health/service/demo").await?[0].clone();
    let (node, id) = (&instance["Node"], &instance["Service"]["ID"]);
    let check = json!({
        "Node": node["Node"], "Name": "check", "ServiceID": id, "Status": "critical",
        "CheckID": format!("service:{}", id.as_str().context("no ID")?),
    });
    let dead = json!({ "Node": node["Node"], "Address": node["Address"], "Check": check });
    // The agent looks after it by itself once a minute, and just after its start.
    let patience = Duration::from_secs(4);
    let mut is_left_alone = false;
    for _ in 0..10 {
        put(at, "catalog/register", &dead).await?;
        let Ok(died) = timeout(patience, until(&mut watch, &[(A, "1")], &[])).await else { continue };
        died?;
        let Ok(repaired) = timeout(patience, until(&mut watch, &[], &[(A, "1")])).await else {
            is_left_alone = true;
            break;
        };
        repaired?;
    }
    assert!(is_left_alone);
    assert_eq!(link.verify(from_ref(&held)).await?, []);
    let began = Instant::now();
    until(&mut watch, &[], &[(A, "1")]).await?;
    assert!(began.elapsed() < patience, "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn what_happens_to_a_record_by_hand_is_found_and_mended() -> Result<()> {
    let servers = consul().await?;
    let (server, at) = (servers.member(0), servers.member(0).address());
    let link = link(at).await?;
    let mut held = hold(&link, record(A)?, "1").await?;
    let id = only_service(at).await?["ID"].as_str().context("no ID")?.to_owned();
    assert_eq!(link.verify(from_ref(&held)).await?, []);

    server.tool(&["services", "deregister", &format!("-id={id}")]).await?;
    assert_eq!(link.verify(from_ref(&held)).await?, [(0, Loss::Gone)]);
    held.receipt = link.register(&held.record, "1", Replace::OnlyOwn).await?.receipt;
    assert_eq!(link.verify(from_ref(&held)).await?, []);

    let altered =
        json!({"ID": id, "Name": "demo", "Address": "10.0.0.1", "Port": 80, "Meta": {"discox": "1"}});
    put(at, "agent/service/register", &altered).await?;
    assert_eq!(link.verify(from_ref(&held)).await?, [(0, Loss::Altered)]);
    held.receipt = link.register(&held.record, "1", Replace::OnlyOwn).await?.receipt;

    put(at, &format!("agent/check/deregister/service:{id}"), &json!({})).await?;
    assert_eq!(link.verify(from_ref(&held)).await?, [(0, Loss::Gone)], "nothing would notice our death");
    held.receipt = link.register(&held.record, "1", Replace::OnlyOwn).await?.receipt;

    // Only the catalogue's copy: the agent knows nothing of it. (Again and again, because the agent may
    // not yet have passed the registration on.)
    let node = get(at, "agent/self").await?["Config"]["NodeName"].clone();
    eventually(DEADLINE, "the loss to be found", async || {
        put(at, "catalog/deregister", &json!({"Node": node, "ServiceID": id})).await.ok()?;
        (link.verify(from_ref(&held)).await.ok()? == [(0, Loss::Gone)]).then_some(())
    })
    .await?;
    let (_, mut watch) = open(&link).await?;
    link.register(&held.record, "1", Replace::OnlyOwn).await?;
    until(&mut watch, &[], &[(A, "1")]).await
}

#[tokio::test]
async fn a_record_without_heart_beats_is_not_served_until_they_go_on() -> Result<()> {
    let servers = consul().await?;
    let link = link(servers.member(0).address()).await?;
    let mut config = registration(A);
    config.ttl = Some(Duration::from_secs(2));
    let held = hold(&link, Record::parse(&config)?, "1").await?;
    let (_, mut watch) = open(&link).await?;
    until(&mut watch, &[(A, "1")], &[]).await?;
    // A check stays critical when its service is registered again; registering passes it.
    link.register(&held.record, "2", Replace::OnlyOwn).await?;
    until(&mut watch, &[], &[(A, "2")]).await?;
    until(&mut watch, &[(A, "2")], &[]).await?;

    // Whose process is dead does not hold the endpoint any longer.
    let other = hold(&link, record(A)?, "3").await?;
    until(&mut watch, &[], &[(A, "3")]).await?;
    link.withdraw(&other.record, Some(&other.receipt)).await?;
    Ok(())
}

#[tokio::test]
async fn an_operators_maintenance_survives() -> Result<()> {
    let servers = consul().await?;
    let (server, at) = (servers.member(0), servers.member(0).address());
    let link = link(at).await?;
    let mut held = hold(&link, record(A)?, "1").await?;
    let (_, mut watch) = open(&link).await?;
    let service = format!("-service={}", only_service(at).await?["ID"].as_str().context("no ID")?);

    server.tool(&["maint", "-enable", &service, "-reason=test"]).await?;
    until(&mut watch, &[(A, "1")], &[]).await?;
    assert_eq!(link.verify(from_ref(&held)).await?, []);
    held.receipt = link.register(&held.record, "2", Replace::OnlyOwn).await?.receipt;
    held.receipt = link.register(&held.record, "3", Replace::Anyone).await?.receipt;
    assert_eq!(link.verify(from_ref(&held)).await?, []);
    let checks = get(at, "agent/checks").await?;
    assert!(
        checks.as_object().context("no checks")?.keys().any(|id| id.starts_with("_service_maintenance:"))
    );
    assert_eq!(open(&link).await?.0, list(&[]));

    server.tool(&["maint", "-disable", &service]).await?;
    until(&mut watch, &[], &[(A, "3")]).await?;
    Ok(())
}

#[tokio::test]
async fn with_a_health_check_consul_decides() -> Result<()> {
    let servers = consul().await?;
    let at = servers.member(0).address();
    let link = link(at).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = listener.local_addr()?;
    let mut config = registration(A);
    config.health_check_endpoint = Some(format!("{target}/health"));
    let held = hold(&link, Record::parse(&config)?, "1").await?;
    assert_eq!(open(&link).await?.0, list(&[]), "served before its first pass");
    assert_eq!(link.verify(from_ref(&held)).await?, []);
    let check = get(at, "agent/checks").await?;
    let id = check.as_object().and_then(|checks| checks.keys().next()).context("no check")?.clone();
    assert_eq!(
        (&check[&id]["Name"], &check[&id]["Status"]),
        (&"discox health check".into(), &"critical".into())
    );

    put(at, &format!("agent/check/deregister/{id}"), &json!({})).await?;
    assert_eq!(link.verify(from_ref(&held)).await?, [(0, Loss::Altered)]);
    link.register(&held.record, "1", Replace::OnlyOwn).await?;
    assert_eq!(open(&link).await?.0, list(&[]));
    Ok(())
}

#[tokio::test]
async fn a_health_check_that_passes_serves_and_updates_without_flicker() -> Result<()> {
    let servers = consul().await?;
    let (at, port) =
        (servers.member(0).address(), servers.member(0).address().rsplit(':').next().context("no port")?);
    let link = link(at).await?;
    let mut config = registration(A);
    // The agent answers for the service: it reaches itself in a container, too.
    let inside = if get(at, "agent/self").await?["DebugConfig"]["HTTPPort"] == 8500 { "8500" } else { port };
    config.health_check_endpoint = Some(format!("127.0.0.1:{inside}/v1/status/leader"));
    let record = Record::parse(&config)?;
    let (_, mut watch) = open(&link).await?;
    link.register(&record, "1", Replace::Anyone).await?;
    until(&mut watch, &[], &[(A, "1")]).await?;
    link.register(&record, "2", Replace::OnlyOwn).await?;
    until(&mut watch, &[(A, "1")], &[(A, "2")]).await?;
    Ok(())
}

#[tokio::test]
async fn a_take_over_by_another_agent_is_learnt_and_leaves_one_record() -> Result<()> {
    let servers = Servers::cluster(Kind::Consul).await?;
    let (here, there) = (servers.member(0).address(), servers.member(1).address());
    let (earlier, later) = (link(here).await?, link(there).await?);
    let held = hold(&earlier, record(A)?, "1").await?;
    let (_, mut watch) = open(&earlier).await?;
    let theirs = hold(&later, record(A)?, "2").await?;
    until(&mut watch, &[(A, "1")], &[(A, "2")]).await?;
    eventually(DEADLINE, "the earlier one to learn it", async || {
        matches!(earlier.verify(from_ref(&held)).await.as_deref(), Ok([(0, Loss::Superseded)]))
    })
    .await?;
    assert!(services(here).await?.is_empty(), "it would come to light again when the later one stops");
    assert_eq!(later.verify(from_ref(&theirs)).await?, []);
    later.withdraw(&theirs.record, Some(&theirs.receipt)).await?;
    until(&mut watch, &[(A, "2")], &[]).await?;
    Ok(())
}

#[tokio::test]
async fn what_may_not_be_read_is_denied_and_not_empty() -> Result<()> {
    let config = "acl { enabled = true default_policy = \"deny\" }";
    let servers = Servers::builder(Kind::Consul).config(config).start().await?;
    let link = link(servers.member(0).address()).await?;
    let opened = eventually(DEADLINE, "a denial for want of rights", async || {
        // Before the ACL system is set up it says other things, denials among them.
        let error = source(&link, "demo").ok()?.open().await.err()?;
        error.to_string().contains("not permitted").then_some(error)
    })
    .await?;
    assert_eq!(opened.kind(), ErrorKind::Denied, "{opened}");
    let registered = link.register(&record(A)?, "1", Replace::Anyone).await;
    assert_eq!(registered.err().map(|error| error.kind()), Some(ErrorKind::Denied));
    Ok(())
}

#[tokio::test]
async fn verifying_many_finds_each_loss_by_its_position() -> Result<()> {
    let servers = consul().await?;
    let at = servers.member(0).address();
    let link = link(at).await?;
    let mut held = Vec::new();
    for port in 1..=40 {
        held.push(hold(&link, record(&format!("10.0.0.1:{port}"))?, "x").await?);
    }
    assert_eq!(link.verify(&held).await?, []);
    let other = Arc::new(Consul::connect(&connector(&[at.into()])?).await?);
    other.register(&record("10.0.0.1:5")?, "y", Replace::Anyone).await?;
    let all = services(at).await?;
    let gone = all.keys().find(|id| id.starts_with("demo-10.0.0.1-9-")).context("no 9")?;
    put(at, &format!("agent/service/deregister/{gone}"), &json!({})).await?;
    let source = source(&link, "demo")?;
    eventually(DEADLINE, "the catalogue to follow the agent", async || {
        let (list, _) = source.open().await.ok()?;
        let taken_over = list.contains(&("10.0.0.1:5".into(), "y".into()));
        (taken_over && list.len() == 39).then_some(())
    })
    .await?;
    assert_eq!(link.verify(&held).await?, [(4, Loss::Superseded), (8, Loss::Gone)]);
    Ok(())
}
