//! The ACL token. Nothing here can be printed.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use discox_core::{
    Denial, Error, Result, Secret,
    backend::{Files, lock},
};
use tracing::debug;
use zeroize::Zeroizing;

/// Which of the tokens that there have been so far: 0 is none.
pub(crate) type TokenVersion = u64;

/// Where the token comes from, and what was read of it last. A file is read anew for every connection, from time to
/// time, and when Consul refuses what was read, so that the token can be rotated.
pub(crate) struct Token {
    secret: Option<Secret>,
    files: Files,
    read: Mutex<LastRead>,
}

#[derive(Default)]
struct LastRead {
    text: Option<Text>,
    /// The one before, for as long as the new one is not known everywhere.
    previous: Option<Text>,
    /// It is to be read again before it is used.
    is_stale: bool,
}

/// The token itself.
#[derive(Clone)]
pub(super) struct Text {
    text: Arc<Zeroizing<String>>,
    pub(super) version: TokenVersion,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("secret", &self.secret).finish_non_exhaustive()
    }
}

impl Text {
    /// For the header.
    pub(super) fn reveal(&self) -> &str {
        &self.text
    }
}

impl Token {
    /// Reading a file takes no longer than `limit`.
    pub(crate) fn new(secret: Option<Secret>, limit: Duration) -> Self {
        Self { secret, files: Files::new(limit), read: Mutex::default() }
    }

    /// The version of what was read last.
    pub(crate) fn version(&self) -> TokenVersion {
        lock(&self.read).text.as_ref().map_or(0, |text| text.version)
    }

    /// Reads a file anew. One that cannot be read now changes nothing.
    pub(crate) async fn refresh(&self) {
        if self.secret.as_ref().is_some_and(|secret| secret.text().is_none())
            && let Err(error) = self.load().await
        {
            debug!(backend = "consul", %error, "the token was not read anew");
        }
    }

    /// What to send, if anything.
    pub(super) async fn text(&self) -> Result<Option<Text>> {
        let known = {
            let read = lock(&self.read);
            read.text.clone().filter(|_| !read.is_stale)
        };
        if known.is_some() { Ok(known) } else { self.load().await }
    }

    /// The token before the one that is in use.
    pub(super) fn previous(&self) -> Option<Text> {
        lock(&self.read).previous.clone()
    }

    /// What was read last is refused, or not enough.
    pub(super) fn forget(&self) {
        lock(&self.read).is_stale = true;
    }

    async fn load(&self) -> Result<Option<Text>> {
        let Some(secret) = &self.secret else { return Ok(None) };
        let text = match secret.text() {
            Some(text) => Zeroizing::new(text.to_owned()),
            None => {
                let file = secret.clone();
                self.files.read("the token", move || file.read()).await?
            }
        };
        if !is_sendable(&text) {
            let message = format!("the token in {secret:?} is not one word of plain ASCII");
            return Err(Error::denied(Denial::WrongCredentials, message));
        }
        Ok(Some(lock(&self.read).remember(text)))
    }
}

impl LastRead {
    fn remember(&mut self, text: Zeroizing<String>) -> Text {
        self.is_stale = false;
        match &self.text {
            Some(known) if *known.text == text => known.clone(),
            known => {
                let version = known.as_ref().map_or(1, |known| known.version + 1);
                let new = Text { text: Arc::new(text), version };
                self.previous = self.text.replace(new.clone());
                new
            }
        }
    }
}

/// Whether a text can be the value of an HTTP header, and is one word, as tokens are.
pub(crate) fn is_sendable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of its own.
    fn file(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("discox-consul-{name}-{}", std::process::id()))
    }

    #[tokio::test]
    async fn another_token_is_another_version_and_a_broken_file_is_named_and_changes_nothing() {
        let path = file("token");
        let token = Token::new(Some(Secret::file(&path)), Duration::from_secs(10));
        assert_eq!(token.version(), 0);
        for (written, version) in [("one\n", 1), ("one", 1), ("two", 2)] {
            std::fs::write(&path, written).unwrap();
            token.refresh().await;
            assert_eq!((token.version(), token.text().await.unwrap().unwrap().version), (version, version));
        }
        assert_eq!(token.previous().unwrap().reveal(), "one");
        std::fs::write(&path, "two words").unwrap();
        token.refresh().await;
        assert_eq!(token.text().await.unwrap().unwrap().reveal(), "two");
        token.forget();
        let error = token.text().await.err().unwrap().to_string();
        assert!(error.contains(&*path.to_string_lossy()) && !error.contains("two words"), "{error}");
        std::fs::remove_file(&path).unwrap();
    }

    /// A FIFO that nobody writes to, on a runtime of one thread: were the file read there, it would stand still.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_that_hangs_does_not_stop_the_runtime() {
        let path = file("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let token = Token::new(Some(Secret::file(&path)), Duration::from_millis(50));
        assert!(token.text().await.is_err());
        // So that the thread which reads it ends.
        drop(std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
