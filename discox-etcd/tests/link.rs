//! The link on a real etcd: what is stored, how it is fenced, and how a loss shows.

mod common;

use std::{collections::BTreeMap, net::TcpListener, slice::from_ref, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use common::*;
use discox_core::backend::{Link, Loss, Replace};
use discox_etcd::{ErrorKind, Etcd};
use discox_testkit::{
    server::{Kind, Servers},
    wait::eventually,
};
use tokio::time::Instant;

#[tokio::test]
async fn a_record_is_what_etcdctl_sees_and_back() -> Result<()> {
    let etcd = etcd().await?;
    let (server, link) = (etcd.member(0), link(&etcd).await?);
    let attr = "{\"weight\":1,\"name\":\"Grüße\"}";
    let registered = link.register(&record(A, 59)?, attr, Replace::Anyone).await?;
    assert_eq!(registered.ttl, Duration::from_secs(59));
    assert_eq!(value(server, A_KEY).await?.as_deref(), Some(attr));
    let fields = server.tool(&["get", A_KEY, "-w", "fields"]).await?;
    assert!(fields.lines().any(|line| line.starts_with("\"Lease\"") && !line.ends_with(" 0")), "{fields}");

    server.tool(&["put", &format!("{PREFIX}/demo/[::1]:1"), "by hand"]).await?;
    for elsewhere in ["demo2/10.0.0.9:80", "demo/deeper/10.0.0.9:80", "demo/no-port", "demo/", "demo"] {
        server.tool(&["put", &format!("{PREFIX}/{elsewhere}"), "not an endpoint of demo"]).await?;
    }
    let (list, mut watch) = open(&link).await?;
    let expected = [(A.into(), Bytes::from(attr)), ("[::1]:1".into(), Bytes::from("by hand"))];
    assert_eq!(BTreeMap::from_iter(list), BTreeMap::from(expected));

    server.tool(&["put", &format!("{PREFIX}/demo/deeper/10.0.0.9:80"), "again"]).await?;
    server.tool(&["put", &format!("{PREFIX}/demo/no port"), "unreadable"]).await?;
    server.tool(&["put", &format!("{PREFIX}/demo/[::1]:1"), "changed"]).await?;
    server.tool(&["del", &format!("{PREFIX}/demo/[::1]:1")]).await?;
    assert_eq!(next(&mut watch).await?, [put("[::1]:1", "changed")]);
    assert_eq!(next(&mut watch).await?, [delete("[::1]:1")]);
    Ok(())
}

#[tokio::test]
async fn a_member_without_quorum_is_not_connected_to() -> Result<()> {
    let etcd = Servers::cluster(Kind::Etcd).await?;
    let (_, member) = etcd.elected().await?;
    member.cut_off().await?;
    let alone = connector(&[member.address().to_owned()])?;
    // It leads until it misses its peers.
    let refused = async || Etcd::connect(&alone).await.err();
    let error = eventually(DEADLINE, "a refusal", refused).await?;
    assert!(error.kind().is_retryable(), "{error}");
    // What needs no quorum it answers still.
    assert_eq!(member.tool(&["get", A_KEY, "--consistency=s"]).await?, "");
    member.rejoin().await?;
    eventually(DEADLINE, "a connection", async || Etcd::connect(&alone).await.is_ok()).await
}

#[tokio::test]
async fn a_take_over_is_one_change_and_survives_the_earlier_one() -> Result<()> {
    let etcd = etcd().await?;
    let (earlier, later) = (link(&etcd).await?, link(&etcd).await?);
    let held = hold(&earlier, record(A, 60)?, "1").await?;
    let (list, mut watch) = open(&earlier).await?;
    assert_eq!(list, [(A.into(), Bytes::from("1"))]);

    let theirs = hold(&later, record(A, 60)?, "2").await?;
    assert_eq!(next(&mut watch).await?, [put(A, "2")]);
    assert_eq!(earlier.verify(from_ref(&held)).await?, [(0, Loss::Superseded)]);
    let taken_back = earlier.register(&held.record, "1", Replace::OnlyOwn).await;
    assert_eq!(taken_back.err().map(|error| error.kind()), Some(ErrorKind::Superseded));
    let updated = earlier.update(&held.record, "3", &held.receipt).await;
    assert_eq!(updated.err().map(|error| error.kind()), Some(ErrorKind::Superseded));
    earlier.withdraw(&held.record, Some(&held.receipt)).await?;
    earlier.withdraw(&held.record, None).await?;
    earlier.close().await;
    assert_eq!(later.verify(from_ref(&theirs)).await?, []);

    later.withdraw(&theirs.record, Some(&theirs.receipt)).await?;
    assert_eq!(next(&mut watch).await?, [delete(A)], "nothing happened in between");
    let again = earlier.register(&held.record, "3", Replace::OnlyOwn).await?;
    assert_eq!(next(&mut watch).await?, [put(A, "3")]);
    assert_ne!(again.receipt, held.receipt);
    Ok(())
}

#[tokio::test]
async fn withdrawals_remove_our_own_with_and_without_a_receipt() -> Result<()> {
    let etcd = etcd().await?;
    let (server, link) = (etcd.member(0), link(&etcd).await?);
    for with_receipt in [true, false] {
        let held = hold(&link, record(A, 60)?, "1").await?;
        link.withdraw(&held.record, with_receipt.then_some(&held.receipt)).await?;
        assert_eq!(value(server, A_KEY).await?, None);
        link.withdraw(&held.record, Some(&held.receipt)).await?;
    }
    // A receipt that is behind, because the answer to the last write was lost.
    let held = hold(&link, record(A, 60)?, "1").await?;
    link.register(&held.record, "2", Replace::OnlyOwn).await?;
    link.withdraw(&held.record, Some(&held.receipt)).await?;
    assert_eq!(value(server, A_KEY).await?, None);
    Ok(())
}

#[tokio::test]
async fn an_expired_lease_is_noticed_and_replaced() -> Result<()> {
    let etcd = etcd().await?;
    let link = link(&etcd).await?;
    // Nobody runs `keep` here, so that the lease expires.
    let registered = link.register(&record(A, 1)?, "1", Replace::Anyone).await?;
    assert_eq!(registered.ttl, Duration::from_secs(2), "the least that etcd grants");
    let held = hold(&link, record(A, 1)?, "1").await?;
    let gone = async || link.verify(from_ref(&held)).await.is_ok_and(|lost| lost == [(0, Loss::Gone)]);
    eventually(DEADLINE, "the lease to expire", gone).await?;
    link.register(&held.record, "1", Replace::OnlyOwn).await?;
    assert_eq!(value(etcd.member(0), A_KEY).await?.as_deref(), Some("1"));
    Ok(())
}

#[tokio::test]
async fn what_was_done_by_hand_is_noticed_and_mended() -> Result<()> {
    let etcd = etcd().await?;
    let (server, link) = (etcd.member(0), link(&etcd).await?);
    let granted = server.tool(&["lease", "grant", "600"]).await?;
    let foreign = format!("--lease={}", granted.split_whitespace().nth(1).context("no lease")?);
    let cases: [(&[&str], Loss); 4] = [
        (&["put", A_KEY, "by hand"], Loss::Altered),
        (&["put", "--ignore-lease", A_KEY, "by hand"], Loss::Altered),
        (&["del", A_KEY], Loss::Gone),
        (&["put", &foreign, A_KEY, "another's"], Loss::Superseded),
    ];
    let mut held = hold(&link, record(A, 60)?, "1").await?;
    for (command, loss) in cases {
        assert_eq!(link.verify(from_ref(&held)).await?, []);
        server.tool(command).await?;
        assert_eq!(link.verify(from_ref(&held)).await?, [(0, loss)], "{command:?}");
        if loss != Loss::Superseded {
            held.receipt = link.register(&held.record, "1", Replace::OnlyOwn).await?.receipt;
            assert_eq!(value(server, A_KEY).await?.as_deref(), Some("1"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn losses_among_many_records_are_found() -> Result<()> {
    let etcd = etcd().await?;
    let (server, link) = (etcd.member(0), link(&etcd).await?);
    let mut held = Vec::new();
    for port in 1..=300 {
        held.push(hold(&link, record(&format!("10.0.0.1:{port}"), 60)?, "1").await?);
    }
    assert_eq!(link.verify(&held).await?, []);
    server.tool(&["put", held[7].record.key(), "by hand"]).await?;
    server.tool(&["del", held[250].record.key()]).await?;
    assert_eq!(link.verify(&held).await?, [(7, Loss::Altered), (250, Loss::Gone)]);
    for lost in [7, 250] {
        held[lost].receipt = link.register(&held[lost].record, "1", Replace::OnlyOwn).await?.receipt;
    }
    // Still on its lease: found by the next heart beat all the same.
    for altered in [0, 63, 64, 299] {
        server.tool(&["put", "--ignore-lease", held[altered].record.key(), "by hand"]).await?;
        assert_eq!(link.verify(&held).await?, [(altered, Loss::Altered)]);
        held[altered].receipt = link.register(&held[altered].record, "1", Replace::OnlyOwn).await?.receipt;
    }

    let [lease] = &leases(server).await?[..] else { bail!("one lease for all was expected") };
    server.tool(&["lease", "revoke", lease]).await?;
    let gone: Vec<_> = (0..300).map(|position| (position, Loss::Gone)).collect();
    assert_eq!(link.verify(&held).await?, gone);
    link.register(&held[0].record, "1", Replace::OnlyOwn).await?;
    assert_ne!(leases(server).await?, from_ref(lease));
    Ok(())
}

#[tokio::test]
async fn the_next_connection_goes_on_with_the_leases_of_the_last() -> Result<()> {
    let etcd = etcd().await?;
    let connector = connector(&etcd.addresses())?;
    let first = Etcd::connect(&connector).await?;
    let held = hold(&first, record(A, 60)?, "1").await?;
    drop(first);
    let second = Etcd::connect(&connector).await?;
    let again = second.register(&held.record, "1", Replace::OnlyOwn).await?;
    assert_eq!(again.receipt, held.receipt, "nothing was written");
    let changed = second.register(&held.record, "2", Replace::OnlyOwn).await?;
    assert_ne!(changed.receipt, held.receipt);
    second.withdraw(&held.record, None).await?;
    assert_eq!(value(etcd.member(0), A_KEY).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_member_that_accepts_and_never_answers_is_passed_over() -> Result<()> {
    let etcd = etcd().await?;
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let refusing = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let addresses =
        [silent.local_addr()?.to_string(), refusing.to_string(), etcd.member(0).address().to_owned()];
    let connector = connector(&addresses)?;
    for _ in 0..addresses.len() {
        let began = Instant::now();
        let link = Etcd::connect(&connector).await?;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(link.verify(&[]).await?, []);
    }
    Ok(())
}

#[tokio::test]
async fn nobody_there_says_where_and_why() -> Result<()> {
    let refusing = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let error =
        Etcd::connect(&connector(&[refusing.to_string()])?).await.err().context("connected to nobody")?;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.contains(&refusing.to_string()) && text.contains("refused"), "{text}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_of_a_link_that_was_dropped() -> Result<()> {
    let etcd = etcd().await?;
    for hung in [false, true] {
        let before = tasks();
        let link = link(&etcd).await?;
        let (_, watch) = open(&link).await?;
        link.register(&record(A, 60)?, "1", Replace::Anyone).await?;
        assert!(tasks() > before);
        if hung {
            etcd.member(0).pause().await?;
        }
        drop((link, watch));
        eventually(DEADLINE, "the last task to end", async || tasks() <= before).await?;
    }
    etcd.member(0).resume().await
}

#[tokio::test]
async fn https_to_an_etcd_without_tls_says_so() -> Result<()> {
    let etcd = etcd().await?;
    let connector = connector(&[format!("https://{}", etcd.member(0).address())])?;
    let error = Etcd::connect(&connector).await.err().context("connected")?;
    assert!(error.to_string().contains("plain text"), "{error}");
    assert!(!error.to_string().contains("certificate"), "{error}");
    Ok(())
}
