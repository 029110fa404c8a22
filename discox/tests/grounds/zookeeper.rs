//! ZooKeeper, by its wire protocol: its shell starts a Java machine for every look, which takes longer
//! than what is looked at. (That the shell sees the same is tested with discox-zookeeper.)

use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use discox::BackendType;
use discox_testkit::{
    conformance::Place,
    server::{Kind, Member},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::server::Tools;

/// A server that is well answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Default)]
pub(super) struct Zookeeper;

#[async_trait(?Send)]
impl Tools for Zookeeper {
    const BACKEND: BackendType = BackendType::Zookeeper;
    const KIND: Kind = Kind::Zookeeper;
    /// Two ticks of 500 ms, and a second.
    const EXPIRY_TAKES: Duration = Duration::from_secs(2);

    async fn put(member: &Member, place: &Place, attr: &str) -> Result<()> {
        within(async {
            let mut session = Session::open(member).await?;
            if session.set(&place.key(), attr.as_bytes()).await? {
                return Ok(());
            }
            let key = place.key();
            for (end, _) in key.match_indices('/').skip(1) {
                session.create(&key[..end], b"").await?;
            }
            session.create(&key, attr.as_bytes()).await
        })
        .await
    }

    async fn delete(member: &Member, place: &Place) -> Result<()> {
        within(async { Session::open(member).await?.delete(&place.key()).await }).await
    }

    async fn garbage(member: &Member, place: &Place) -> Result<()> {
        Self::put(member, place, "not host:port").await
    }

    async fn read(member: &Member, place: &Place) -> Result<Option<String>> {
        let data = within(async { Session::open(member).await?.get(&place.key()).await }).await?;
        Ok(data.map(String::from_utf8).transpose()?)
    }
}

async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, work).await.context("no answer")?
}

/// A session of a few requests, one after the other. What it creates is persistent.
struct Session(TcpStream);

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const GET: i32 = 4;
const SET: i32 = 5;

const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;

impl Session {
    async fn open(member: &Member) -> Result<Self> {
        let mut session = Self(TcpStream::connect(member.address()).await?);
        // Protocol 0, last change seen 0, session timeout in ms, no session yet, no password yet.
        let timeout = 5_000_i32.to_be_bytes();
        let hello = [&[0; 12], &timeout[..], &[0; 8], &buffer(&[0; 16])[..]].concat();
        session.send(&hello).await?;
        session.receive().await?;
        Ok(session)
    }

    async fn create(&mut self, path: &str, data: &[u8]) -> Result<()> {
        // One ACL: all rights to everybody; no flags.
        let acl =
            [&1_i32.to_be_bytes()[..], &31_i32.to_be_bytes(), &buffer(b"world"), &buffer(b"anyone")].concat();
        let request = [buffer(path.as_bytes()), buffer(data), acl, vec![0; 4]].concat();
        match self.ask(CREATE, &request).await? {
            (0 | NODE_EXISTS, _) => Ok(()),
            (error, _) => bail!("create {path}: error {error}"),
        }
    }

    async fn delete(&mut self, path: &str) -> Result<()> {
        match self.ask(DELETE, &[buffer(path.as_bytes()), any_version()].concat()).await? {
            (0 | NO_NODE, _) => Ok(()),
            (error, _) => bail!("delete {path}: error {error}"),
        }
    }

    /// Whether there is such a node.
    async fn set(&mut self, path: &str, data: &[u8]) -> Result<bool> {
        match self.ask(SET, &[buffer(path.as_bytes()), buffer(data), any_version()].concat()).await? {
            (0, _) => Ok(true),
            (NO_NODE, _) => Ok(false),
            (error, _) => bail!("set {path}: error {error}"),
        }
    }

    async fn get(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        match self.ask(GET, &[buffer(path.as_bytes()), vec![0]].concat()).await? {
            (0, answer) => {
                let (length, data) = answer.split_first_chunk().context("cut short")?;
                // No data at all has the length -1.
                let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
                Ok(Some(data.get(..length).context("cut short")?.to_vec()))
            }
            (NO_NODE, _) => Ok(None),
            (error, _) => bail!("get {path}: error {error}"),
        }
    }

    /// The error, 0 for none, and the answer.
    async fn ask(&mut self, operation: i32, request: &[u8]) -> Result<(i32, Vec<u8>)> {
        let number = 1_i32.to_be_bytes();
        self.send(&[&number, &operation.to_be_bytes()[..], request].concat()).await?;
        let answer = self.receive().await?;
        // Number and last change, then the error.
        let error = answer.get(12..16).context("cut short")?.try_into()?;
        Ok((i32::from_be_bytes(error), answer[16..].to_vec()))
    }

    async fn send(&mut self, packet: &[u8]) -> Result<()> {
        Ok(self.0.write_all(&buffer(packet)).await?)
    }

    async fn receive(&mut self) -> Result<Vec<u8>> {
        let length = usize::try_from(self.0.read_i32().await?)?;
        let mut packet = vec![0; length];
        self.0.read_exact(&mut packet).await?;
        Ok(packet)
    }
}

/// Its length, and the bytes.
fn buffer(bytes: &[u8]) -> Vec<u8> {
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

fn any_version() -> Vec<u8> {
    (-1_i32).to_be_bytes().to_vec()
}
