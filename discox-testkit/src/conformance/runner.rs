//! Plays the behaviours on their grounds, side by side, and says what went wrong.

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::OnceCell,
    time::timeout,
};

use super::{
    Behaviour, all,
    ground::{Ground, Site},
    remote::Remote,
};

/// No behaviour waits longer than this.
const LIMIT: Duration = Duration::from_secs(120);

/// Behaviours at a time: they wait most of the time, and each may have a server of its own.
const AT_A_TIME: usize = 6;

/// Where the behaviours of one backend are played.
struct Stage {
    site: Arc<dyn Site>,
    /// The server that those share who do not harm it; started by the first of them.
    shared: OnceCell<Arc<dyn Ground>>,
    servers: Handle,
}

/// The `main` of a test binary with `harness = false`: plays all behaviours on all sites, and takes the
/// arguments of `cargo test` (a filter, `--exact`, `--list`, `--test-threads`).
///
/// Servers and behaviours have runtimes of their own, so that a behaviour can count its tasks.
pub fn run(sites: Vec<Arc<dyn Site>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let servers = match Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime for the servers: {error}");
            return ExitCode::FAILURE;
        }
    };
    let stages: Vec<_> = sites
        .into_iter()
        .map(|site| Arc::new(Stage { site, shared: OnceCell::new(), servers: servers.handle().clone() }))
        .collect();
    let trials = stages.iter().flat_map(|stage| trials(stage, arguments.list)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Servers end here, where they were started: `process::exit` would leave them behind.
    let in_runtime = servers.enter();
    drop(stages);
    drop(in_runtime);
    servers.shutdown_timeout(Duration::from_secs(10));
    if conclusion.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn trials(stage: &Arc<Stage>, only_listed: bool) -> Vec<Trial> {
    let mut trials = Vec::new();
    for behaviour in all() {
        let name = format!("{}::{}", stage.site.name(), behaviour.name);
        match behaviour.all_needs().find_map(|need| stage.site.cannot(need)) {
            Some(reason) if !only_listed => eprintln!("left out: {name}: {reason}"),
            Some(_) => {}
            None => {
                let stage = stage.clone();
                trials
                    .push(Trial::test(name, move || stage.play(&behaviour).map_err(|error| failed(&error))));
            }
        }
    }
    trials
}

fn failed(error: &anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

impl Stage {
    /// Plays one behaviour in a runtime of its own.
    fn play(&self, behaviour: &Behaviour) -> Result<()> {
        init_log();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let began = Instant::now();
        let outcome = runtime.block_on(async {
            let ground = self.ground(behaviour.own_server).await.context("no server")?;
            let played = timeout(LIMIT, (behaviour.play)(&*ground)).await;
            let played = played.unwrap_or_else(|_| Err(anyhow!("not over within {LIMIT:?}")));
            let outcome = match played {
                Ok(()) => Ok(()),
                Err(error) => {
                    let after = began.elapsed().as_secs_f64();
                    let log = ground.server_log().await;
                    Err(anyhow!("the end of the server's log:\n{log}\n\nafter {after:.1} s: {error:#}"))
                }
            };
            self.end(ground).await;
            outcome
        });
        shut_down(runtime);
        outcome
    }

    async fn ground(&self, own: bool) -> Result<Arc<dyn Ground>> {
        if own { self.open().await } else { self.shared.get_or_try_init(|| self.open()).await.cloned() }
    }

    async fn open(&self) -> Result<Arc<dyn Ground>> {
        let (site, servers) = (self.site.clone(), self.servers.clone());
        let opened = self.servers.spawn_blocking(move || servers.block_on(site.open()));
        let ground = opened.await.context("the site panicked")??;
        Ok(Arc::new(Remote { ground, servers: self.servers.clone() }))
    }

    /// Servers are removed where they were started; that blocks.
    async fn end(&self, ground: Arc<dyn Ground>) {
        let ending = self.servers.spawn_blocking(move || drop(ground));
        let _ = ending.await;
    }
}

/// A blocked callback must not block the suite.
fn shut_down(runtime: Runtime) {
    runtime.shutdown_timeout(Duration::from_secs(5));
}

/// What discox says goes to the test's output when `RUST_LOG` asks for it.
fn init_log() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    });
}
