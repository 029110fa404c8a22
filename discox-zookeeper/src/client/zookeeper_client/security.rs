//! Certificates, credentials and ACLs in the words of `zookeeper-client`.

use zookeeper_client::{Acl, AuthId, Connector, Permission, SaslOptions, TlsOptions};

use super::{Fault, Inner};
use crate::{
    acl,
    acl::Rights,
    security::{Login, Tls},
};

/// A connector that trusts whom it should and says who we are, at every connection.
pub(super) fn connector(tls: Option<&Tls>, login: Option<&Login>) -> Result<Connector, Fault> {
    let mut connector = Inner::connector();
    if let Some(tls) = tls {
        connector = connector.with_tls(options(tls)?);
    }
    Ok(match login {
        None => connector,
        Some(Login { user, password, sasl: true }) => {
            connector.with_sasl(SaslOptions::digest_md5(user.clone(), password.to_string()))
        }
        Some(login) => connector.with_auth("digest", login.digest().as_bytes()),
    })
}

fn options(tls: &Tls) -> Result<TlsOptions, Fault> {
    // The crate takes the one of the process, and panics where there is none.
    discox_tls::provide();
    let options = TlsOptions::new().with_pem_ca(&tls.roots)?;
    Ok(match &tls.identity {
        Some((certificate, key)) => options.with_pem_identity(certificate, key)?,
        None => options,
    })
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
