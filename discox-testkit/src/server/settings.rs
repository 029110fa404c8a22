//! What the environment says: variables first, then the file that `scripts/fetch-test-servers` wrote, then PATH.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testcontainers::core::client::docker_client_instance;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::layout::Kind;

/// A daemon that takes longer than this to say hello is of no use to the tests.
const DAEMON_ANSWERS: Duration = Duration::from_secs(10);

/// What to do when something is missing; ends most of this module's errors.
const FETCH: &str = "run scripts/fetch-test-servers, which says what else can be done";

/// How servers are provided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Docker,
    Process,
}

/// Decided once per process.
pub(crate) async fn how() -> Result<How> {
    static HOW: OnceCell<How> = OnceCell::const_new();
    HOW.get_or_try_init(decide).await.copied()
}

async fn decide() -> Result<How> {
    match value("DISCOX_TEST_SERVERS").as_deref() {
        Some("docker") => {
            daemon_answers().await.context("DISCOX_TEST_SERVERS=docker, but no Docker daemon answers")?;
            Ok(How::Docker)
        }
        Some("process") => Ok(How::Process),
        Some(other) => bail!("DISCOX_TEST_SERVERS is {other:?}, use docker or process"),
        None => Ok(if daemon_answers().await.is_ok() { How::Docker } else { How::Process }),
    }
}

async fn daemon_answers() -> Result<()> {
    timeout(DAEMON_ANSWERS, docker_client_instance().await?.ping()).await??;
    Ok(())
}

/// A setting of `scripts/fetch-test-servers`; empty ones count as not set.
pub(crate) fn value(name: &str) -> Option<String> {
    static FILE: OnceLock<HashMap<String, String>> = OnceLock::new();
    let set = std::env::var(name).ok().filter(|value| !value.is_empty());
    set.or_else(|| FILE.get_or_init(read_file).get(name).cloned())
}

/// The container image of this server: as set, else the official one.
pub(crate) fn image(kind: Kind) -> String {
    let (setting, official) = match kind {
        Kind::Etcd => ("DISCOX_TEST_ETCD_IMAGE", "quay.io/coreos/etcd:v3.5.16"),
        Kind::Zookeeper => ("DISCOX_TEST_ZOOKEEPER_IMAGE", "zookeeper:3.9.3"),
        Kind::Consul => ("DISCOX_TEST_CONSUL_IMAGE", "hashicorp/consul:1.20"),
    };
    value(setting).unwrap_or_else(|| official.to_owned())
}

/// The program of this setting, else the one of this name on PATH.
pub(crate) fn program(setting: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = value(setting) {
        return Ok(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("no Docker daemon is used and there is no program {name}: {FETCH}"))
}

/// The class path of ZooKeeper's server and shell.
pub(crate) fn zookeeper_classpath() -> Result<String> {
    value("DISCOX_TEST_ZOOKEEPER_CLASSPATH")
        .or_else(|| std::env::var("ZOOKEEPER_HOME").ok().map(|home| format!("{home}/lib/*:{home}/conf")))
        .with_context(|| format!("no Docker daemon is used and there is no ZooKeeper: {FETCH}"))
}

/// `NAME="value"` lines; the first such file is the one.
fn read_file() -> HashMap<String, String> {
    let text = candidates().iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

/// The build folder this test lies in, then the workspace's usual one.
fn candidates() -> Vec<PathBuf> {
    let exe = std::env::current_exe().unwrap_or_default();
    let mut folders: Vec<&Path> = exe.ancestors().skip(1).collect();
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    folders.push(&usual);
    folders.iter().map(|folder| folder.join("discox-test/env")).collect()
}
