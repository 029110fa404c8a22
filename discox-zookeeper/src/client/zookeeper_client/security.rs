//! Certificates, credentials and ACLs in the words of `zookeeper-client`.

use zookeeper_client::{Acl, AuthId, Connector, Permission, SaslOptions, TlsOptions};

use super::{Fault, Inner, relay::Pass};
use crate::{acl, acl::Rights, security::Login};

/// A connector that trusts its relay, if there is one that wants a pass, and says who we are, at every connection.
pub(super) fn connector(pass: Option<&Pass>, login: Option<&Login>) -> Result<Connector, Fault> {
    let mut connector = Inner::connector();
    if let Some(pass) = pass {
        connector = connector.with_tls(options(pass)?);
    }
    Ok(match login {
        None => connector,
        Some(Login { user, password, sasl: true }) => {
            connector.with_sasl(SaslOptions::digest_md5(user.clone(), password.to_string()))
        }
        Some(login) => connector.with_auth("digest", login.digest().as_bytes()),
    })
}

fn options(pass: &Pass) -> Result<TlsOptions, Fault> {
    // The crate takes the one of the process, and panics where there is none.
    discox_tls::provide();
    Ok(TlsOptions::new().with_pem_ca(&pass.certificate)?.with_pem_identity(&pass.certificate, &pass.key)?)
}

pub(super) fn acls(acls: &[acl::Acl]) -> Vec<Acl> {
    acls.iter().map(|acl| Acl::new(permission(acl.rights), AuthId::new(&acl.scheme, &acl.id))).collect()
}

fn permission(rights: Rights) -> Permission {
    [
        (Rights::READ, Permission::READ),
        (Rights::WRITE, Permission::WRITE),
        (Rights::CREATE, Permission::CREATE),
        (Rights::DELETE, Permission::DELETE),
        (Rights::ADMIN, Permission::ADMIN),
    ]
    .into_iter()
    .filter(|(right, _)| rights.contain(*right))
    .fold(Permission::NONE, |all, (_, permission)| all | permission)
}
