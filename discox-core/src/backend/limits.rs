//! How much one service may hold, so that a registry gone mad cannot fill the memory.

use std::fmt;

use crate::{ConnectionConfig, Error, ErrorKind};

/// What is left of [`ConnectionConfig::max_endpoints`] and [`ConnectionConfig::max_service_bytes`]
/// while records are read. Whatever is kept is taken from it first.
#[derive(Clone, Debug)]
pub struct Limits {
    most_endpoints: usize,
    most_bytes: usize,
    endpoints: usize,
    bytes: usize,
}

impl Limits {
    /// All of it.
    pub fn new(settings: &ConnectionConfig) -> Self {
        Self::of(settings.max_endpoints, settings.max_service_bytes)
    }

    pub(crate) fn of(most_endpoints: usize, most_bytes: usize) -> Self {
        Self { most_endpoints, most_bytes, endpoints: 0, bytes: 0 }
    }

    /// Takes one record's part of it: the bytes of its name and its attr.
    ///
    /// # Errors
    /// When there is not so much left; nothing is taken then.
    pub fn take(&mut self, bytes: usize) -> Result<(), Exceeded> {
        if self.endpoints >= self.most_endpoints {
            return Err(Exceeded::Endpoints(self.most_endpoints));
        }
        self.take_bytes(bytes)?;
        self.endpoints += 1;
        Ok(())
    }

    /// Takes bytes for what is not a record of its own.
    ///
    /// # Errors
    /// As [`Limits::take`].
    pub fn take_bytes(&mut self, bytes: usize) -> Result<(), Exceeded> {
        let bytes = self.bytes.saturating_add(bytes);
        if bytes > self.most_bytes {
            return Err(Exceeded::Bytes(self.most_bytes));
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Gives back what was taken for a record.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.endpoints = self.endpoints.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The limit that was exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exceeded {
    /// More endpoints than this.
    Endpoints(usize),
    /// More bytes than this.
    Bytes(usize),
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoints(most) => write!(f, "more than {most} endpoints"),
            Self::Bytes(most) => write!(f, "more than {most} bytes"),
        }
    }
}

impl From<Exceeded> for Error {
    fn from(exceeded: Exceeded) -> Self {
        Self::new(ErrorKind::TooLarge, format!("the service has {exceeded}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_not_taken() {
        let mut budget = Limits::of(2, 10);
        assert_eq!(budget.take(4), Ok(()));
        assert_eq!(budget.take(7), Err(Exceeded::Bytes(10)));
        assert_eq!(budget.take(usize::MAX), Err(Exceeded::Bytes(10)));
        assert_eq!(budget.take(6), Ok(()));
        assert_eq!(budget.take(0), Err(Exceeded::Endpoints(2)));
        budget.give_back(4);
        assert_eq!(budget.take(4), Ok(()));
    }
}
