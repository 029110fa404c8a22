//! What stands between the crate and the servers where the crate alone is not enough: over TLS it knows a server by no
//! other name than the host that it dials, and of a host no address but the first that answers, and it believes the
//! lengths and counts that a server writes. So it dials a relay, in this process and on the loopback, which speaks to
//! the server in its place and passes on what does no harm. And it sends its login right behind the request for a
//! session, and takes it for a wrong version when a server answers the login first: so the relay holds the login back
//! until there is a session.
//!
//! What is TLS to the servers is TLS to the relay as well, see [`pass`].

mod frames;
mod pass;
mod plan;

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use discox_core::backend::lock;
use discox_tls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, copy, sink, split},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::frames::{Asked, Frame, Harm};
pub(super) use self::{pass::Pass, plan::Plan};
use crate::{
    address::Address,
    client::{Answer, Fault},
};

/// Connections to one member at once. The crate makes one after the other.
const AT_ONCE: usize = 4;

/// The pause after a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// What a request may have: more than any server takes.
const LONGEST_REQUEST: usize = 64 << 20;

/// Relays for one connection, one to each member. Dropping it ends what goes through.
#[derive(Debug)]
pub(super) struct Relay {
    /// Where the members are for the crate.
    pub(super) members: Vec<String>,
    why: Why,
    serving: JoinSet<()>,
}

impl Relay {
    /// Opens one to each member. `tls` is what the files hold now, where the plan is to speak TLS.
    pub(super) async fn open(
        plan: &Arc<Plan>,
        members: &[String],
        tls: Option<&Arc<ClientConfig>>,
    ) -> Answer<Self> {
        let unable = |error: io::Error| Fault::Disconnected(format!("no relay on the loopback: {error}"));
        let why = Why::default();
        let mut relay = Self { members: Vec::new(), why: why.clone(), serving: JoinSet::new() };
        for member in members {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(unable)?;
            relay.members.push(listener.local_addr().map_err(unable)?.to_string());
            let way = Way { plan: plan.clone(), member: member.clone(), tls: tls.cloned(), why: why.clone() };
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
    tls: Option<Arc<ClientConfig>>,
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
        let (host, port) = Address::parts(&self.member);
        let far = discox_tls::dial(host, port).await.map_err(io::Error::other)?;
        let (Some((tls, _)), Some(config)) = (&self.plan.tls, &self.tls) else { return Ok(Box::new(far)) };
        let shaken = discox_tls::handshake(tls, config.clone(), host, far).await;
        Ok(Box::new(shaken.map_err(io::Error::other)?))
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
mod tests;
