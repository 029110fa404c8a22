//! A service of an existing fleet: Apache Curator in a Java machine of its own, which is not ours.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::OnceCell,
};

use crate::{
    server::{session::Session, settings},
    wait::eventually,
};

/// A Java machine takes seconds to start on a busy machine, and as long to find its registry again.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sources, below `java/`: the program, and a class that has the name of Spring's payload.
const SOURCES: [&str; 2] =
    ["CuratorClient.java", "org/springframework/cloud/zookeeper/discovery/ZookeeperInstance.java"];

/// The class of payloads that a client reads and writes: all of one directory must have the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Payload {
    /// `java.lang.Object`: whatever JSON there is.
    Map,
    /// Spring Cloud's.
    Spring,
    /// Text.
    Text,
    /// None.
    Void,
}

impl Payload {
    fn as_str(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Spring => "spring",
            Self::Text => "text",
            Self::Void => "void",
        }
    }
}

/// A client that follows one service by a `ServiceCache`, queries it, and registers itself. Dropping it kills it.
pub struct Curator {
    child: Child,
    input: ChildStdin,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Curator {
    /// Starts one, and returns when its cache has its first list.
    ///
    /// # Errors
    /// There is no Java or no Curator, or it did not start.
    pub async fn start(connect: &str, base: &str, service: &str, payload: Payload) -> Result<Self> {
        let classpath = format!("{}:{}", classes().await?.display(), curator()?);
        let mut child = java("java")
            .args([
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
                "-XX:TieredStopAtLevel=1",
                "-cp",
                &classpath,
            ])
            .args(["CuratorClient", connect, base, service, payload.as_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("java")?;
        let (input, output) =
            (child.stdin.take().context("no input")?, child.stdout.take().context("no output")?);
        let lines = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn({
            let (lines, mut output) = (lines.clone(), BufReader::new(output).lines());
            async move {
                while let Ok(Some(line)) = output.next_line().await {
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
        });
        let curator = Self { child, input, lines };
        curator.line_from(0, "its first list", |line| line.starts_with("cache")).await?;
        Ok(curator)
    }

    /// Every list that its cache has had, the latest last: `address:port=payload` of each instance, sorted.
    pub fn lists(&self) -> Vec<Vec<String>> {
        self.said().iter().filter_map(|line| instances(line, "cache")).collect()
    }

    /// Waits until its cache has this list, and nothing else.
    ///
    /// # Errors
    /// It did not come to that.
    pub async fn shows(&self, list: &[&str]) -> Result<()> {
        let what = format!("Curator's cache to be {list:?}");
        let shown =
            eventually(PATIENCE, &what, async || self.lists().last().is_some_and(|last| last == list));
        shown.await.with_context(|| format!("it said {:#?}", self.said()))
    }

    /// What `queryForInstances` gives.
    ///
    /// # Errors
    /// It threw.
    pub async fn query(&mut self) -> Result<Vec<String>> {
        let line = self.ask("query").await?;
        instances(&line, "query").context(line)
    }

    /// What a `ServiceProvider` gives: those that are enabled.
    ///
    /// # Errors
    /// It threw.
    pub async fn provider(&mut self) -> Result<Vec<String>> {
        let line = self.ask("provider").await?;
        instances(&line, "provider").context(line)
    }

    /// Registers itself. The text becomes the payload, or its member `version`.
    ///
    /// # Errors
    /// It threw.
    pub async fn register(&mut self, address: &str, port: u16, id: &str, text: &str) -> Result<()> {
        self.done(&format!("register {address} {port} {id} {text}")).await
    }

    /// Changes its record.
    ///
    /// # Errors
    /// It threw.
    pub async fn update(&mut self, text: &str) -> Result<()> {
        self.done(&format!("update {text}")).await
    }

    /// Removes its record.
    ///
    /// # Errors
    /// It threw.
    pub async fn unregister(&mut self) -> Result<()> {
        self.done("unregister").await
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It could not be killed.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    async fn done(&mut self, command: &str) -> Result<()> {
        let line = self.ask(command).await?;
        ensure!(line == "done", "{command}: {line}");
        Ok(())
    }

    async fn ask(&mut self, command: &str) -> Result<String> {
        let before = self.said().len();
        self.input.write_all(format!("{command}\n").as_bytes()).await?;
        let is_answer = |line: &str| !line.starts_with("cache") && !line.starts_with("state");
        self.line_from(before, &format!("an answer to {command}"), is_answer).await
    }

    async fn line_from(&self, from: usize, what: &str, is_it: impl Fn(&str) -> bool) -> Result<String> {
        let found =
            eventually(PATIENCE, what, async || self.said().into_iter().skip(from).find(|line| is_it(line)));
        found.await.with_context(|| format!("it said {:#?}", self.said()))
    }

    fn said(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The instances that a line lists, if it begins with this word.
fn instances(line: &str, first: &str) -> Option<Vec<String>> {
    let mut words = line.split('\t');
    (words.next() == Some(first)).then(|| words.filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

fn curator() -> Result<String> {
    settings::value("DISCOX_TEST_CURATOR_CLASSPATH")
        .context("no Apache Curator: run scripts/fetch-test-servers, or set DISCOX_TEST_CURATOR_CLASSPATH")
}

fn java(program: &str) -> Command {
    let jdk = settings::value("DISCOX_TEST_JDK");
    Command::new(jdk.map_or_else(|| program.into(), |jdk| Path::new(&jdk).join("bin").join(program)))
}

/// The program, compiled once in a process.
async fn classes() -> Result<&'static PathBuf> {
    static CLASSES: OnceCell<PathBuf> = OnceCell::const_new();
    CLASSES.get_or_try_init(compile).await
}

async fn compile() -> Result<PathBuf> {
    let classes = Session::get()?.folder("curator")?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("java");
    let compiled = java("javac")
        .arg("-d")
        .arg(&classes)
        .args(["-cp", &curator()?])
        .args(SOURCES.map(|source| sources.join(source)))
        .output()
        .await
        .context("javac: a JDK is needed, run scripts/fetch-test-servers")?;
    ensure!(compiled.status.success(), "javac: {}", String::from_utf8_lossy(&compiled.stderr));
    Ok(classes)
}
