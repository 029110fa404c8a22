//! What is rejected before any I/O.

use std::{thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use discox_core::{DiscoverConfig, ErrorKind, RegisterConfig};

use super::{ground::Ground, scene::Scene};

type Change<T> = (&'static str, &'static str, fn(&mut T));

/// Field, what the reason must contain, and what is made wrong.
const WRONG_REGISTRATIONS: &[Change<RegisterConfig>] = &[
    ("service_name", "empty", |c| c.service_name.clear()),
    ("service_name", "/", |c| c.service_name = "a/b".into()),
    ("service_name", "control", |c| c.service_name = "a\0b".into()),
    ("service_name", "control", |c| c.service_name = "a\u{85}b".into()),
    ("service_name", "..", |c| c.service_name = ".".into()),
    ("service_name", "..", |c| c.service_name = "..".into()),
    ("service_endpoint", "empty", |c| c.service_endpoint.clear()),
    ("service_endpoint", "host:port", |c| c.service_endpoint = "10.0.0.1".into()),
    ("service_endpoint", "host:port", |c| c.service_endpoint = "10.0.0.1:".into()),
    ("service_endpoint", "65535", |c| c.service_endpoint = "10.0.0.1:0".into()),
    ("service_endpoint", "65535", |c| c.service_endpoint = "10.0.0.1:65536".into()),
    ("service_endpoint", "host:port", |c| c.service_endpoint = "2001:db8::1:80".into()),
    ("service_endpoint", "/", |c| c.service_endpoint = "10.0.0.1:80/path".into()),
    ("service_endpoint", "control", |c| c.service_endpoint = "10.0.0.1\0:80".into()),
    ("service_endpoint", "unspecified", |c| c.service_endpoint = "0.0.0.0:80".into()),
    ("service_endpoint", "unspecified", |c| c.service_endpoint = "[::]:80".into()),
    ("service_endpoint", "10.0.0.1:8111", |c| c.service_endpoint = "10.0.0.1:08111".into()),
    ("service_endpoint", "[2001:db8::1]:80", |c| c.service_endpoint = "[2001:0db8::0001]:80".into()),
    ("heart_beat_period", "range", |c| c.heart_beat_period = Duration::ZERO),
    ("heart_beat_period", "range", |c| c.heart_beat_period = Duration::from_secs(10 * 365 * 86_400)),
    ("ttl", "longer", |c| c.ttl = Some(Duration::from_millis(1))),
    ("discover_prefix", "..", |c| c.discover_prefix = "/a/../b".into()),
    ("discover_prefix", "..", |c| c.discover_prefix = "./a".into()),
    ("discover_prefix", "control", |c| c.discover_prefix = "/a\nb".into()),
    ("backend_endpoints", "", |c| c.backend_endpoints = vec!["http://".into()]),
    ("backend_endpoints", "", |c| c.backend_endpoints = vec!["two words:1".into()]),
    ("backend_endpoints", "", |c| c.backend_endpoints = vec!["10.0.0.1:port".into()]),
    ("backend_endpoints", "", |c| c.backend_endpoints = vec![String::new()]),
];

const WRONG_DISCOVERIES: &[Change<DiscoverConfig>] = &[
    ("service_name", "empty", |c| c.service_name.clear()),
    ("service_name", "/", |c| c.service_name = "a/b".into()),
    ("service_name", "..", |c| c.service_name = "..".into()),
    ("discover_prefix", "..", |c| c.discover_prefix = "/..".into()),
    ("discover_prefix", "control", |c| c.discover_prefix = "/a\0".into()),
    ("backend_endpoints", "", |c| c.backend_endpoints = vec!["http://".into()]),
    ("grace", "range", |c| c.grace = Duration::MAX),
];

/// Every wrong configuration is rejected by `new_*`, on a thread without a runtime, by an error that
/// names the field and says what would be right.
pub async fn wrong_configurations_are_rejected_before_any_io(ground: &dyn Ground) -> Result<()> {
    let scene = Scene::new(ground);
    let makers = ground.makers();
    let right = (scene.registration("10.1.0.1:8111", ""), scene.discovery());
    let needs_no_endpoint = ground.backend() == discox_core::BackendType::Memory;
    let checked = thread::spawn(move || {
        let (registration, discovery) = right;
        (makers.new_register)(registration.clone()).context("the right registration")?;
        (makers.new_discover)(discovery.clone()).context("the right discovery")?;
        for (field, reason, change) in WRONG_REGISTRATIONS {
            let mut wrong = registration.clone();
            change(&mut wrong);
            names(field, reason, &format!("{wrong:?}"), (makers.new_register)(wrong).map(drop))?;
        }
        for (field, reason, change) in WRONG_DISCOVERIES {
            let mut wrong = discovery.clone();
            change(&mut wrong);
            names(field, reason, &format!("{wrong:?}"), (makers.new_discover)(wrong).map(drop))?;
        }
        if !needs_no_endpoint {
            let none = RegisterConfig { backend_endpoints: Vec::new(), ..registration };
            names("backend_endpoints", "", "no endpoint", (makers.new_register)(none).map(drop))?;
        }
        anyhow::Ok(())
    });
    checked.join().map_err(|_| anyhow::anyhow!("a constructor panicked"))?
}

fn names(field: &str, reason: &str, wrong: &str, outcome: discox_core::Result<()>) -> Result<()> {
    let Err(error) = outcome else { bail!("accepted with a wrong {field}: {wrong}") };
    ensure!(error.kind() == ErrorKind::Config, "{field}: the wrong kind: {error:?}");
    ensure!(error.field() == Some(field), "{field}: the wrong field {:?}: {error}", error.field());
    let text = error.to_string();
    ensure!(text.contains(field) && text.contains(reason), "{field}: no `{reason}` in: {text}");
    ensure!(!text.contains('\0') && !text.contains('\n'), "{field}: a control character in the message");
    Ok(())
}
