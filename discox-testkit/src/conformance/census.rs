//! Counting what must not be left behind: tasks and connections.

use std::{collections::HashSet, fs, time::Duration};

use anyhow::{Context, Result};
use tokio::runtime::Handle;

use super::ground::Ground;
use crate::wait::eventually;

/// Waits until this runtime has no task and this process no connection to the registry.
///
/// # Errors
/// Something is left.
pub async fn nothing_is_left(ground: &dyn Ground, within: Duration) -> Result<()> {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let nothing = eventually(within, "the end of all tasks and connections", async || {
        tasks() == 0 && ground.connections().is_ok_and(|count| count == 0)
    });
    let outcome = nothing.await;
    outcome.with_context(|| format!("left: {} tasks, {:?} connections", tasks(), ground.connections()))
}

/// How many TCP connections this process has to a port of any address, by what Linux says of them.
/// Those that are only waiting for late packets belong to no process and do not count.
///
/// # Errors
/// `/proc` could not be read.
pub fn connections_to(port: u16) -> Result<usize> {
    let ours = own_sockets()?;
    let mut count = 0;
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let table = fs::read_to_string(table).unwrap_or_default();
        count += table.lines().skip(1).filter(|line| is_to(line, port, &ours)).count();
    }
    Ok(count)
}

/// A line of `/proc/net/tcp`: number, local, remote, state, queues, timer, retransmits, uid, timeout,
/// inode.
fn is_to(line: &str, port: u16, ours: &HashSet<String>) -> bool {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let to_port = |remote: &&str| {
        remote.rsplit_once(':').is_some_and(|(_, found)| u16::from_str_radix(found, 16) == Ok(port))
    };
    fields.get(2).is_some_and(to_port) && fields.get(9).is_some_and(|inode| ours.contains(*inode))
}

fn own_sockets() -> Result<HashSet<String>> {
    let files = fs::read_dir("/proc/self/fd").context("counting connections needs Linux's /proc")?;
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let inode = |target: std::path::PathBuf| {
        let name = target.to_string_lossy().into_owned();
        Some(name.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    Ok(targets.filter_map(inode).collect())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn counts_the_connections_of_this_process_to_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(connections_to(address.port()).unwrap(), 0);
        let streams = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        assert_eq!(connections_to(address.port()).unwrap(), 2);
        drop(streams);
        assert_eq!(connections_to(address.port()).unwrap(), 0);
    }
}
