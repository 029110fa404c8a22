//! Many readers, slow ones, and such that are gone.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpStream,
};

use super::{
    Server,
    client::{Events, get},
    until,
};
use crate::serve::{connections, io::Patient};

const MANY: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_and_long_polls_hear_of_one_change() {
    connections::raise_limit();
    let server = Server::start().await;
    server.put("orders", "a:1", "");
    let index = server.get("/v1/services/orders").await.json()["index"].as_u64().unwrap();
    let mut streams = join_all((0..MANY).map(|_| Events::of(server.address, "/v1/services/orders"))).await;
    for (name, _) in join_all(streams.iter_mut().map(Events::next)).await {
        assert_eq!(name, "list");
    }
    let path = format!("/v1/services/orders?wait=60s&index={index}");
    let polls: Vec<_> = (0..MANY)
        .map(|_| {
            let (address, path) = (server.address, path.clone());
            tokio::spawn(async move { get(address, &path, &[]).await })
        })
        .collect();
    let counts = &server.shared.counts;
    until("all to be connected", || counts.connections.load(Relaxed) as usize >= 2 * MANY).await;
    server.put("orders", "b:1", "");
    for (name, change) in join_all(streams.iter_mut().map(Events::next)).await {
        assert_eq!((name.as_str(), &change["put"][0]["endpoint"]), ("change", &"b:1".into()));
    }
    for poll in join_all(polls).await {
        assert_eq!(poll.unwrap().is(200).json()["instances"].as_array().map(Vec::len), Some(2));
    }
    assert_eq!(counts.streams.load(Relaxed) as usize, MANY);
    // Gone: nothing of them is left.
    drop(streams);
    until("the streams to end", || {
        server.put("orders", "c:1", &format!("{:?}", std::time::Instant::now()));
        counts.streams.load(Relaxed) == 0
    })
    .await;
    until("the connections to end", || counts.connections.load(Relaxed) == 0).await;
}

#[tokio::test]
async fn a_reader_that_falls_behind_gets_the_list_anew() {
    let server = Server::start().await;
    for port in 1..=5_000 {
        server.put("orders", &format!("host:{port}"), &"x".repeat(400));
    }
    server.get("/v1/services/orders").await.is(200);
    let mut events = Events::of(server.address, "/v1/services/orders").await;
    // More than the kernel takes for a reader that does not read.
    for round in 0..40_u16 {
        for port in 1..=500 {
            server.put("orders", &format!("host:{port}"), &format!("{round}{}", "y".repeat(400)));
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let mut lists = 0;
    let mut last = serde_json::Value::Null;
    let newest = server.shared.watched.service("orders").unwrap().view().index;
    while last["index"].as_u64().is_none_or(|index| index < newest) {
        let (name, data) = events.next().await;
        lists += usize::from(name == "list");
        last = data;
    }
    assert!(lists > 1, "it has heard every change, or was given no list");
}

#[tokio::test]
async fn services_that_nobody_reads_make_room_for_others() {
    let server = Server::with(None, |shared| shared.watched.limit(2)).await;
    for name in ["a", "b", "c", "d"] {
        server.get(&format!("/v1/services/{name}")).await.is(200);
    }
    assert_eq!(server.shared.watched.all().len(), 2);
    let mut streams = Vec::new();
    for name in ["c", "d"] {
        let mut events = Events::of(server.address, &format!("/v1/services/{name}")).await;
        events.next().await;
        streams.push(events);
    }
    let full = server.get("/v1/services/e").await.is(503);
    assert!(full.json()["error"].as_str().unwrap().contains("limit"), "{full:?}");
    server.get("/v1/services/c").await.is(200);
    drop(streams.remove(0));
    until("its place to be free", || {
        server.put("c", "x:1", &format!("{:?}", std::time::Instant::now()));
        server.shared.counts.streams.load(Relaxed) == 1
    })
    .await;
    server.get("/v1/services/e").await.is(200);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_dropped() {
    let server = Server::start().await;
    let (near, mut far) = duplex(16);
    let mut patient = Patient::within(Duration::from_secs(20), near, &server.shared);
    let writing = tokio::spawn(async move {
        let written = patient.write_all(&[7; 64]).await;
        (written, patient)
    });
    let mut some = [0; 16];
    tokio::time::sleep(Duration::from_secs(15)).await;
    far.read_exact(&mut some).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(!writing.is_finished(), "dropped although it reads");
    let (written, _) = writing.await.unwrap();
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(server.shared.counts.slow_readers.load(Relaxed), 1);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let server = Server::with(None, |shared| shared.most_connections = 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(server.address).await.unwrap());
    }
    until("three connections", || server.shared.counts.connections.load(Relaxed) == 3).await;
    let mut fourth = TcpStream::connect(server.address).await.unwrap();
    let mut nothing = Vec::new();
    let _ = fourth.read_to_end(&mut nothing).await;
    assert_eq!((nothing.len(), server.shared.counts.refused_connections.load(Relaxed)), (0, 1));
    held.clear();
    until("room", || server.shared.counts.connections.load(Relaxed) == 0).await;
    server.get("/healthz").await.is(200);
}
