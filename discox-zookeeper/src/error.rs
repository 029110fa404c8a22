//! Client error -> our kinds.

use discox_core::{Denial, Error, ErrorKind};

use crate::client::Fault;

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let kind = match fault {
            Fault::NoAuth => return Self::denied(Denial::MissingRights, fault.to_string()),
            Fault::AuthFailed => return Self::denied(Denial::WrongCredentials, fault.to_string()),
            Fault::InvalidAcl => ErrorKind::Denied,
            Fault::NoMember | Fault::Disconnected(_) | Fault::Expired | Fault::Closed | Fault::Busy(_) => {
                ErrorKind::Unavailable
            }
            Fault::TimedOut => ErrorKind::TimedOut,
            Fault::TooLarge(_) | Fault::TooLong => ErrorKind::TooLarge,
            Fault::NoNode
            | Fault::NodeExists
            | Fault::BadVersion
            | Fault::NotEmpty
            | Fault::EphemeralParent
            | Fault::Unimplemented
            | Fault::Other(_) => ErrorKind::Protocol,
        };
        Self::new(kind, fault.to_string())
    }
}
