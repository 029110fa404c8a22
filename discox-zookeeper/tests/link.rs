//! The link on a real ZooKeeper: what is stored, how it is fenced, how a loss shows, what is watched.

#![allow(clippy::unwrap_used)]

mod common;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use common::*;
use discox_core::{
    backend::{Link, Loss, Replace, Source, SourceOptions, Watch},
    record::Service,
};
use discox_testkit::{proxy::Proxy, wait};
use discox_zookeeper::{ConnectionConfig, Connector, DiscoverConfig, ErrorKind, Zookeeper};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn more_changes_at_a_time_than_are_wanted_end_the_watch() -> Result<()> {
    let server = Server::start().await?;
    let settings = ConnectionConfig { max_endpoints: 4, ..settings() };
    let few = connect(&Arc::new(Connector::parse(&[server.address().to_owned()], &settings)?)).await?;
    let (_, mut watch) = open(&few).await?;
    let link = server.link().await?;
    for i in 1..=5 {
        hold(&link, &endpoint(i), "x").await?;
    }
    // Answered after all that has happened before.
    hold(&few, A, "x").await?;
    let error = timeout(DEADLINE, watch.next()).await?.err().context("the changes were taken")?;
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    Ok(())
}

#[tokio::test]
async fn changes_while_the_first_list_is_read_are_heard_and_bounded() -> Result<()> {
    let server = Server::start().await?;
    let link = server.link().await?;
    let _stays = hold(&link, A, "x").await?;
    let proxy = Proxy::to(server.address()).await?;
    let settings = ConnectionConfig { max_endpoints: 4, ..settings() };
    let few = connect(&Arc::new(Connector::parse(&[proxy.address().to_owned()], &settings)?)).await?;
    // The answers are still on their way when the changes begin.
    proxy.delay(Duration::from_millis(300));
    let sent = proxy.sent();
    let changing = async {
        // More than a ping: the watch is set.
        wait::eventually(DEADLINE, "the requests", async || proxy.sent() > sent + 60).await?;
        proxy.hold();
        // There are never more than two at a time.
        for i in 1..=6 {
            let held = hold(&link, &endpoint(i), "x").await?;
            link.withdraw(&held.record, Some(&held.receipt)).await?;
        }
        proxy.release();
        anyhow::Ok(())
    };
    let (opened, changed) = tokio::join!(open(&few), changing);
    changed?;
    // A client crate without recursive watches hears of a node at a time.
    let Err(error) = opened else {
        assert!(!sessions_outlive_connections(), "nothing was heard");
        return Ok(());
    };
    assert_eq!(error.downcast::<discox_zookeeper::Error>()?.kind(), ErrorKind::TooLarge);
    Ok(())
}

#[tokio::test]
async fn a_record_is_what_zkcli_sees_and_back() -> Result<()> {
    let server = Server::start().await?;
    let link = server.link().await?;
    let attr = "{\"weight\":1,\"name\":\"a b\"}";
    let registered = link.register(&record(A), attr, Replace::Anyone).await?;
    assert_eq!(registered.ttl, SESSION, "the session timeout that was asked for");
    assert_eq!(server.data(A).await?, attr);
    let stat = server.tool(&["stat", &path(A)]).await?;
    assert!(stat.contains("ephemeralOwner = 0x1"), "{stat}");

    server.tool(&["create", &path("[::1]:1"), "by hand"]).await?;
    for elsewhere in ["demo2", "demo2/10.0.0.9:80", "demo/deeper", "demo/deeper/10.0.0.9:80", "demo/no-port"]
    {
        server.tool(&["create", &format!("{PREFIX}/{elsewhere}"), "not an endpoint of demo"]).await?;
    }
    let (list, mut watch) = open(&link).await?;
    let expected = [(A.to_owned(), attr.into()), ("[::1]:1".to_owned(), b"by hand".to_vec())];
    assert_eq!(Cache::of(list).0, expected.into());

    server.tool(&["set", &format!("{PREFIX}/demo/deeper/10.0.0.9:80"), "again"]).await?;
    server.tool(&["set", &format!("{PREFIX}/demo/no-port"), "again"]).await?;
    server.tool(&["set", &format!("{PREFIX}/demo"), "the service's own data"]).await?;
    server.tool(&["set", &path("[::1]:1"), "changed"]).await?;
    assert_eq!(next(&mut watch).await?, [put("[::1]:1", "changed")]);
    server.tool(&["delete", &path("[::1]:1")]).await?;
    assert_eq!(next(&mut watch).await?, [delete("[::1]:1")]);
    Ok(())
}

#[tokio::test]
async fn a_take_over_is_one_change_and_survives_the_earlier_one() -> Result<()> {
    let server = Server::start().await?;
    let (earlier, later) = (server.link().await?, server.link().await?);
    let held = hold(&earlier, A, "1").await?;
    server.tool(&["set", &format!("{PREFIX}/demo"), "kept"]).await?;
    let (_, mut watch) = open(&earlier).await?;

    let theirs = hold(&later, A, "2").await?;
    assert_eq!(next(&mut watch).await?, [put(A, "2")]);
    assert_eq!(losses(&earlier, &held).await?, [(0, Loss::Superseded)]);
    let taken_back = earlier.register(&held.record, "1", Replace::OnlyOwn).await;
    assert_eq!(taken_back.unwrap_err().kind(), ErrorKind::Superseded);
    let updated = earlier.update(&held.record, "3", &held.receipt).await;
    assert_eq!(updated.unwrap_err().kind(), ErrorKind::Superseded);
    earlier.withdraw(&held.record, Some(&held.receipt)).await?;
    earlier.withdraw(&held.record, None).await?;
    assert_eq!(losses(&later, &theirs).await?, []);
    assert_eq!(server.tool(&["get", &format!("{PREFIX}/demo")]).await?.trim_end(), "kept");

    later.withdraw(&theirs.record, Some(&theirs.receipt)).await?;
    assert_eq!(other(&mut watch, &put(A, "2")).await?, [delete(A)], "nothing happened in between");
    let again = earlier.register(&held.record, "3", Replace::OnlyOwn).await?;
    assert_eq!(next(&mut watch).await?, [put(A, "3")]);
    assert_ne!(again.receipt, held.receipt);

    let theirs = hold(&later, A, "4").await?;
    earlier.close().await;
    assert_eq!(losses(&later, &theirs).await?, []);
    Ok(())
}

#[tokio::test]
async fn updates_are_made_in_place_and_withdrawals_remove_our_own() -> Result<()> {
    let server = Server::start().await?;
    let link = server.link().await?;
    for with_receipt in [true, false] {
        let held = hold(&link, A, "1").await?;
        let (_, mut watch) = open(&link).await?;
        for take in [Replace::Anyone, Replace::OnlyOwn] {
            let attr = format!("{take:?}");
            let again = link.register(&held.record, &attr, take).await?;
            assert_eq!(again.receipt, held.receipt, "the same node");
            assert_eq!(next(&mut watch).await?, [put(A, &attr)]);
            link.register(&held.record, &attr, take).await?;
        }
        let mut receipt = held.receipt;
        for attr in ["once", "twice"] {
            receipt = link.update(&held.record, attr, &receipt).await?.receipt;
            assert_eq!(next(&mut watch).await?, [put(A, attr)]);
        }
        link.update(&held.record, "Back", &held.receipt).await?;
        assert_eq!(next(&mut watch).await?, [put(A, "Back")], "also where the receipt is behind");
        link.withdraw(&held.record, with_receipt.then_some(&held.receipt)).await?;
        let expected = [delete(A)];
        assert_eq!(
            other(&mut watch, &put(A, "Back")).await?,
            expected,
            "writing the same again changed nothing"
        );
        link.withdraw(&held.record, Some(&held.receipt)).await?;
    }
    Ok(())
}

/// As programs do that know nothing of fences: the node has the same versions as before.
#[tokio::test]
async fn a_record_deleted_and_created_by_others_is_theirs() -> Result<()> {
    let server = Server::start().await?;
    let (earlier, later) = (server.link().await?, server.link().await?);
    hold(&earlier, "10.0.0.2:80", "the directory is there").await?;
    let held = hold(&earlier, A, "1").await?;
    server.tool(&["delete", &path(A)]).await?;
    let theirs = hold(&later, A, "2").await?;

    let updated = earlier.update(&held.record, "3", &held.receipt).await;
    assert_eq!(updated.unwrap_err().kind(), ErrorKind::Superseded);
    earlier.withdraw(&held.record, Some(&held.receipt)).await?;
    assert_eq!(losses(&later, &theirs).await?, []);
    Ok(())
}

#[tokio::test]
async fn what_was_done_by_hand_is_noticed_and_mended() -> Result<()> {
    let server = Server::start().await?;
    let (link, other) = (server.link().await?, server.link().await?);
    let mut held = hold(&link, A, "1").await?;
    assert_eq!(losses(&link, &held).await?, []);

    server.tool(&["set", &path(A), "by hand"]).await?;
    assert_eq!(losses(&link, &held).await?, [(0, Loss::Altered)]);
    held.receipt = link.register(&held.record, "1", Replace::OnlyOwn).await?.receipt;
    assert_eq!(server.data(A).await?, "1");

    server.tool(&["delete", &path(A)]).await?;
    assert_eq!(losses(&link, &held).await?, [(0, Loss::Gone)]);
    server.tool(&["create", &path(A), "by hand"]).await?;
    assert_eq!(losses(&link, &held).await?, [(0, Loss::Altered)], "persistent, so nobody's");
    held.receipt = link.register(&held.record, "1", Replace::OnlyOwn).await?.receipt;
    assert_eq!(losses(&link, &held).await?, []);

    server.tool(&["deleteall", PREFIX]).await?;
    assert_eq!(losses(&link, &held).await?, [(0, Loss::Gone)]);
    hold(&other, A, "1").await?;
    assert_eq!(losses(&link, &held).await?, [(0, Loss::Superseded)]);
    Ok(())
}

#[tokio::test]
async fn a_node_with_children_is_not_taken_over() -> Result<()> {
    let server = Server::start().await?;
    let link = server.link().await?;
    hold(&link, "10.0.0.2:80", "1").await?;
    server.tool(&["create", &path(A), "by hand"]).await?;
    server.tool(&["create", &format!("{}/child", path(A)), "by hand"]).await?;
    let error = hold(&link, A, "1").await.unwrap_err();
    assert!(error.to_string().contains("has children"), "{error}");
    assert_eq!(server.data(A).await?, "by hand");
    Ok(())
}

#[tokio::test]
async fn a_service_may_come_go_and_come_again() -> Result<()> {
    let server = Server::start().await?;
    let link = server.link().await?;
    let (list, mut watch) = open(&link).await?;
    assert!(list.is_empty());
    for round in ["1", "2"] {
        hold(&link, A, round).await?;
        assert_eq!(next(&mut watch).await?, [put(A, round)]);
        server.tool(&["deleteall", "/discox"]).await?;
        assert_eq!(next(&mut watch).await?, [delete(A)]);
    }
    Ok(())
}

#[tokio::test]
async fn one_watch_of_a_service_outlives_another() -> Result<()> {
    let server = Server::start().await?;
    let (link, writer) = (server.link().await?, server.link().await?);
    let (_, mut first) = open(&link).await?;
    let (_, mut second) = open(&link).await?;
    // A service below this one's directory, watched by the same session.
    let below = Service::parse(&format!("{PREFIX}/demo"), "below")?;
    let (_, below) = link.source(&below, &SourceOptions::default()).open().await?;
    hold(&writer, A, "1").await?;
    assert_eq!(next(&mut first).await?, [put(A, "1")]);
    assert_eq!(next(&mut second).await?, [put(A, "1")]);
    drop(first);
    drop(below);
    hold(&writer, A, "2").await?;
    assert_eq!(next(&mut second).await?, [put(A, "2")]);
    drop(second);
    let (list, mut third) = open(&link).await?;
    assert_eq!(list, [(A.into(), Bytes::from("2"))]);
    hold(&writer, A, "3").await?;
    assert_eq!(next(&mut third).await?, [put(A, "3")]);
    Ok(())
}

#[tokio::test]
async fn the_largest_attr_is_carried_by_all_ways() -> Result<()> {
    let server = Server::start().await?;
    let (link, other) = (server.link().await?, server.link().await?);
    let attr = |letter: &str| letter.repeat(Zookeeper::ATTR_LIMIT);
    let held = hold(&link, A, &attr("a")).await?;
    link.register(&held.record, &attr("b"), Replace::OnlyOwn).await?;
    hold(&other, A, &attr("c")).await?;
    let (list, _watch) = open(&link).await?;
    assert_eq!(list, [(A.into(), Bytes::from(attr("c")))]);
    Ok(())
}

#[tokio::test]
async fn many_register_take_over_and_withdraw_at_once() -> Result<()> {
    const MANY: usize = 10_000;
    let server = Server::start().await?;
    let (link, later, watcher) = (server.link().await?, server.link().await?, server.link().await?);
    let (list, mut watch) = open(&watcher).await?;
    let mut cache = Cache::of(list);
    for (link, attr) in [(&link, "1"), (&later, "2")] {
        let began = Instant::now();
        let all = stream::iter(0..MANY).map(|i| async move { hold(link, &endpoint(i), attr).await });
        let held: Vec<_> = all.buffer_unordered(64).try_collect().await?;
        println!("{MANY} written in {:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(link.verify(&held).await?, []);
        println!("{MANY} verified in {:?}", began.elapsed());
        let expected = Cache((0..MANY).map(|i| (endpoint(i), attr.into())).collect());
        cache.follow(&mut watch, &expected).await?;
        let began = Instant::now();
        assert_eq!(Cache::of(open(&watcher).await?.0), expected);
        println!("{MANY} listed in {:?}", began.elapsed());
    }
    let all = stream::iter(0..MANY).map(|i| {
        let later = &later;
        async move { later.withdraw(&record(&endpoint(i)), None).await }
    });
    all.buffer_unordered(64).try_collect::<()>().await?;
    cache.follow(&mut watch, &Cache::default()).await
}

#[tokio::test]
async fn a_withdrawal_never_hits_the_record_of_a_later_start() -> Result<()> {
    let server = Server::start().await?;
    let (mut earlier, mut later) = (server.link().await?, server.link().await?);
    for round in 0..300 {
        let held = hold(&earlier, A, "earlier").await?;
        let (withdrawn, theirs) = tokio::join!(
            earlier.withdraw(&held.record, (round % 2 == 0).then_some(&held.receipt)),
            hold(&later, A, "later"),
        );
        withdrawn?;
        assert_eq!(losses(&later, &theirs?).await?, [], "round {round}");
        std::mem::swap(&mut earlier, &mut later);
    }
    Ok(())
}

#[tokio::test]
async fn two_that_take_over_from_each_other_leave_one_record() -> Result<()> {
    let server = Server::start().await?;
    let (one, two) = (server.link().await?, server.link().await?);
    for _ in 0..100 {
        let (first, second) = tokio::join!(hold(&one, A, "1"), hold(&two, A, "2"));
        let (first, second) = (losses(&one, &first?).await?, losses(&two, &second?).await?);
        assert_eq!(first.len() + second.len(), 1, "{first:?} {second:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_missed_between_list_and_watch() -> Result<()> {
    let server = Server::start().await?;
    let (writer, reader) = (server.link().await?, server.link().await?);
    let writing = tokio::spawn(async move {
        for i in 0..1_500 {
            let held = hold(&writer, &endpoint(i % 20), &i.to_string()).await?;
            if i % 3 == 0 {
                writer.withdraw(&held.record, Some(&held.receipt)).await?;
            }
        }
        hold(&writer, "10.9.9.9:9", "last").await?;
        anyhow::Ok(writer)
    });
    let mut watched = Vec::new();
    for opened in 0.. {
        let (list, watch) = open(&reader).await?;
        watched.push((Cache::of(list), watch));
        if watched.len() > 40 {
            drop(watched.swap_remove(opened % 40));
        }
        if writing.is_finished() {
            println!("opened {opened} times");
            break;
        }
    }
    let _writer = writing.await??;
    let expected = Cache::of(open(&reader).await?.0);
    for (cache, watch) in &mut watched {
        // Also when calls are given up again and again.
        let mut patience = Duration::from_micros(50);
        while *cache != expected {
            match timeout(patience, watch.next()).await {
                Ok(changes) => cache.apply(changes?),
                Err(_) => patience = DEADLINE.min(2 * patience),
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_record_outlives_a_broken_connection_and_its_link() -> Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::to(server.address()).await?;
    let connector = connector(proxy.address())?;
    let link = connect(&connector).await?;
    let mut held = hold(&link, A, "1").await?;
    let (_, mut watch) = open(&link).await?;
    proxy.reset_all();
    let error = timeout(DEADLINE, watch.next()).await?.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(watch.next().await.unwrap_err().kind(), ErrorKind::Unavailable, "and so for ever");
    drop((link, watch));
    let link = connect_at_last(&connector).await?;
    if sessions_outlive_connections() {
        assert_eq!(losses(&link, &held).await?, [], "the next link goes on with the session");
    } else {
        assert_eq!(losses(&link, &held).await?, [(0, Loss::Altered)], "of an earlier session of ours");
        held.receipt = link.register(&held.record, "1", Replace::OnlyOwn).await?.receipt;
        assert_eq!(losses(&link, &held).await?, []);
    }
    assert_eq!(open(&link).await?.0.len(), 1);
    link.withdraw(&held.record, Some(&held.receipt)).await?;
    assert!(server.data(A).await.is_err(), "its own record");
    Ok(())
}

#[tokio::test]
async fn an_expired_session_is_replaced() -> Result<()> {
    let server = Server::start().await?;
    let connector = connector(server.address())?;
    let link = connect(&connector).await?;
    let held = hold(&link, A, "1").await?;
    drop(link);
    eventually("the session expires", async || Ok(server.data(A).await.is_err())).await?;
    let link = connect_at_last(&connector).await?;
    assert_eq!(losses(&link, &held).await?, [(0, Loss::Gone)]);
    link.register(&held.record, "1", Replace::OnlyOwn).await?;
    assert_eq!(server.data(A).await?, "1");
    Ok(())
}

#[tokio::test]
async fn a_closed_link_ends_its_session_and_a_dropped_one_its_connection() -> Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::to(server.address()).await?;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let link = link(proxy.address()).await?;
    hold(&link, A, "1").await?;
    let (_, watch) = open(&link).await?;
    link.close().await;
    assert!(server.data(A).await.is_err(), "removed at once");
    assert_eq!(link.verify(&[]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(watch);

    let link = common::link(proxy.address()).await?;
    let (_, watch) = open(&link).await?;
    drop(link);
    drop(watch);
    eventually("the connection is gone", async || Ok(proxy.connections() == 0)).await?;
    eventually("the task is gone", async || Ok(tasks() == before)).await
}

#[tokio::test]
async fn a_watch_does_not_outlive_its_session() -> Result<()> {
    let server = Server::start().await?;
    let link = server.link().await?;
    let (_, mut watch) = open(&link).await?;
    link.close().await;
    assert!(next(&mut watch).await.unwrap_err().to_string().contains("closed"));
    assert!(watch.next().await.is_err());
    Ok(())
}

#[tokio::test]
async fn what_the_acl_forbids_is_denied() -> Result<()> {
    let server = Server::start().await?;
    let link = server.link().await?;
    hold(&link, A, "1").await?;
    hold(&link, "10.0.0.2:80", "2").await?;
    server.tool(&["setAcl", &path(A), "world:anyone:w"]).await?;
    assert_eq!(open(&link).await?.0, [("10.0.0.2:80".into(), Bytes::from("2"))], "the rest is served");
    server.tool(&["setAcl", &format!("{PREFIX}/demo"), "world:anyone:w"]).await?;
    let denied = source(&link, "demo").open().await.map(drop).unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    let denied = link.register(&record("10.0.0.3:80"), "", Replace::Anyone).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    Ok(())
}

#[tokio::test]
async fn a_chroot_is_made_and_nothing_leaves_it() -> Result<()> {
    let server = Server::start().await?;
    let links = futures_util::future::try_join_all((0..8).map(|_| link_in_chroot(&server))).await?;
    let all = links.iter().enumerate().map(|(i, link)| async move { hold(link, &endpoint(i), "").await });
    futures_util::future::try_join_all(all).await?;
    assert_eq!(open(&links[0]).await?.0.len(), links.len());
    assert_eq!(open(&server.link().await?).await?.0.len(), 0);
    let listed = server.tool(&["ls", &format!("/apps/one{PREFIX}/demo")]).await?;
    assert_eq!(listed.matches(":80").count(), links.len(), "{listed}");
    Ok(())
}

async fn link_in_chroot(server: &Server) -> Result<std::sync::Arc<Zookeeper>> {
    link(&format!("{}/apps//one/", server.address())).await
}

#[test]
fn what_zookeeper_cannot_store_is_rejected_by_field() {
    for (chroot, prefix, name, field) in [
        ("", "/zookeeper", "demo", "discover_prefix"),
        ("", "/zookeeper/a", "demo", "discover_prefix"),
        ("", "/a\u{1f600}", "demo", "discover_prefix"),
        ("", "", "zookeeper", "service_name"),
        ("", "/a", "\u{1f600}", "service_name"),
        ("/zookeeper", "/a", "demo", "backend_endpoints"),
    ] {
        let config = DiscoverConfig {
            backend_endpoints: vec![format!("127.0.0.1:2181{chroot}")],
            discover_prefix: prefix.into(),
            service_name: name.into(),
            ..Default::default()
        };
        let error = discox_zookeeper::new_discover(config).map(drop).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{error}");
    }
    let config = DiscoverConfig {
        backend_endpoints: vec!["127.0.0.1:2181/apps".into()],
        service_name: "zookeeper".into(),
        ..Default::default()
    };
    assert!(discox_zookeeper::new_discover(config).is_ok(), "not reserved below a chroot");
}
