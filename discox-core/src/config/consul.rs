//! What only Consul has.

use crate::{ClientCrate, Error, Result, Secret};

/// Settings of a connection to Consul.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ConsulOptions {
    /// The ACL token.
    pub token: Option<Secret>,
    /// The datacenter to ask, if not the agent's own. Registrations are with the agent.
    pub datacenter: Option<String>,
    /// Consul Enterprise: the namespace.
    pub namespace: Option<String>,
    /// Consul Enterprise: the admin partition.
    pub partition: Option<String>,
    /// Which client crate serves, where several are compiled in. Default: `reqwest`.
    pub client: Option<ClientCrate>,
}

super::contradictions!(ConsulOptions, "consul.": token datacenter namespace partition client);

impl ConsulOptions {
    /// Rejects what cannot work.
    pub(super) fn check(&self) -> Result<()> {
        let names = [
            ("consul.datacenter", &self.datacenter),
            ("consul.namespace", &self.namespace),
            ("consul.partition", &self.partition),
        ];
        for (field, value) in names {
            if value.as_deref() == Some("") {
                return Err(Error::config(field, "", "must not be empty, leave it out"));
            }
        }
        match self.client {
            None | Some(ClientCrate::Reqwest | ClientCrate::Consulrs) => Ok(()),
            Some(other) => Err(Error::config("consul.client", other, "does not apply to consul")),
        }
    }
}
