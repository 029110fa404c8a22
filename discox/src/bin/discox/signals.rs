//! The signals that ask the program to end, with where they came from.

use std::{fs, io, thread};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::{Handle, SignalsInfo, exfiltrator::WithOrigin},
};
use tokio::sync::mpsc;

/// A signal that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal {
    /// Its number.
    pub(crate) number: i32,
    /// The terminal sent it (ctrl-C), to us and to all that we started.
    pub(crate) from_terminal: bool,
}

impl Signal {
    /// Whether it asks a program to end, whatever else that program runs. Many read SIGHUP as a wish
    /// to read their configuration again.
    pub(crate) fn ends(self) -> bool {
        self.number != SIGHUP
    }

    /// The exit code of a program that a signal ended.
    pub(crate) fn exit_code(self) -> u8 {
        128_u8.saturating_add(u8::try_from(self.number).unwrap_or(u8::MAX))
    }
}

/// Signals are caught as long as this lives.
pub(crate) struct Signals {
    arrived: mpsc::Receiver<Signal>,
    catcher: Handle,
}

impl Signals {
    /// Begins to catch them.
    pub(crate) fn catch() -> io::Result<Self> {
        /// Who sends more than that before we look has been understood.
        const WAITING: usize = 8;

        let mut caught = vec![SIGINT, SIGTERM];
        if !is_ignored(SIGHUP) {
            caught.push(SIGHUP);
        }
        let mut signals = SignalsInfo::<WithOrigin>::new(caught)?;
        let catcher = signals.handle();
        let (sender, arrived) = mpsc::channel(WAITING);
        // Ends with the handle, see drop.
        thread::spawn(move || {
            for origin in signals.forever() {
                // Only the kernel sends without being a process.
                let from_terminal = origin.process.is_none();
                let _ = sender.try_send(Signal { number: origin.signal, from_terminal });
            }
        });
        Ok(Self { arrived, catcher })
    }

    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.arrived.recv().await {
            Some(signal) => signal,
            // The thread ends only with self.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.catcher.close();
    }
}

/// Whether our parent has set this signal to be ignored, as `nohup` does. Known on Linux only.
fn is_ignored(number: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (number - 1)) != 0
}
