//! The processes of a cluster's members, and whose a connection on this machine is: `/proc` tells.

use std::{collections::HashMap, fs, time::Instant};

/// A connection's ports: that of who holds it, and the other.
pub(crate) type Ends = (u16, u16);

/// Which process is which member.
#[derive(Default)]
pub(crate) struct Processes {
    members: HashMap<u32, usize>,
    /// As they were read last.
    connections: HashMap<Ends, usize>,
    read: Option<Instant>,
}

impl Processes {
    /// A member has been started, as this process.
    pub(crate) fn is_now(&mut self, member: usize, pid: u32) {
        self.members.retain(|_, known| *known != member);
        self.members.insert(pid, member);
    }

    /// Whether a member's process runs; one that was killed and not waited for yet does not.
    pub(crate) fn runs(&self, member: usize) -> bool {
        let pid = self.members.iter().find(|(_, known)| **known == member).map(|(pid, _)| *pid);
        pid.is_some_and(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok())
    }

    /// The member that holds this loopback connection, which there is since then; none where it has been closed.
    pub(crate) fn owner(&mut self, ends: Ends, since: Instant) -> Option<usize> {
        if self.read.is_none_or(|read| read < since) {
            self.read = Some(Instant::now());
            self.connections = self.list();
        }
        self.connections.get(&ends).copied()
    }

    fn list(&self) -> HashMap<Ends, usize> {
        let of = |(pid, member): (&u32, &usize)| {
            let member = *member;
            sockets(*pid).into_iter().map(move |socket| (socket, member))
        };
        let sockets: HashMap<_, _> = self.members.iter().flat_map(of).collect();
        let mut connections = HashMap::new();
        // IPv4, and IPv4 in IPv6.
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let table = fs::read_to_string(table).unwrap_or_default();
            let held = table.lines().skip(1).filter_map(connection);
            connections.extend(held.filter_map(|(ends, socket)| Some((ends, *sockets.get(socket)?))));
        }
        connections
    }
}

/// The numbers of the sockets of a process.
fn sockets(pid: u32) -> Vec<String> {
    let handles = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links =
        handles.filter_map(|handle| fs::read_link(handle.path()).ok()?.into_os_string().into_string().ok());
    links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
}

/// A line of the kernel's table: the ports of a connection and the number of its socket, if a process holds it.
fn connection(line: &str) -> Option<(Ends, &str)> {
    const TIME_WAIT: &str = "06";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    if state == TIME_WAIT {
        return None;
    }
    Some(((port(local)?, port(remote)?), fields.nth(5)?))
}

fn port(address: &str) -> Option<u16> {
    u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernels_table_are_read() {
        let line = "   4: 0100007F:9E2C 0200007F:5F0B 01 00000000:00000000 00:00000000 00000000     0        0 52371 1 0";
        assert_eq!(connection(line), Some(((0x9e2c, 0x5f0b), "52371")));
        assert_eq!(connection(&line.replace(" 01 ", " 06 ")), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_connection_of_a_known_process_is_its_members() -> anyhow::Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
        let ends = (stream.local_addr()?.port(), listener.local_addr()?.port());
        let mut processes = Processes::default();
        assert_eq!(processes.owner(ends, Instant::now()), None);
        assert!(!processes.runs(2));
        processes.is_now(2, std::process::id());
        assert!(processes.runs(2));
        assert_eq!(processes.owner(ends, Instant::now()), Some(2));
        drop(stream);
        assert_eq!(processes.owner(ends, Instant::now()), None);
        Ok(())
    }
}
