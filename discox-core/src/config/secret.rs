//! A type that cannot be printed.

use std::{fmt, fs::File, io::Read, path::PathBuf, sync::Arc};

use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result};

/// The longest secret, in bytes: several PEM keys.
const LONGEST: u64 = 64 * 1024;

/// A password, token or private key, given as text or by a file that is read again at every
/// connection. Neither `Debug` nor serialisation shows it, and its memory is overwritten when it is
/// dropped, as far as it is ours. Two are equal when they are the same text or the same file.
///
/// ```
/// use discox_core::Secret;
///
/// let password = Secret::new("correct horse");
/// assert_eq!(format!("{password:?}"), "Secret(…)");
/// let token = Secret::file("/run/secrets/consul-token");
/// assert_eq!(format!("{token:?}"), "Secret(file /run/secrets/consul-token)");
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Source);

#[derive(Clone, Eq, PartialEq)]
enum Source {
    Text(Arc<Zeroizing<String>>),
    File(PathBuf),
}

impl Secret {
    /// A secret that is in memory already.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Source::Text(Arc::new(Zeroizing::new(text.into()))))
    }

    /// A secret in a file, of which one line end at the end is left out. It is read when it is used,
    /// and again at every connection, so that it can be replaced without a restart.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// The secret, where it is in memory: for checks before any I/O. Never print it.
    pub fn text(&self) -> Option<&str> {
        match &self.0 {
            Source::Text(text) => Some(text),
            Source::File(_) => None,
        }
    }

    /// The secret itself. Blocks for a file to be read; never print it.
    ///
    /// # Errors
    /// [`Denied`](ErrorKind::Denied), naming the file, when it cannot be read, is empty, is not UTF-8 or
    /// is longer than 64 KiB: it may be put right at any time.
    pub fn read(&self) -> Result<Zeroizing<String>> {
        match &self.0 {
            Source::Text(text) => Ok(Zeroizing::clone(text)),
            Source::File(path) => {
                let unusable = |why: &dyn fmt::Display| {
                    let message = format!("the secret in the file {} cannot be used: {why}", path.display());
                    Error::new(ErrorKind::Denied, message)
                };
                let mut text = Zeroizing::new(String::new());
                let file = File::open(path).map_err(|error| unusable(&error))?;
                file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| unusable(&error))?;
                if text.len() as u64 > LONGEST {
                    return Err(unusable(&format_args!("longer than {LONGEST} bytes")));
                }
                let used = text.strip_suffix('\n').unwrap_or(&text);
                let used = used.strip_suffix('\r').unwrap_or(used).len();
                text.truncate(used);
                if text.is_empty() {
                    return Err(unusable(&"it is empty"));
                }
                Ok(text)
            }
        }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Text(_) => f.write_str("Secret(…)"),
            Source::File(path) => write!(f, "Secret(file {})", path.display()),
        }
    }
}

/// In files a secret is its text, or better `{ file = "path" }`.
#[cfg(feature = "serde")]
mod files {
    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{Error as _, Unexpected},
    };

    use super::{Secret, Source};

    /// What is written for a text, and rejected when read: a configuration that was written down has
    /// lost its secrets, and must not be used as if it had them.
    const REDACTED: &str = "(secret, not written)";

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        File { file: std::path::PathBuf },
    }

    impl Serialize for Secret {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match &self.0 {
                Source::Text(_) => Written::Text(REDACTED.into()),
                Source::File(file) => Written::File { file: file.clone() },
            }
            .serialize(serializer)
        }
    }

    impl<'de> Deserialize<'de> for Secret {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            // Nothing of what is wrong may be repeated.
            let wrong = |what, expected| D::Error::invalid_value(Unexpected::Other(what), &expected);
            let written = Written::deserialize(deserializer);
            match written.map_err(|_| wrong("no secret", "a text or { file = \"path\" }"))? {
                Written::Text(text) if text == REDACTED => {
                    Err(wrong(REDACTED, "the secret, which was left out when this was written"))
                }
                Written::Text(text) => Ok(Self::new(text)),
                Written::File { file } => Ok(Self::file(file)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_and_without_its_line_end() {
        let path = std::env::temp_dir().join(format!("discox-secret-{}", std::process::id()));
        let secret = Secret::file(&path);
        for (written, read) in [("one\n", "one"), ("two\r\n", "two"), ("three", "three"), ("a\n\n", "a\n")] {
            std::fs::write(&path, written).unwrap();
            assert_eq!(*secret.read().unwrap(), read);
        }
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(secret.read().unwrap_err().kind(), ErrorKind::Denied);
        std::fs::remove_file(&path).unwrap();
        let error = secret.read().unwrap_err();
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_text_is_never_written_and_a_file_is_named() {
        let written = serde_json::to_string(&Secret::new("hunter2")).unwrap();
        assert!(!written.contains("hunter2"));
        assert!(serde_json::from_str::<Secret>(&written).is_err());
        let file: Secret = serde_json::from_str(r#"{"file":"/a/b"}"#).unwrap();
        assert_eq!(serde_json::to_string(&file).unwrap(), r#"{"file":"/a/b"}"#);
        assert_eq!(*serde_json::from_str::<Secret>(r#""x""#).unwrap().read().unwrap(), "x");
        let wrong = serde_json::from_str::<Secret>(r#"{"text":"hunter2"}"#).unwrap_err();
        assert!(!wrong.to_string().contains("hunter2"));
    }
}
