//! `discox register`: registers an endpoint and keeps it, until a signal comes or COMMAND ends.

use std::{ffi::OsString, pin::pin, sync::Arc, time::Duration};

use discox::{Register, RegisterConfig, RegisterStatus};

use crate::{
    command::Running,
    failure::Failure,
    leaving::Leaving,
    output::{Format, Line, print_lines},
    signals::{Signal, Signals},
};

/// COMMAND gets a signal to end only when the endpoint has left the registry, so that nobody is sent to
/// a program that is ending. A registry that does not answer delays the signal by no more than this.
const HEAD_START: Duration = Duration::from_secs(1);

/// Runs until the end, and returns the exit code; `registered` is called when the registry has
/// acknowledged the record.
pub(crate) async fn run(
    config: RegisterConfig,
    command: Vec<OsString>,
    output: Format,
    registered: impl FnOnce(),
) -> Result<u8, Failure> {
    let registration = discox::new_register(config.clone())?;
    let mut signals = Signals::catch()?;
    if let Some(signal) = start(&registration, &mut signals).await? {
        return Ok(if command.is_empty() { 0 } else { signal.exit_code() });
    }
    registered();
    let line = Line::event("registered", Some(place(&config, &registration.status())));
    let line = line.endpoint(&config.service_endpoint, Some(config.attr.as_bytes()));
    let mut leaving = Leaving::of(&registration);
    let outcome = match print_lines(&[line], output) {
        Ok(()) => stay(&command, &mut leaving, &mut signals).await,
        Err(error) => Err(Failure::output(error.kind())),
    };
    match (outcome, leaving.finish(&mut signals).await) {
        (Ok(_), Err(failure)) if command.is_empty() => Err(failure),
        (outcome, Err(failure)) => {
            failure.tell();
            outcome
        }
        (outcome, Ok(())) => outcome,
    }
}

/// Registers, or returns the signal that came before that was done.
async fn start(registration: &Arc<dyn Register>, signals: &mut Signals) -> Result<Option<Signal>, Failure> {
    let mut starting = pin!(registration.start());
    tokio::select! {
        started = &mut starting => Ok(started.map(|()| None)?),
        signal = signals.next() => {
            // The future is kept until then: dropped, it would leave the record to its TTL.
            Leaving::of(registration).finish(signals).await?;
            Ok(Some(signal))
        }
    }
}

/// Waits for a signal or the end of COMMAND, and returns the exit code.
async fn stay(command: &[OsString], leaving: &mut Leaving, signals: &mut Signals) -> Result<u8, Failure> {
    let Some(mut running) = Running::start(command)? else {
        signals.next().await;
        return Ok(0);
    };
    loop {
        tokio::select! {
            code = running.ended() => return Ok(code?),
            signal = signals.next() => {
                if signal.ends() {
                    leaving.begin(HEAD_START).await;
                }
                running.forward(signal);
            }
        }
    }
}

/// Where the record is, and how long it outlives this process.
fn place(config: &RegisterConfig, status: &RegisterStatus) -> String {
    let RegisterConfig { backend_type, backend_endpoints, service_name, .. } = config;
    let mut place = format!("{service_name} on {backend_type} at {}", backend_endpoints.join(","));
    if let Some(ttl) = status.granted_ttl {
        place += &format!(", TTL {}", humantime::format_duration(ttl));
    }
    place
}
