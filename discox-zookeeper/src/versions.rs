//! The versions of directories that a connection has seen last.

use std::{collections::HashMap, sync::Mutex};

use crate::connect::lock;

/// Directories that are remembered: others are looked at again.
const REMEMBERED: usize = 10_000;

/// By directory. A version that is behind makes a fence that does not hold, and so costs one look.
#[derive(Debug, Default)]
pub(crate) struct Versions(Mutex<HashMap<String, i32>>);

impl Versions {
    pub(crate) fn of(&self, directory: &str) -> Option<i32> {
        lock(&self.0).get(directory).copied()
    }

    pub(crate) fn note(&self, directory: &str, version: i32) {
        let mut versions = lock(&self.0);
        if versions.len() >= REMEMBERED {
            versions.clear();
        }
        versions.insert(directory.to_owned(), version);
    }
}
