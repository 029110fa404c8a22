//! ZooKeeper by its wire protocol: its shell starts a Java machine for every look, which takes longer than what is
//! looked at.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{Member, Stream};

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const GET: i32 = 4;
const SET: i32 = 5;
const SET_ACL: i32 = 7;
const CHILDREN: i32 = 8;
const AUTHENTICATE: i32 = 100;

/// The number of a request, and that of one which authenticates.
const NUMBER: i32 = 1;
const NUMBER_OF_AUTHENTICATION: i32 = -4;

const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;

/// Who may do what with a node: rights as in `zkCli.sh`, of `cdrwa`; scheme; id.
#[derive(Clone, Debug)]
pub struct Acl {
    rights: i32,
    scheme: String,
    id: String,
}

impl Acl {
    /// `scheme:id:rights`, as `setAcl` of `zkCli.sh` takes it. The id may hold colons.
    ///
    /// # Errors
    ///
    /// It has no colons.
    pub fn new(acl: &str) -> Result<Acl> {
        let (scheme, rest) = acl.split_once(':').context("no scheme")?;
        let (id, rights) = rest.rsplit_once(':').context("no rights")?;
        let bits = "rwcda".chars().zip([1, 2, 4, 8, 16]);
        let rights = bits.filter(|(letter, _)| rights.contains(*letter)).map(|(_, bit)| bit).sum();
        Ok(Acl { rights, scheme: scheme.to_owned(), id: id.to_owned() })
    }

    fn bytes(acls: &[Acl]) -> Vec<u8> {
        let one = |acl: &Acl| {
            [&acl.rights.to_be_bytes()[..], &buffer(acl.scheme.as_bytes()), &buffer(acl.id.as_bytes())]
                .concat()
        };
        [length(acls.len()).to_vec(), acls.iter().flat_map(one).collect()].concat()
    }
}

/// A session of a few requests, one after the other. What it creates is persistent.
pub struct Session(Box<dyn Stream>);

impl Session {
    /// As the harness enters this member.
    pub async fn open(member: &Member) -> Result<Session> {
        let mut session = Session(member.connect().await?);
        // Protocol 0, last change seen 0, session timeout in ms, no session yet, no password yet.
        let timeout = 5_000_i32.to_be_bytes();
        let hello = [&[0; 12], &timeout[..], &[0; 8], &buffer(&[0; 16])[..]].concat();
        session.send(&hello).await?;
        session.receive().await?;
        if let Some(login) = member.zookeeper_digest() {
            session.authenticate("digest", login).await?;
        }
        Ok(session)
    }

    async fn authenticate(&mut self, scheme: &str, login: &str) -> Result<()> {
        let request = [vec![0; 4], buffer(scheme.as_bytes()), buffer(login.as_bytes())].concat();
        match self.ask_as(NUMBER_OF_AUTHENTICATION, AUTHENTICATE, &request).await? {
            (0, _) => Ok(()),
            (error, _) => bail!("authentication: error {error}"),
        }
    }

    /// Creates a node with all rights to everybody. One that is there stays.
    pub async fn create(&mut self, path: &str, data: &[u8]) -> Result<()> {
        self.create_for(path, data, &[Acl::new("world:anyone:cdrwa")?]).await
    }

    /// Creates a node with these rights. One that is there stays.
    pub async fn create_for(&mut self, path: &str, data: &[u8], acls: &[Acl]) -> Result<()> {
        // No flags.
        let request = [buffer(path.as_bytes()), buffer(data), Acl::bytes(acls), vec![0; 4]].concat();
        match self.ask(CREATE, &request).await? {
            (0 | NODE_EXISTS, _) => Ok(()),
            (error, _) => bail!("create {path}: error {error}"),
        }
    }

    /// Removes a node, if there is one.
    pub async fn delete(&mut self, path: &str) -> Result<()> {
        match self.ask(DELETE, &[buffer(path.as_bytes()), any_version()].concat()).await? {
            (0 | NO_NODE, _) => Ok(()),
            (error, _) => bail!("delete {path}: error {error}"),
        }
    }

    /// Changes a node's data. False: there is no such node.
    pub async fn set(&mut self, path: &str, data: &[u8]) -> Result<bool> {
        match self.ask(SET, &[buffer(path.as_bytes()), buffer(data), any_version()].concat()).await? {
            (0, _) => Ok(true),
            (NO_NODE, _) => Ok(false),
            (error, _) => bail!("set {path}: error {error}"),
        }
    }

    /// Changes who may do what with a node. False: there is no such node.
    pub async fn set_acl(&mut self, path: &str, acls: &[Acl]) -> Result<bool> {
        let request = [buffer(path.as_bytes()), Acl::bytes(acls), any_version()].concat();
        match self.ask(SET_ACL, &request).await? {
            (0, _) => Ok(true),
            (NO_NODE, _) => Ok(false),
            (error, _) => bail!("setAcl {path}: error {error}"),
        }
    }

    /// A node's data, if there is such a node.
    pub async fn get(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        match self.ask(GET, &[buffer(path.as_bytes()), vec![0]].concat()).await? {
            (0, answer) => Ok(Some(take_buffer(&mut &answer[..])?)),
            (NO_NODE, _) => Ok(None),
            (error, _) => bail!("get {path}: error {error}"),
        }
    }

    /// The names of a node's children; none if there is no such node.
    pub async fn children(&mut self, path: &str) -> Result<Vec<String>> {
        match self.ask(CHILDREN, &[buffer(path.as_bytes()), vec![0]].concat()).await? {
            (0, answer) => {
                let (count, mut rest) = answer.split_first_chunk().context("cut short")?;
                let names = (0..i32::from_be_bytes(*count)).map(|_| take_buffer(&mut rest));
                names.map(|name| Ok(String::from_utf8(name?)?)).collect()
            }
            (NO_NODE, _) => Ok(Vec::new()),
            (error, _) => bail!("ls {path}: error {error}"),
        }
    }

    /// The error, 0 for none, and the answer.
    async fn ask(&mut self, operation: i32, request: &[u8]) -> Result<(i32, Vec<u8>)> {
        self.ask_as(NUMBER, operation, request).await
    }

    async fn ask_as(&mut self, number: i32, operation: i32, request: &[u8]) -> Result<(i32, Vec<u8>)> {
        self.send(&[&number.to_be_bytes(), &operation.to_be_bytes()[..], request].concat()).await?;
        let answer = self.receive().await?;
        // Number and last change, then the error.
        let error = answer.get(12..16).context("cut short")?.try_into()?;
        Ok((i32::from_be_bytes(error), answer[16..].to_vec()))
    }

    async fn send(&mut self, packet: &[u8]) -> Result<()> {
        self.0.write_all(&buffer(packet)).await?;
        Ok(self.0.flush().await?)
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
    [&length(bytes.len())[..], bytes].concat()
}

fn length(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes()
}

fn take_buffer(bytes: &mut &[u8]) -> Result<Vec<u8>> {
    let (length, rest) = bytes.split_first_chunk().context("cut short")?;
    // No data at all has the length -1.
    let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
    let (data, rest) = rest.split_at_checked(length).context("cut short")?;
    *bytes = rest;
    Ok(data.to_vec())
}

fn any_version() -> Vec<u8> {
    (-1_i32).to_be_bytes().to_vec()
}
