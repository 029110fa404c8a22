//! Ports that nobody else takes, neither now nor while a killed server is away.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;

use anyhow::{Result, bail};

/// Below the ephemeral ports of every usual system (Linux 32768, others 49152), so that no outgoing connection
/// takes one while its server is down.
const RANGE: Range<u16> = 20_000..32_000;

/// Where reservations are held: every test process of this machine asks here first, and the system gives them
/// back whatever ends the process. Other systems than Linux have one loopback address only and do without.
const REGISTER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Where the peers of a child-process cluster reach each other (see `gates.rs`).
pub(crate) const PEERS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A port number reserved for as long as this lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _held: Option<TcpListener>,
}

impl Port {
    /// One that is free on the loopback addresses, for TCP and UDP.
    pub(crate) fn reserve() -> Result<Port> {
        for _ in 0..500 {
            let number = fastrand::u16(RANGE);
            let held = TcpListener::bind((REGISTER, number)).ok();
            let ours = held.is_some() || !cfg!(target_os = "linux");
            if ours && is_free(number) {
                return Ok(Port { number, _held: held });
            }
        }
        bail!("no free port between {} and {}", RANGE.start, RANGE.end)
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

fn is_free(port: u16) -> bool {
    let peers = !cfg!(target_os = "linux")
        || (TcpListener::bind((PEERS, port)).is_ok() && UdpSocket::bind((PEERS, port)).is_ok());
    peers
        && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
