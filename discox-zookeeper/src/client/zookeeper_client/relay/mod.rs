//! What stands between the crate and the servers where the crate alone is not enough: it knows a server by no other
//! name than the host that it dials, and it believes the lengths and counts that a server writes. So it dials a relay,
//! in this process and on the loopback, which speaks to the server in its place and passes on what does no harm. And it
//! sends its login right behind the request for a session, and takes it for a wrong version when a server answers the
//! login first: so the relay holds the login back until there is a session.
//!
//! What is TLS to the servers is TLS to the relay as well, see [`pass`].

mod frames;
mod pass;

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use discox_core::{ConnectionConfig, Result, TlsConfig, backend::lock};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, copy, sink, split},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{
    frames::{Asked, Frame, Harm},
    pass::Pass,
};
use crate::{
    address::Address,
    client::{Answer, Fault},
    security::Tls,
};

/// Connections to one member at once. The crate makes one after the other.
const AT_ONCE: usize = 4;

/// The pause after a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// What a request may have: more than any server takes.
const LONGEST_REQUEST: usize = 64 << 20;

/// What an answer has besides names and data, for each record.
const AROUND: usize = 128;

/// How relays are made.
#[derive(Debug)]
pub(super) struct Plan {
    tls: Option<(TlsConfig, Pass)>,
    connect_timeout: Duration,
    /// The longest answer, in bytes.
    longest: usize,
}

impl Plan {
    /// None where the crate is to speak to the servers itself.
    pub(super) fn of(settings: &ConnectionConfig) -> Result<Option<Arc<Self>>> {
        let is_named = settings.tls.as_ref().is_some_and(|tls| tls.server_name.is_some());
        // Servers speak TLS by Netty, which answers a login at once, and the request for a session when it is on disk.
        let is_overtaken = settings.tls.is_some() && settings.user.is_some();
        if !(settings.zookeeper.guard || is_named || is_overtaken) {
            return Ok(None);
        }
        let tls = match &settings.tls {
            Some(tls) => Some((tls.clone(), Pass::new()?)),
            None => None,
        };
        let around = settings.max_endpoints.saturating_mul(AROUND);
        let longest = settings.max_service_bytes.saturating_add(around);
        Ok(Some(Arc::new(Self { tls, connect_timeout: settings.connect_timeout, longest })))
    }

    /// What the crate has to trust and to show, in place of what the servers want.
    pub(super) fn tls(&self) -> Option<Tls> {
        self.tls.as_ref().map(|(_, pass)| pass.tls())
    }
}

/// Relays for one connection, one to each member. Dropping it ends what goes through.
#[derive(Debug)]
pub(super) struct Relay {
    /// Where the members are for the crate.
    pub(super) members: Vec<String>,
    why: Why,
    serving: JoinSet<()>,
}

impl Relay {
    pub(super) async fn open(plan: &Arc<Plan>, members: &[String]) -> Answer<Self> {
        let unable = |error: io::Error| Fault::Disconnected(format!("no relay on the loopback: {error}"));
        let why = Why::default();
        let mut relay = Self { members: Vec::new(), why: why.clone(), serving: JoinSet::new() };
        for member in members {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(unable)?;
            relay.members.push(listener.local_addr().map_err(unable)?.to_string());
            let way = Way { plan: plan.clone(), member: member.clone(), why: why.clone() };
            relay.serving.spawn(serve(listener, way));
        }
        Ok(relay)
    }

    /// What a server has done that ended the connection, as soon as it has.
    pub(super) fn why(&self) -> Why {
        self.why.clone()
    }
}

/// Why a server was left.
#[derive(Clone, Debug, Default)]
pub(super) struct Why(Arc<Mutex<Option<String>>>);

impl Why {
    /// Takes it, so that it is told of one connection only: the crate may try several members.
    pub(super) fn take(&self) -> Option<Fault> {
        lock(&self.0).take().map(Fault::Other)
    }

    fn put(&self, why: String) {
        lock(&self.0).get_or_insert(why);
    }
}

/// The way to one member.
#[derive(Clone)]
struct Way {
    plan: Arc<Plan>,
    member: String,
    why: Why,
}

/// Both ends of a connection, in plain text or in TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn serve(listener: TcpListener, way: Way) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < AT_ONCE => match accepted {
                Ok((near, _)) => drop(open.spawn(way.clone().take(near))),
                // No more sockets, for example.
                Err(_) => sleep(PAUSE).await,
            },
            Some(_) = open.join_next() => {}
        }
    }
}

impl Way {
    async fn take(self, near: TcpStream) {
        if let Err(error) = self.pass_on(near).await
            && error.get_ref().is_some_and(|cause| cause.is::<Harm>())
        {
            self.why.put(format!("{} was left: {error}", self.member));
        }
    }

    async fn pass_on(&self, near: TcpStream) -> io::Result<()> {
        let limit = self.plan.connect_timeout;
        let near = timeout(limit, self.let_in(near)).await??;
        let far = timeout(limit, self.reach()).await??;
        let (from_near, to_near) = split(near);
        let (from_far, to_far) = split(far);
        let (mut from_near, mut to_near) = (BufReader::new(from_near), BufWriter::new(to_near));
        let (mut from_far, mut to_far) = (BufReader::new(from_far), BufWriter::new(to_far));
        let (asked, answered) = (Asked::default(), Notify::new());
        let session = async || timeout(limit, answered.notified()).await.map_err(io::Error::from);
        let ended = tokio::select! {
            ended = requests(&mut from_near, &mut to_far, &asked, session) => {
                return ended.and(to_far.shutdown().await);
            }
            ended = answers(&mut from_far, &mut to_near, &asked, &answered, self.plan.longest) => ended,
        };
        // The last words of a server must not be lost by a reset, as they would be if we left something unread.
        to_near.shutdown().await?;
        let _ = timeout(limit, copy(&mut from_near, &mut sink())).await;
        ended
    }

    async fn let_in(&self, near: TcpStream) -> io::Result<Box<dyn Stream>> {
        near.set_nodelay(true)?;
        Ok(match &self.plan.tls {
            None => Box::new(near),
            Some((_, pass)) => Box::new(pass.acceptor().accept(near).await?),
        })
    }

    async fn reach(&self) -> io::Result<Box<dyn Stream>> {
        let far = TcpStream::connect(&self.member).await?;
        far.set_nodelay(true)?;
        let Some((tls, _)) = &self.plan.tls else { return Ok(Box::new(far)) };
        let shaken = async {
            let config = discox_tls::client_config(tls, &[])?;
            discox_tls::handshake(tls, config, Address::host(&self.member), far).await
        };
        Ok(Box::new(shaken.await.map_err(io::Error::other)?))
    }
}

/// Passes on what the crate asks, until it has nothing more to ask. The first request is for a session, and whatever
/// follows waits for it.
async fn requests(
    from: &mut BufReader<impl AsyncRead + Unpin>,
    to: &mut BufWriter<impl AsyncWrite + Unpin>,
    asked: &Asked,
    session: impl AsyncFnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let mut frame = Vec::new();
    if frames::read(from, &mut frame, LONGEST_REQUEST).await? != Frame::Whole {
        return Ok(());
    }
    write(to, &frame, true).await?;
    session().await?;
    while frames::read(from, &mut frame, LONGEST_REQUEST).await? == Frame::Whole {
        asked.sends(&frame)?;
        write(to, &frame, !frames::is_there(from.buffer())).await?;
        asked.sent();
    }
    Ok(())
}

/// Passes on what the server says, until it hangs up.
async fn answers(
    from: &mut BufReader<impl AsyncRead + Unpin>,
    to: &mut BufWriter<impl AsyncWrite + Unpin>,
    asked: &Asked,
    answered: &Notify,
    longest: usize,
) -> io::Result<()> {
    let mut frame = Vec::new();
    loop {
        match frames::read(from, &mut frame, longest).await? {
            Frame::End => return Ok(()),
            Frame::Whole => asked.is_answered(&frame)?,
            Frame::TooLong(rest) => {
                frame = asked.is_answered_too_long(&frame)?;
                copy(&mut tokio::io::AsyncReadExt::take(&mut *from, rest), &mut sink()).await?;
            }
        }
        write(to, &frame, !frames::is_there(from.buffer())).await?;
        answered.notify_one();
    }
}

/// Writes a frame, and sends what was written unless there is another one already.
async fn write(to: &mut BufWriter<impl AsyncWrite + Unpin>, frame: &[u8], is_last: bool) -> io::Result<()> {
    // A frame that was read is no longer than a number tells.
    to.write_i32(i32::try_from(frame.len()).unwrap_or(i32::MAX)).await?;
    to.write_all(frame).await?;
    if is_last { to.flush().await } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use discox_core::{ErrorKind, ZookeeperOptions};
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
        let relay = Relay::open(&plan, &[member]).await.unwrap();
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
        let relay = Relay::open(&plan, &[server.local_addr().unwrap().to_string()]).await.unwrap();
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
        let relay = Relay::open(&plan, &[server.local_addr().unwrap().to_string()]).await.unwrap();
        let door = &relay.members[0];

        let mut plain = TcpStream::connect(door).await.unwrap();
        plain.write_all(&frame(b"hello")).await.unwrap();
        let _ = timeout(SOON, plain.read_to_end(&mut Vec::new())).await.unwrap();

        // One shows nothing, and one what anybody can make.
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
        let stranger = (Some(cert.pem().into()), Some(signing_key.serialize_pem().into()));
        for (cert, key) in [(None, None), stranger] {
            let ca = plan.tls().map(|tls| tls.roots.into());
            let tls = TlsConfig { ca, cert, key, ..Default::default() };
            let config = discox_tls::client_config(&tls, &[]).unwrap();
            let stream = TcpStream::connect(door).await.unwrap();
            let probed = discox_tls::probe(&tls, config, "127.0.0.1", stream, b"hello");
            let refused = timeout(SOON, probed).await.unwrap().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
        }
        assert!(server.accept().now_or_never().is_none(), "somebody came through");
    }
}
