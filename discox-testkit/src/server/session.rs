//! What belongs to this test process, and its removal however the process ends.
//!
//! A watcher (a shell in a process group of its own) waits for the end of a pipe which only this process holds.
//! Then it kills the child processes and removes containers and folders: after ctrl-C, `kill -9`, a panic in a
//! panic, and for servers in a `static`, which Rust never drops.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result};
use rustix::process::{Pid, getpid, test_kill_process};

/// `$1` is the session's folder, where each child process has a file `pid`; `$2` the owner on container labels.
const WATCHER: &str = r#"
read -r _
for pid in "$1"/*/*/pid; do [ -f "$pid" ] && kill -9 "$(cat "$pid")"; done
rm -rf "$1"
command -v docker >/dev/null || exit
docker ps -aq --filter "label=$2" | xargs -r docker rm -fv
docker network ls -q --filter "label=$2" | xargs -r docker network rm
"#;

/// The label on containers and networks; its value is [`Session::owner`].
pub(crate) const LABEL: &str = "discox-test.owner";

const FOLDER: &str = "discox-test-";

/// One per process.
pub(crate) struct Session {
    folder: PathBuf,
    owner: String,
    count: AtomicUsize,
    _watcher_waits: Option<ChildStdin>,
}

impl Session {
    /// The session of this process, made at the first call.
    pub(crate) fn get() -> Result<&'static Session> {
        static SESSION: OnceLock<io::Result<Session>> = OnceLock::new();
        SESSION
            .get_or_init(Session::begin)
            .as_ref()
            .map_err(|error| anyhow::anyhow!("folder for the servers' data: {error}"))
    }

    fn begin() -> io::Result<Session> {
        // In memory where it can be: the servers flush at every write.
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let pid = std::process::id();
        remove_left_folders(&base);
        let folder = base.join(format!("{FOLDER}{pid}"));
        fs::create_dir_all(&folder)?;
        let host = rustix::system::uname();
        let owner = format!("{}:{pid}:{}", host.nodename().to_string_lossy(), started(getpid()));
        let watcher = Command::new("sh")
            .args(["-c", WATCHER, "discox-test-watcher"])
            .arg(&folder)
            .arg(format!("{LABEL}={owner}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let waits = watcher?.stdin.take();
        Ok(Session { folder, owner, count: AtomicUsize::new(0), _watcher_waits: waits })
    }

    /// A name which no other of this machine's test runs uses.
    pub(crate) fn name(&self, kind: impl std::fmt::Display) -> String {
        format!("{FOLDER}{kind}-{}-{}", std::process::id(), self.count.fetch_add(1, Relaxed))
    }

    /// The folder of the servers called `name`; its members have folders of their own inside.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        Ok(folder)
    }

    /// This process on container labels: host, process id, start time.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }
}

/// Whether the process that this label value names is gone; false for those of other machines.
pub(crate) fn is_orphan(owner: &str) -> bool {
    let mut parts = owner.rsplitn(3, ':');
    let (Some(start), Some(pid), Some(host)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let here = rustix::system::uname();
    let pid = pid.parse().ok().and_then(Pid::from_raw);
    host == here.nodename().to_string_lossy() && pid.is_some_and(|pid| !lives(pid) || started(pid) != start)
}

fn lives(pid: Pid) -> bool {
    test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

/// When it was started, as Linux tells it; a process id alone is used again sooner or later.
fn started(pid: Pid) -> String {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    // The second field, the name in parentheses, may hold blanks: count behind it.
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_whitespace().nth(19).unwrap_or("unknown").to_owned()
}

/// Folders of test processes whose watcher was killed, too.
fn remove_left_folders(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(FOLDER)).and_then(|pid| pid.parse().ok());
        if pid.and_then(Pid::from_raw).is_some_and(|pid| !lives(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
