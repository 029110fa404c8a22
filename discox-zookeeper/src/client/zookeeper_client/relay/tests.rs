//! A relay between two ends that are both here.

use discox_core::{ConnectionConfig, ErrorKind, TlsConfig, ZookeeperOptions};
use futures_util::FutureExt;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{io::AsyncReadExt, task::JoinHandle};

use super::*;

/// Within this time everything happens that should.
const SOON: Duration = Duration::from_secs(10);

/// And so long it is seen that something does not.
const A_WHILE: Duration = Duration::from_millis(100);

fn settings(tls: Option<TlsConfig>) -> ConnectionConfig {
    ConnectionConfig {
        zookeeper: ZookeeperOptions { guard: true, ..Default::default() },
        tls,
        max_service_bytes: 2 << 20,
        max_endpoints: 1,
        ..Default::default()
    }
}

/// A relay to a server that says this, once somebody has said something, and how many bytes that was.
async fn relay(settings: &ConnectionConfig, says: Vec<u8>) -> (Relay, JoinHandle<io::Result<usize>>) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let member = server.local_addr().unwrap().to_string();
    let plan = Plan::of(settings).unwrap().unwrap();
    let relay = Relay::open(&plan, &[member], None).await.unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = server.accept().await?;
        let heard = stream.read(&mut [0; 1024]).await?;
        stream.write_all(&says).await?;
        stream.shutdown().await?;
        Ok(heard)
    });
    (relay, served)
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

#[tokio::test]
async fn what_a_server_says_at_last_comes_through() {
    let (relay, served) = relay(&settings(None), frame(b"good bye")).await;
    let mut near = TcpStream::connect(&relay.members[0]).await.unwrap();
    near.write_all(&frame(b"hello")).await.unwrap();
    let mut heard = Vec::new();
    timeout(SOON, near.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, frame(b"good bye"));
    assert_eq!(served.await.unwrap().unwrap(), frame(b"hello").len());
    assert_eq!(relay.why().take(), None);
}

#[tokio::test]
async fn a_login_waits_for_the_session() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plan = Plan::of(&settings(None)).unwrap().unwrap();
    let relay = Relay::open(&plan, &[server.local_addr().unwrap().to_string()], None).await.unwrap();
    let mut near = TcpStream::connect(&relay.members[0]).await.unwrap();
    near.write_all(&[frame(b"a session"), frame(b"a login")].concat()).await.unwrap();
    let (mut far, _) = server.accept().await.unwrap();
    let mut heard = [0; 4 + 9];
    timeout(SOON, far.read_exact(&mut heard)).await.unwrap().unwrap();
    let early = timeout(A_WHILE, far.read(&mut [0; 1])).await;
    assert!(early.is_err(), "{early:?}");
    far.write_all(&frame(b"here it is")).await.unwrap();
    let mut heard = [0; 4 + 7];
    timeout(SOON, far.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard[4..], *b"a login");
}

#[tokio::test]
async fn why_a_server_was_left_is_told() {
    let (relay, _served) = relay(&settings(None), (-1_i32).to_be_bytes().to_vec()).await;
    let mut near = TcpStream::connect(&relay.members[0]).await.unwrap();
    near.write_all(&frame(b"hello")).await.unwrap();
    assert_eq!(timeout(SOON, near.read_to_end(&mut Vec::new())).await.unwrap().unwrap(), 0);
    let why = timeout(SOON, async {
        loop {
            match relay.why().take() {
                Some(why) => return discox_core::Error::from(why),
                None => tokio::task::yield_now().await,
            }
        }
    });
    let why = why.await.unwrap();
    assert_eq!(why.kind(), ErrorKind::Protocol);
    assert!(why.to_string().contains("negative length"), "{why}");
}

#[tokio::test]
async fn nobody_without_the_pass_comes_through() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TlsConfig { server_name: Some("zookeeper.test".into()), ..Default::default() };
    let plan = Plan::of(&settings(Some(ours))).unwrap().unwrap();
    let relay = Relay::open(&plan, &[server.local_addr().unwrap().to_string()], None).await.unwrap();
    let door = &relay.members[0];

    let mut plain = TcpStream::connect(door).await.unwrap();
    plain.write_all(&frame(b"hello")).await.unwrap();
    let _ = timeout(SOON, plain.read_to_end(&mut Vec::new())).await.unwrap();

    // One shows nothing, and one what anybody can make.
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
    let stranger = (Some(cert.pem().into()), Some(signing_key.serialize_pem().into()));
    for (cert, key) in [(None, None), stranger] {
        let ca = plan.pass().map(|pass| pass.certificate.clone().into());
        let tls = TlsConfig { ca, cert, key, ..Default::default() };
        let config = discox_tls::client_config(&tls, &[]).unwrap();
        let stream = TcpStream::connect(door).await.unwrap();
        let probed = discox_tls::probe(&tls, config, "127.0.0.1", stream, b"hello");
        let refused = timeout(SOON, probed).await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    }
    assert!(server.accept().now_or_never().is_none(), "somebody came through");
}
