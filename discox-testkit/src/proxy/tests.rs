use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{Proxy, Tamper};
use crate::wait::eventually;

const SOON: Duration = Duration::from_secs(5);
/// Long enough for a byte on the loopback to arrive if it could.
const A_WHILE: Duration = Duration::from_millis(100);

/// An echo server, and a proxy before it. The set ends the server when dropped.
async fn echo() -> (Proxy, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap().to_string()).await.unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    (proxy, server)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

async fn echoed(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, text);
    Ok(())
}

#[tokio::test]
async fn passes_bytes_and_counts_them() {
    let (proxy, _server) = echo().await;
    let mut stream = connect(&proxy).await;
    echoed(&mut stream, b"hello").await.unwrap();
    let much: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
    let (mut from, mut to) = stream.split();
    let mut answer = vec![0; much.len()];
    let (written, read) = tokio::join!(to.write_all(&much), from.read_exact(&mut answer));
    written.and(read.map(|_| ())).unwrap();
    assert!(answer == much);
    assert_eq!((proxy.connections(), proxy.accepted()), (1, 1));
    assert_eq!((proxy.sent(), proxy.received()), (3_000_005, 3_000_005));
    // An orderly end passes through as one.
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut answer).await.unwrap(), 0);
    eventually(SOON, "no connection", async || proxy.connections() == 0).await.unwrap();
}

#[tokio::test]
async fn resets_every_connection_and_serves_new_ones() {
    let (proxy, _server) = echo().await;
    let (mut one, mut two) = (connect(&proxy).await, connect(&proxy).await);
    echoed(&mut one, b"1").await.unwrap();
    echoed(&mut two, b"2").await.unwrap();
    proxy.reset_all();
    for stream in [&mut one, &mut two] {
        let error = timeout(SOON, stream.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    eventually(SOON, "no connection", async || proxy.connections() == 0).await.unwrap();
    echoed(&mut connect(&proxy).await, b"3").await.unwrap();
}

#[tokio::test]
async fn held_bytes_arrive_after_release() {
    let (proxy, _server) = echo().await;
    let mut old = connect(&proxy).await;
    echoed(&mut old, b"before").await.unwrap();
    proxy.hold();
    let mut new = connect(&proxy).await;
    old.write_all(b"old").await.unwrap();
    new.write_all(b"new").await.unwrap();
    assert!(timeout(A_WHILE, old.read_u8()).await.is_err(), "a byte passed a held proxy");
    assert!(timeout(A_WHILE, new.read_u8()).await.is_err(), "a byte passed a held proxy");
    assert_eq!((proxy.connections(), proxy.sent()), (2, 6));
    proxy.release();
    let mut answer = [0; 3];
    timeout(SOON, old.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"old");
    timeout(SOON, new.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"new");
}

#[tokio::test]
async fn a_held_connection_can_be_reset() {
    let (proxy, _server) = echo().await;
    proxy.hold();
    let mut stream = connect(&proxy).await;
    eventually(SOON, "the connection", async || proxy.connections() == 1).await.unwrap();
    proxy.reset_all();
    assert!(timeout(SOON, stream.read_u8()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_stall_ends_by_itself() {
    let (proxy, _server) = echo().await;
    let mut stream = connect(&proxy).await;
    echoed(&mut stream, b"before").await.unwrap();
    let stalled = Instant::now();
    proxy.stall(Duration::from_millis(300));
    echoed(&mut stream, b"after").await.unwrap();
    assert!(stalled.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn delays_each_way_without_slowing_the_stream() {
    let (proxy, _server) = echo().await;
    let mut stream = connect(&proxy).await;
    proxy.delay(Duration::from_millis(100));
    let start = Instant::now();
    // Several chunks under way at once: the delay is paid once, not once per chunk.
    for _ in 0..10 {
        stream.write_all(&[7; 1000]).await.unwrap();
    }
    let mut answer = vec![0; 10_000];
    stream.read_exact(&mut answer).await.unwrap();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
    assert!(took < Duration::from_millis(900), "{took:?}");
}

#[tokio::test]
async fn refuses_and_accepts_again() {
    let (proxy, _server) = echo().await;
    let mut old = connect(&proxy).await;
    echoed(&mut old, b"open").await.unwrap();
    proxy.refuse().await;
    let error = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    echoed(&mut old, b"lives on").await.unwrap();
    proxy.accept().await;
    echoed(&mut connect(&proxy).await, b"new").await.unwrap();
}

#[tokio::test]
async fn an_absent_target_is_a_reset() {
    let proxy = Proxy::to("127.0.0.1:1").await.unwrap();
    assert!(timeout(SOON, connect(&proxy).await.read_u8()).await.unwrap().is_err());
}

#[tokio::test]
async fn dropping_it_ends_its_connections() {
    let (proxy, _server) = echo().await;
    let mut stream = connect(&proxy).await;
    echoed(&mut stream, b"hello").await.unwrap();
    drop(proxy);
    match timeout(SOON, stream.read(&mut [0; 1])).await.unwrap() {
        Ok(0) | Err(_) => {}
        Ok(_) => panic!("a byte from a dropped proxy"),
    }
}

#[tokio::test]
async fn connections_end_one_byte_later_each() {
    let (proxy, _server) = echo().await;
    let whole = echoed(&mut connect(&proxy).await, b"hello").await;
    whole.unwrap();
    proxy.tamper(Some(Tamper::EndLater));
    for bytes in 0..4 {
        let mut stream = connect(&proxy).await;
        stream.write_all(b"hello").await.unwrap();
        let (mut answer, mut read) = ([0; 8], 0);
        while let Ok(more @ 1..) = stream.read(&mut answer[read..]).await {
            read += more;
        }
        assert_eq!(&answer[..read], &b"hello"[..bytes]);
    }
    proxy.tamper(None);
    echoed(&mut connect(&proxy).await, b"hello").await.unwrap();
}

#[tokio::test]
async fn answers_are_spoilt_garbled_and_dripped() {
    let (proxy, _server) = echo().await;
    let answer = async |text: &[u8]| {
        let mut stream = connect(&proxy).await;
        stream.write_all(text).await.unwrap();
        let mut answer = vec![0; text.len()];
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        answer
    };
    proxy.tamper(Some(Tamper::SpoilLater));
    assert_eq!(
        [answer(b"hello").await, answer(b"hello").await],
        [[!b'h', b'e', b'l', b'l', b'o'], [b'h', !b'e', b'l', b'l', b'o']]
    );
    proxy.tamper(Some(Tamper::Garble { after: 100 }));
    let garbled = answer(&[7; 1_000]).await;
    assert!(garbled[..100] == [7; 100] && garbled[100..] != [7; 900]);
    proxy.tamper(Some(Tamper::Drip { every: Duration::from_millis(20) }));
    let began = Instant::now();
    assert_eq!(answer(b"hello").await, b"hello");
    assert!(began.elapsed() >= Duration::from_millis(80));
}
