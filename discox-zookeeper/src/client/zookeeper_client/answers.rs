//! What `zookeeper-client` answers, in our words.

use super::super::{Fault, Stat};

impl From<zookeeper_client::Stat> for Stat {
    fn from(stat: zookeeper_client::Stat) -> Self {
        Self { created: stat.czxid, written: stat.mzxid, version: stat.version, owner: stat.ephemeral_owner }
    }
}

impl From<zookeeper_client::Error> for Fault {
    fn from(error: zookeeper_client::Error) -> Self {
        use zookeeper_client::Error as E;
        match error {
            E::NoNode => Self::NoNode,
            E::NodeExists => Self::NodeExists,
            E::BadVersion => Self::BadVersion,
            E::NotEmpty => Self::NotEmpty,
            E::NoChildrenForEphemerals => Self::EphemeralParent,
            E::NoAuth => Self::NoAuth,
            E::AuthFailed => Self::AuthFailed,
            E::InvalidAcl => Self::InvalidAcl,
            E::Unimplemented => Self::Unimplemented,
            // Said by our relay.
            E::MarshallingError => Self::TooLong,
            E::NoHosts => Self::NoMember,
            E::Timeout => Self::TimedOut,
            E::SessionExpired => Self::Expired,
            E::ClientClosed => Self::Closed,
            E::ConnectionLoss | E::SessionMoved | E::Custom(_) => Self::Disconnected(error.to_string()),
            E::NotReadOnly | E::Throttled => Self::Busy(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}
