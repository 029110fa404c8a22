//! The command line of discox: `register`, `watch`, `list`, `services`, `serve` and `doctor`.
//!
//! | exit code | when |
//! |---|---|
//! | 0 | all went well |
//! | 1 | the registry cannot be reached, refuses, or failed in another way; `doctor` has found something wrong |
//! | 2 | the configuration is wrong |
//! | 126, 127 | `register -- COMMAND` could not run COMMAND, or not find it |
//! | the code of COMMAND | COMMAND ended; 128 + n when signal n ended it |
//! | 128 + n | signal n came a second time, while deregistering |

#[cfg(not(unix))]
compile_error!("the command line of discox needs the signals of Unix; the library does not");

mod args;
mod command;
mod config;
mod doctor;
mod failure;
mod leaving;
mod list;
mod logging;
mod output;
mod register;
mod security;
mod serve;
mod services;
mod signals;
mod unreadable;
mod watch;
mod why;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use crate::{
    args::{Action, Args},
    config::File,
    failure::Failure,
};

fn main() -> ExitCode {
    let outcome = match Args::try_parse() {
        Ok(args) => run(args),
        Err(answer) if !answer.use_stderr() => {
            // Help or version; there is nothing to do about a closed standard output.
            let _ = answer.print();
            Ok(0)
        }
        Err(error) => Err(Failure::from(error)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.code())
        }
    }
}

fn run(args: Args) -> Result<u8, Failure> {
    /// A thread may hang in a write to a full pipe that nobody reads any more.
    const AT_THE_END: Duration = Duration::from_millis(100);

    let Args { common, action } = args;
    let file = File::read(common.config.as_deref())?;
    let output = config::output(&common, &file);
    let from_now_on = logging::begin();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = match action {
        Action::Register(args) => {
            let command = args.command.clone();
            let config = config::register(common, args, file)?;
            runtime.block_on(register::run(config, command, output, from_now_on))
        }
        Action::Watch(args) => {
            let why = args.why;
            runtime.block_on(watch::run(config::watch(common, args, file)?, output, why))
        }
        Action::Doctor(args) => runtime.block_on(doctor::run(config::list(common, args, file)?, output)),
        Action::Serve(args) => {
            let settings = config::serve(common, args, file)?;
            runtime.block_on(serve::run(settings, output, from_now_on))
        }
        Action::Services(args) => {
            runtime.block_on(services::run(config::registry(common, file)?, args.watch, output))
        }
        Action::List(args) => runtime.block_on(list::run(config::list(common, args, file)?, output)),
    };
    runtime.shutdown_timeout(AT_THE_END);
    outcome
}
