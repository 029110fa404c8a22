//! ZooKeeper: how it is started, and what it is asked.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::access::Door;
use super::ask::four_letters;
use super::layout::{Layout, Plan};

/// Small and quick to start; no flush, since data must outlive the process and not the machine; and votes are sent
/// again after a second at most, where a lost one would hold up an election for up to a minute.
const JVM_FLAGS: &str = "-Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dzookeeper.forceSync=no \
                         -Dzookeeper.fastleader.maxNotificationInterval=1000";

pub(crate) fn plan(layout: &Layout<'_>) -> Plan {
    let config = format!("{}/zoo.cfg", layout.config);
    let files = vec![
        (config.clone(), zoo_cfg(layout).into_bytes()),
        (format!("{}/myid", layout.data), format!("{}\n", layout.me + 1).into_bytes()),
    ];
    let args = std::iter::once(config).chain(layout.extra_args()).collect();
    Plan { args, env: vec![("JVMFLAGS".into(), JVM_FLAGS.into())], files }
}

fn zoo_cfg(layout: &Layout<'_>) -> String {
    let (bind, port) = layout.client_bind;
    let client_port = if layout.extra.access.is_tls() { "secureClientPort" } else { "clientPort" };
    let mut config = format!(
        "dataDir={}\n\
         {client_port}Address={bind}\n\
         {client_port}={port}\n\
         tickTime=500\n\
         initLimit=10\n\
         syncLimit=5\n\
         maxClientCnxns=0\n\
         minSessionTimeout=1000\n\
         maxSessionTimeout=60000\n\
         4lw.commands.whitelist=*\n\
         admin.enableServer=false\n",
        layout.data
    );
    if layout.nodes.len() > 1 {
        for (i, node) in layout.nodes.iter().enumerate() {
            // The line of a server itself is also what it listens on.
            let host = if i == layout.me { layout.peer_bind } else { &node.host };
            let [quorum, election] = node.peer_ports;
            // Writing to a String cannot fail.
            let _ = writeln!(config, "server.{}={host}:{quorum}:{election}", i + 1);
        }
    }
    config + &layout.filled(&layout.extra.config)
}

pub(crate) async fn answers(door: Door<'_>) -> bool {
    matches!(mode(door).await, Ok(Some(_)))
}

pub(crate) async fn leads(door: Door<'_>) -> Result<bool> {
    Ok(mode(door).await?.is_some_and(|mode| mode == "leader" || mode == "standalone"))
}

/// None while it looks for its leader.
async fn mode(door: Door<'_>) -> Result<Option<String>> {
    let answer = four_letters(door, "srvr").await?;
    Ok(answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned))
}

pub(crate) async fn version(door: Door<'_>) -> Result<String> {
    let answer = four_letters(door, "srvr").await?;
    let version = answer.lines().find_map(|line| line.strip_prefix("Zookeeper version: "));
    let version = version.and_then(|version| version.split(['-', ',', ' ']).next());
    version.map(str::to_owned).context("no version")
}

/// What a command printed, without the shell's own lines about its connection: another thread prints those, before or
/// after.
pub(crate) fn without_noise(output: &str) -> String {
    let is_noise = |line: &str| {
        let begins = ["Connecting to ", "WATCHER::", "WatchedEvent state:"];
        line.contains("[myid:") || begins.iter().any(|begin| line.starts_with(begin))
    };
    let lines = output.lines().filter(|line| !is_noise(line));
    lines.collect::<Vec<_>>().join("\n").trim_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shells_own_lines_are_left_out_wherever_they_are() {
        let event = "WATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null zxid: -1\n";
        for output in [
            format!("Connecting to here\n2026 [myid:] - INFO\n\n{event}an attr\nof two lines\n"),
            format!("Connecting to here\nan attr\nof two lines\n\n{event}"),
        ] {
            assert_eq!(without_noise(&output), "an attr\nof two lines");
        }
    }
}
