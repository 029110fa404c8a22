//! The ACL token. Nothing here can be printed.

use std::sync::{Arc, Mutex};

use discox_core::{Denial, Error, Result, Secret, backend::lock};
use zeroize::Zeroizing;

/// Where the token comes from, and what was read of it last. It is read anew for every connection, and
/// when Consul refuses what was read, so that it can be rotated.
pub(crate) struct Token {
    secret: Option<Secret>,
    last: Mutex<Option<Text>>,
}

/// The token itself.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Text(Arc<Zeroizing<String>>);

impl Text {
    /// For the header.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl Token {
    pub(crate) fn new(secret: Option<Secret>) -> Self {
        Self { secret, last: Mutex::default() }
    }

    /// What to send, if anything.
    pub(super) fn text(&self) -> Result<Option<Text>> {
        let mut last = lock(&self.last);
        if last.is_none() {
            *last = self.read()?;
        }
        Ok(last.clone())
    }

    /// Consul wants more than what was read last.
    pub(super) fn forget(&self) {
        *lock(&self.last) = None;
    }

    fn read(&self) -> Result<Option<Text>> {
        let Some(secret) = &self.secret else { return Ok(None) };
        let text = secret.read()?;
        if !is_sendable(&text) {
            return Err(Error::denied(Denial::WrongCredentials, "the token is not one word of plain ASCII"));
        }
        Ok(Some(Text(Arc::new(text))))
    }
}

/// Whether a text can be the value of an HTTP header, and is one word, as tokens are.
pub(crate) fn is_sendable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}
