//! Runs every example as it is, on the embedded backend, and reads what it prints.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

/// Far more than any of them needs.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running example; killed when the test gives up.
struct Example {
    child: Child,
    lines: Receiver<String>,
    read: Vec<String>,
}

impl Example {
    fn start(program: &str) -> Result<Self> {
        let mut child = Command::new(program).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, lines, read: Vec::new() })
    }

    /// Waits for a line with this in it.
    fn line(&mut self, wanted: &str) -> Result<()> {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => self.read.push(line),
                Err(error) => bail!("no line with {wanted:?} ({error}), but {:#?}", self.read),
            }
            if self.read.last().is_some_and(|line| line.contains(wanted)) {
                return Ok(());
            }
        }
    }

    #[cfg(unix)]
    fn ctrl_c(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::INT)?)
    }

    /// It has ended well: its output has ended, and so has it.
    fn ends(mut self) -> Result<()> {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => self.read.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("it does not end; its output is {:#?}", self.read),
            }
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "{status}, {:#?}", self.read);
        Ok(())
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn quickstart_tells_the_life_of_a_service() -> Result<()> {
    let mut example = Example::start(env!("CARGO_BIN_EXE_quickstart"))?;
    example.line("the client sees: nobody")?;
    example.line(r#"the client sees: 127.0.0.1:8111 {"weight":1}"#)?;
    example.line(r#"the client sees: 127.0.0.1:8111 {"weight":2}"#)?;
    example.line(r#"the client sees: 127.0.0.1:8111 {"weight":2}, 127.0.0.1:8112 {"weight":1}"#)?;
    example.line(r#"the client sees: 127.0.0.1:8112 {"weight":1}"#)?;
    example.line("the client sees: nobody")?;
    example.ends()
}

#[cfg(unix)]
#[test]
fn register_stays_until_ctrl_c() -> Result<()> {
    let mut example = Example::start(env!("CARGO_BIN_EXE_register"))?;
    example.line("registered 127.0.0.1:8111 on memory")?;
    example.ctrl_c()?;
    example.line("Registered since")?;
    example.line("deregistered")?;
    example.ends()
}

#[cfg(unix)]
#[test]
fn discover_prints_what_there_is_until_ctrl_c() -> Result<()> {
    let mut example = Example::start(env!("CARGO_BIN_EXE_discover"))?;
    example.line(r#"1 endpoints: ["127.0.0.1:8111"]"#)?;
    example.ctrl_c()?;
    example.line(r#"the last known endpoints stay: ["127.0.0.1:8111"]"#)?;
    example.ends()
}

#[test]
fn own_cacher_picks_by_weight() -> Result<()> {
    let mut example = Example::start(env!("CARGO_BIN_EXE_own_cacher"))?;
    example.line("of 1000 picks: ")?;
    let line = example.read.last().context("no line")?;
    let picked = |endpoint: &str| -> Result<u32> {
        let (_, rest) = line.split_once(&format!("{endpoint:?}: ")).with_context(|| line.clone())?;
        Ok(rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse()?)
    };
    let (light, heavy) = (picked("127.0.0.1:8111")?, picked("127.0.0.1:8112")?);
    // 250 and 750 are expected; the bound is a dozen standard deviations away.
    assert_eq!(light + heavy, 1000);
    assert!((80..420).contains(&light), "{light}");
    example.ends()
}

#[test]
fn many_services_share_one_connection() -> Result<()> {
    let mut example = Example::start(env!("CARGO_BIN_EXE_many_services"))?;
    example.line(r#"orders: ["127.0.0.1:8000", "127.0.0.1:9000"]"#)?;
    example.line(r#"payments: ["127.0.0.1:8001", "127.0.0.1:9001"]"#)?;
    example.line(r#"users: ["127.0.0.1:8002", "127.0.0.1:9002"]"#)?;
    example.line("3 services over one connection")?;
    example.ends()
}

#[test]
fn from_config_runs_on_the_backend_of_the_file() -> Result<()> {
    let mut example = Example::start(env!("CARGO_BIN_EXE_from_config"))?;
    example.line("the backend is memory")?;
    example.line(r#"discovered ["127.0.0.1:8111"]"#)?;
    example.line("deregistered")?;
    example.ends()
}

/// Without its Cargo feature a backend is an error that says what to do; the file itself is right.
#[cfg(not(feature = "etcd"))]
#[test]
fn a_backend_that_is_not_compiled_in_is_named() -> Result<()> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/etcd.toml");
    let program = env!("CARGO_BIN_EXE_from_config");
    let output = Command::new(program).arg(file).output()?;
    let told = String::from_utf8(output.stderr)?;
    assert!(!output.status.success() && told.contains("Cargo feature `etcd`"), "{told}");
    Ok(())
}

#[cfg(feature = "tonic")]
#[test]
fn tonic_shop_spreads_calls_and_loses_none() -> Result<()> {
    let mut example = Example::start(env!("CARGO_BIN_EXE_tonic_shop"))?;
    example.line("weights 1, 2 and 3: ")?;
    for weight in 1..=3 {
        ensure!(example.read.last().is_some_and(|line| line.contains(&format!("\"weight {weight}\""))));
    }
    example.line("the first is killed: ")?;
    ensure!(example.read.last().is_some_and(|line| !line.contains("weight 1")), "{:?}", example.read);
    example.line("the second leaves: ")?;
    ensure!(example.read.last().is_some_and(|line| line.contains(", 0 failed")), "{:?}", example.read);
    example.ends()
}

#[cfg(feature = "http")]
#[test]
fn http_shop_answers_and_leaves() -> Result<()> {
    let mut example = Example::start(env!("CARGO_BIN_EXE_http_shop"))?;
    example.line("200 OK: order 3")?;
    example.line("the service has left: 0 requests came late")?;
    example.ends()
}

#[cfg(feature = "http")]
#[test]
fn pick_goes_by_weight() -> Result<()> {
    let mut example = Example::start(env!("CARGO_BIN_EXE_pick"))?;
    example.line(r#"{"weight 1": 100, "weight 2": 200}"#)?;
    example.ends()
}
