//! Registries that mean no good: what answers is garbage, endless, huge, slow or another's, or ends at every
//! byte. Each case puts it in the place of a real registry that a registration and a discovery are at work with,
//! and then gives the real one back.
//!
//! Whatever it does, the process does not crash, hang or grow beyond bounds, who starts meanwhile is told in
//! time, the cache keeps what it knows, and afterwards everything is well again by itself.

mod bytes;
mod cases;
mod consul;
mod etcd;
mod memory;
mod panics;
mod server;
mod stage;
mod zookeeper;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::{
    runtime::{Builder, Runtime},
    sync::OnceCell,
    time::timeout,
};

use self::cases::{Case, Victim};
use crate::{
    conformance::Makers,
    server::{Kind, Servers},
};

/// No case takes longer than this.
const LIMIT: Duration = Duration::from_secs(180);

/// Played one after the other.
const VICTIMS: [Victim; 4] = [
    Victim { kind: Kind::Etcd, guard: false },
    Victim { kind: Kind::Zookeeper, guard: false },
    Victim { kind: Kind::Zookeeper, guard: true },
    Victim { kind: Kind::Consul, guard: false },
];

/// What all cases of one registry share.
struct Ground {
    makers: Makers,
    victim: Victim,
    servers: OnceCell<Servers>,
    runtime: Arc<Runtime>,
    /// Where hostile servers run, who may take all the time they like.
    elsewhere: Arc<Runtime>,
}

/// The `main` of a test binary with `harness = false`: plays all cases on all registries, one after the other,
/// because each measures the memory of the whole process. It takes the arguments of `cargo test`.
pub fn run(makers: Makers) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    panics::count();
    let runtime = || Builder::new_multi_thread().worker_threads(2).enable_all().build().map(Arc::new);
    let (runtime, elsewhere) = match (runtime(), runtime()) {
        (Ok(runtime), Ok(elsewhere)) => (runtime, elsewhere),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let grounds = VICTIMS.map(|victim| {
        let (runtime, elsewhere) = (runtime.clone(), elsewhere.clone());
        Arc::new(Ground { makers, victim, servers: OnceCell::new(), runtime, elsewhere })
    });
    let conclusion = libtest_mimic::run(&arguments, trials(&grounds));
    // Servers end here, where they were started: `process::exit` would leave them behind.
    let in_runtime = runtime.enter();
    drop(grounds);
    drop(in_runtime);
    if conclusion.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn trials(grounds: &[Arc<Ground>]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for ground in grounds {
        for case in cases::all().into_iter().filter(|case| case.is_for(ground.victim)) {
            let (ground, name) = (ground.clone(), format!("{}::{}", ground.victim, case.name));
            let play = move || ground.play(&case).map_err(|error| Failed::from(format!("{error:#}")));
            trials.push(Trial::test(name, play));
        }
    }
    trials
}

impl Ground {
    fn play(&self, case: &Case) -> Result<()> {
        self.runtime.block_on(async {
            let servers = self.servers.get_or_try_init(|| Servers::single(self.victim.kind)).await?;
            let played = stage::play(&self.makers, case, self.victim, servers, self.elsewhere.handle());
            timeout(LIMIT, played).await.with_context(|| format!("not over within {LIMIT:?}"))?
        })
    }
}
