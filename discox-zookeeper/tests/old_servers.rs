//! Servers before 3.6 know neither multi-read nor recursive watches. Such a server is played by a real
//! one behind a proxy that replaces both requests by one that no server knows: the answer, and that
//! the server hangs up after it, are the same then.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use common::*;
use discox_core::backend::{Link, Loss, Replace, Watch};
use discox_zookeeper::{ClientCrate, Connector, ErrorKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// Requests that came with 3.6: multi-read and addWatch.
const NEW: [i32; 2] = [22, 106];
const UNKNOWN: i32 = 999;

/// How many new requests an old server got.
type Count = Arc<AtomicUsize>;

async fn old(server: &Server) -> Result<(String, Count, JoinSet<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (address, target) = (listener.local_addr()?.to_string(), server.address().to_owned());
    let (count, mut tasks) = (Count::default(), JoinSet::new());
    let counted = count.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let (target, count) = (target.clone(), counted.clone());
            connections.spawn(async move { drop(pass(client, &target, &count).await) });
        }
    });
    Ok((address, count, tasks))
}

async fn pass(mut client: TcpStream, target: &str, count: &Count) -> Result<()> {
    let mut server = TcpStream::connect(target).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let requests = async {
        let mut is_first = true;
        loop {
            let length = from_client.read_u32().await?;
            let mut request = vec![0; length as usize];
            from_client.read_exact(&mut request).await?;
            // The first one has no header; pings and the like are short.
            if let (false, Some(code)) = (is_first, request.get_mut(4..8))
                && NEW.iter().any(|new| code == new.to_be_bytes())
            {
                count.fetch_add(1, Ordering::Relaxed);
                code.copy_from_slice(&UNKNOWN.to_be_bytes());
            }
            is_first = false;
            to_server.write_u32(length).await?;
            to_server.write_all(&request).await?;
        }
    };
    let answers = async {
        copy(&mut from_server, &mut to_client).await?;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = requests => ended,
        ended = answers => ended,
    }
}

/// The client crate that can do more than such a server.
fn modern_client(address: &str) -> Result<Arc<Connector>> {
    let mut settings = settings();
    settings.zookeeper.client = Some(ClientCrate::ZookeeperClient);
    Ok(Arc::new(Connector::parse(&[address.to_owned()], &settings)?))
}

#[tokio::test]
async fn an_old_server_is_recognised_once_and_served_all_the_same() -> Result<()> {
    let server = Server::start().await?;
    let (address, new_requests, _proxy) = old(&server).await?;
    let connector = modern_client(&address)?;
    let link = connect_at_last(&connector).await?;
    let (list, mut watch) = open(&link).await?;
    assert!(list.is_empty(), "a service that does not exist yet");

    let held = hold(&link, A, "1").await?;
    assert_eq!(next(&mut watch).await?, [put(A, "1")]);
    assert_eq!(losses(&link, &held).await?, []);
    let other_link = server.link().await?;
    hold(&other_link, A, "2").await?;
    assert_eq!(other(&mut watch, &put(A, "1")).await?, [put(A, "2")], "a take-over is one change");
    assert_eq!(losses(&link, &held).await?, [(0, Loss::Superseded)]);
    server.tool(&["set", &path(A), "3"]).await?;
    assert_eq!(other(&mut watch, &put(A, "2")).await?, [put(A, "3")]);
    server.tool(&["delete", &path(A)]).await?;
    assert_eq!(other(&mut watch, &put(A, "3")).await?, [delete(A)]);
    server.tool(&["create", &path("no-port"), "unreadable"]).await?;
    link.register(&held.record, "4", Replace::OnlyOwn).await?;
    assert_eq!(other(&mut watch, &delete(A)).await?, [put(A, "4")]);
    server.tool(&["deleteall", "/discox"]).await?;
    assert_eq!(other(&mut watch, &put(A, "4")).await?, [delete(A)]);
    hold(&other_link, A, "5").await?;
    assert_eq!(other(&mut watch, &delete(A)).await?, [put(A, "5")]);

    drop(link);
    drop(watch);
    let link = connect_at_last(&connector).await?;
    assert_eq!(open(&link).await?.0.len(), 1);
    assert_eq!(new_requests.load(Ordering::Relaxed), 1, "asked once");
    Ok(())
}

#[tokio::test]
async fn an_old_server_is_followed_without_gaps() -> Result<()> {
    let server = Server::start().await?;
    let (address, _, proxy) = old(&server).await?;
    let (reader, writer) = (connect_at_last(&modern_client(&address)?).await?, server.link().await?);
    for i in 0..400 {
        hold(&writer, &endpoint(i), "first").await?;
    }
    let (list, mut watch) = open(&reader).await?;
    let (_, second) = open(&reader).await?;
    let mut cache = Cache::of(list);
    assert_eq!(cache.0.len(), 400);
    let writing = tokio::spawn(async move {
        for i in 0..2_000 {
            let held = hold(&writer, &endpoint(i % 420), &i.to_string()).await?;
            if i % 3 == 0 {
                writer.withdraw(&held.record, Some(&held.receipt)).await?;
            }
        }
        anyhow::Ok(writer)
    });
    let mut second = Some(second);
    while !writing.is_finished() {
        // Given up in the middle, again and again.
        if let Ok(changes) = timeout(std::time::Duration::from_micros(300), watch.next()).await {
            cache.apply(changes?);
        }
        if cache.0.len() != 400 {
            second.take();
        }
    }
    let writer = writing.await??;
    let expected = Cache::of(open(&writer).await?.0);
    cache.follow(&mut watch, &expected).await?;

    drop(proxy);
    let error = timeout(DEADLINE, watch.next()).await?.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    Ok(())
}
