//! Discovery on a real etcd: lists in pages, and watches that follow them.

mod common;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use common::*;
use discox_core::backend::{Change, Source, Watch};
use discox_etcd::ErrorKind;
use discox_testkit::server::{Kind, Servers};
use etcd_client::{Client, Txn, TxnOp};
use tokio::time::timeout;

#[tokio::test]
async fn the_watch_follows_the_list_without_a_gap() -> Result<()> {
    let etcd = etcd().await?;
    let mut writer = Client::connect(etcd.addresses(), None).await?;
    let writing = tokio::spawn(async move {
        for round in 0..2_000_u32 {
            let key = format!("{PREFIX}/demo/10.0.0.1:{}", round % 97 + 1);
            if round % 5 == 4 {
                writer.delete(key, None).await?;
            } else {
                writer.put(key, round.to_string(), None).await?;
            }
        }
        writer.put(format!("{PREFIX}/demo/last:1"), "", None).await?;
        anyhow::Ok(())
    });
    let link = link(&etcd).await?;
    let source = source(&link, "demo")?;
    let mut opened = Vec::new();
    for _ in 0..10 {
        opened.push(source.open().await?);
    }
    writing.await??;
    let expected = BTreeMap::from_iter(source.open().await?.0);
    for (list, mut watch) in opened {
        let mut cache: BTreeMap<Arc<str>, Bytes> = list.into_iter().collect();
        while !cache.contains_key("last:1") {
            for change in next(&mut watch).await? {
                match change {
                    Change::Put(endpoint, attr) => drop(cache.insert(endpoint, attr)),
                    Change::Delete(endpoint) => drop(cache.remove(&endpoint)),
                    other => bail!("{other:?}"),
                }
            }
        }
        assert_eq!(cache, expected);
    }
    Ok(())
}

#[tokio::test]
async fn long_lists_and_heavy_ones_come_in_pages() -> Result<()> {
    let etcd = etcd().await?;
    let mut writer = Client::connect(etcd.addresses(), None).await?;
    for host in 0..200 {
        let ports = 1..=125;
        let puts =
            ports.map(|port| TxnOp::put(format!("{PREFIX}/long/h{host}:{port}"), "x".repeat(200), None));
        writer.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await?;
    }
    // Several pages, within what a service may have.
    for port in 1..=50 {
        writer.put(format!("{PREFIX}/heavy/h:{port}"), "x".repeat(1024 * 1024), None).await?;
    }
    let link = link(&etcd).await?;
    let (list, _) = source(&link, "long")?.open().await?;
    let endpoints: HashSet<_> = list.iter().map(|(endpoint, _)| endpoint.clone()).collect();
    assert_eq!((list.len(), endpoints.len()), (25_000, 25_000));
    let (list, _) = source(&link, "heavy")?.open().await?;
    assert_eq!(list.len(), 50);
    assert!(list.iter().all(|(_, attr)| attr.len() == 1024 * 1024));
    Ok(())
}

#[tokio::test]
async fn a_watch_that_fell_behind_a_compaction_is_stale() -> Result<()> {
    let etcd = etcd().await?;
    let link = link(&etcd).await?;
    let (_, mut watch) = open(&link).await?;
    let mut writer = Client::connect(etcd.addresses(), None).await?;
    let mut revision = 0;
    // Far more than the windows and the server's buffers hold.
    for _ in 0..600 {
        let answer = writer.put(A_KEY, "x".repeat(256 * 1024), None).await?;
        revision = answer.header().context("no header")?.revision();
    }
    etcd.member(0).tool(&["compact", &revision.to_string()]).await?;
    let error = loop {
        if let Err(error) = timeout(DEADLINE, watch.next()).await? {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
    assert_eq!(open(&link).await?.0.len(), 1);
    Ok(())
}

#[tokio::test]
async fn records_that_are_too_long_are_stepped_over() -> Result<()> {
    const TOO_LONG: usize = 9 * 1024 * 1024;
    let etcd = Servers::builder(Kind::Etcd).arg("--max-request-bytes=33554432").start().await?;
    let mut writer = Client::connect(etcd.addresses(), None).await?;
    for small in ["a:1", "m:1", "z:1"] {
        writer.put(format!("{PREFIX}/demo/{small}"), "1", None).await?;
    }
    for long in ["b:1", "deeper/b:1", "not-an-endpoint"] {
        writer.put(format!("{PREFIX}/demo/{long}"), "x".repeat(TOO_LONG), None).await?;
    }
    let link = link(&etcd).await?;
    let listed = async || -> Result<Vec<String>> {
        let (list, _) = open(&link).await?;
        Ok(list.iter().map(|(endpoint, _)| endpoint.to_string()).collect())
    };
    assert_eq!(listed().await?, ["a:1", "m:1", "z:1"]);

    let (_, mut watch) = open(&link).await?;
    let (_, mut other) = open(&link).await?;
    writer.put(format!("{PREFIX}/demo/c:1"), "x".repeat(TOO_LONG), None).await?;
    for watch in [&mut watch, &mut other] {
        let error = timeout(DEADLINE, watch.next()).await?.err().context("no error")?;
        assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
    }
    let (list, mut watch) = open(&link).await?;
    assert_eq!(list.len(), 3);
    writer.put(format!("{PREFIX}/demo/d:1"), "1", None).await?;
    assert_eq!(next(&mut watch).await?, [put("d:1", "1")]);
    Ok(())
}
