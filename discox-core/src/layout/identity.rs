//! Instance IDs.

use super::{InstanceId, LayoutOptions};
use crate::{
    Error, Result,
    record::{Record, wrong_segment},
};

/// The longest ID, in bytes.
const LONGEST: usize = 255;

/// A record's ID: as configured, else the endpoint.
pub(super) fn of(record: &Record, options: &LayoutOptions) -> Result<String> {
    match &options.instance_id {
        None => Ok(record.endpoint.to_string()),
        Some(InstanceId::Uuid) => Ok(uuid(&record.incarnation.to_string())),
        Some(InstanceId::Text(text)) => check(text).map(|()| text.clone()),
    }
}

/// An incarnation's 32 digits as a UUID of random ones.
fn uuid(digits: &str) -> String {
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

fn check(id: &str) -> Result<()> {
    let reject = |reason| Err(Error::config("instance_id", id, reason));
    if id.is_empty() || id.len() > LONGEST {
        return reject("must have 1 to 255 bytes");
    }
    if id.contains('/') {
        return reject("`/` is not allowed");
    }
    wrong_segment(id).map_or(Ok(()), reject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_of_version_4() {
        assert_eq!(uuid("0123456789abcdef0123456789abcdef"), "01234567-89ab-4def-a123-456789abcdef");
    }

    #[test]
    fn ids_that_no_path_holds_are_rejected() {
        for id in ["", "a/b", "..", "a\0", &"x".repeat(256)] {
            assert_eq!(check(id).unwrap_err().field(), Some("instance_id"), "{id:?}");
        }
        assert!(check("orders-1").is_ok());
    }
}
