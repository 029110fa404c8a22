//! Who may do what with the nodes that we create.

use std::ops::BitOr;

use discox_core::{BackendType, ConnectionConfig, Error, Result};

const FIELD: &str = "zookeeper.acl";

/// What may be done with a node. ZooKeeper asks the parent who may create and delete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rights(u8);

impl Rights {
    pub(crate) const READ: Self = Self(1);
    pub(crate) const WRITE: Self = Self(2);
    pub(crate) const CREATE: Self = Self(4);
    pub(crate) const DELETE: Self = Self(8);
    pub(crate) const ADMIN: Self = Self(16);
    const ALL: Self = Self(31);

    /// From the letters of ZooKeeper's shell.
    fn parse(letters: &str) -> Option<Self> {
        let right = |letter| match letter {
            'r' => Some(Self::READ),
            'w' => Some(Self::WRITE),
            'c' => Some(Self::CREATE),
            'd' => Some(Self::DELETE),
            'a' => Some(Self::ADMIN),
            _ => None,
        };
        letters.chars().map(right).try_fold(Self(0), |rights, right| Some(rights | right?))
    }

    pub(crate) fn contain(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

/// One entry of a node's ACL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Acl {
    pub(crate) rights: Rights,
    pub(crate) scheme: String,
    pub(crate) id: String,
}

impl Acl {
    fn new(scheme: &str, id: &str, rights: Rights) -> Self {
        Self { rights, scheme: scheme.into(), id: id.into() }
    }

    fn everybody(rights: Rights) -> Self {
        Self::new("world", "anyone", rights)
    }

    /// Whoever has authenticated himself as we have.
    fn us() -> Self {
        Self::new("auth", "", Rights::ALL)
    }

    /// From `scheme:id:permissions`, where the id may hold colons.
    fn parse(entry: &str) -> Result<Self> {
        let reject = |reason: &str| Err(Error::config(FIELD, shown(entry), reason));
        let Some((scheme, (id, letters))) =
            entry.split_once(':').and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once(':')?)))
        else {
            return reject("use scheme:id:permissions, such as world:anyone:r or auth::cdrwa");
        };
        match Rights::parse(letters) {
            _ if scheme.is_empty() => reject("the scheme is missing"),
            _ if (scheme == "world") != (id == "anyone") => reject("`world` and `anyone` go together"),
            _ if scheme == "digest" && !id.contains(':') => reject("an id of `digest` is user:hash"),
            Some(rights) if !letters.is_empty() => Ok(Self::new(scheme, id, rights)),
            _ => reject("the permissions are letters of cdrwa"),
        }
    }
}

/// An entry without what may be a password, or is made from one.
fn shown(entry: &str) -> &str {
    if entry.starts_with("digest:") { "digest:…" } else { entry }
}

/// The ACLs of all that we create.
#[derive(Debug)]
pub(crate) struct Acls {
    /// Of records: in the default, with credentials, only we can change them.
    pub(crate) record: Vec<Acl>,
    /// Of services: whoever may create and delete there can register and deregister.
    pub(crate) service: Vec<Acl>,
    /// Of what lies above: others create their services there, and nobody else deletes ours, which
    /// would undo its lock.
    pub(crate) parent: Vec<Acl>,
}

impl Acls {
    pub(crate) fn parse(settings: &ConnectionConfig) -> Result<Self> {
        let record = of_records(settings).map_err(|error| error.with_backend(BackendType::Zookeeper))?;
        let parent = open(&record, Rights::READ | Rights::CREATE);
        let service = if settings.zookeeper.lock_service {
            record.clone()
        } else {
            open(&record, Rights::READ | Rights::WRITE | Rights::CREATE | Rights::DELETE)
        };
        Ok(Self { record, service, parent })
    }
}

fn of_records(settings: &ConnectionConfig) -> Result<Vec<Acl>> {
    let own: Vec<Acl> =
        settings.zookeeper.acl.iter().map(|entry| Acl::parse(entry)).collect::<Result<_>>()?;
    let has_certificate = settings.tls.as_ref().is_some_and(|tls| tls.cert.is_some());
    if own.iter().any(|acl| acl.scheme == "auth") && settings.user.is_none() && !has_certificate {
        return Err(Error::config(FIELD, "auth:…", "must be set with `user`, or with `tls.cert`"));
    }
    if settings.zookeeper.lock_service && settings.user.is_none() && own.is_empty() {
        return Err(Error::config(
            "zookeeper.lock_service",
            true,
            "must be set with `user`, or with `zookeeper.acl`",
        ));
    }
    Ok(match settings.user {
        _ if !own.is_empty() => own,
        Some(_) => vec![Acl::everybody(Rights::READ), Acl::us()],
        None => vec![Acl::everybody(Rights::ALL)],
    })
}

/// The same, with these rights for everybody besides.
fn open(acls: &[Acl], rights: Rights) -> Vec<Acl> {
    let (world, mut others): (Vec<_>, Vec<_>) = acls.iter().cloned().partition(|acl| acl.scheme == "world");
    others.insert(0, Acl::everybody(world.iter().fold(rights, |all, acl| all | acl.rights)));
    others
}

#[cfg(test)]
mod tests {
    use discox_core::ZookeeperOptions;

    use super::*;

    fn parse(entries: &[&str]) -> Result<Acls> {
        let acl = entries.iter().map(|&entry| entry.to_owned()).collect();
        let (user, password) = (Some("u".into()), Some("p".into()));
        let zookeeper = ZookeeperOptions { acl, ..Default::default() };
        Acls::parse(&ConnectionConfig { zookeeper, user, password, ..Default::default() })
    }

    #[test]
    fn entries_are_as_in_zookeepers_shell() {
        let acls = parse(&["world:anyone:r", "ip:10.0.0.0/8:cd", "digest:u:h=:a", "auth::cdrwa"]).unwrap();
        let expected = [
            Acl::everybody(Rights::READ),
            Acl::new("ip", "10.0.0.0/8", Rights::CREATE | Rights::DELETE),
            Acl::new("digest", "u:h=", Rights::ADMIN),
            Acl::us(),
        ];
        assert_eq!(acls.record, expected);
        assert_eq!(parse(&["ip:::1:r"]).unwrap().record, [Acl::new("ip", "::1", Rights::READ)]);
    }

    #[test]
    fn what_is_none_is_rejected_by_field_without_a_password() {
        for entry in [
            "",
            "world",
            "world:anyone",
            "world:anyone:",
            "world:anyone:x",
            "world:me:r",
            "ip:anyone:r",
            ":anyone:r",
            "digest:hunter2:r",
            "digest:u:hunter2:hunter2",
        ] {
            let error = parse(&[entry]).unwrap_err();
            assert_eq!(error.field(), Some(FIELD), "{entry}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn rights_hang_on_credentials() {
        let zookeeper = ZookeeperOptions { acl: vec!["auth::cdrwa".into()], ..Default::default() };
        let config = ConnectionConfig { zookeeper, ..Default::default() };
        assert_eq!(Acls::parse(&config).unwrap_err().field(), Some(FIELD));
        let zookeeper = ZookeeperOptions { lock_service: true, ..Default::default() };
        let config = ConnectionConfig { zookeeper, ..Default::default() };
        assert_eq!(Acls::parse(&config).unwrap_err().field(), Some("zookeeper.lock_service"));
        let open = Acls::parse(&ConnectionConfig::default()).unwrap();
        for acls in [open.record, open.service, open.parent] {
            assert_eq!(acls, [Acl::everybody(Rights::ALL)]);
        }
    }

    #[test]
    fn records_are_ours_services_open_and_parents_for_all_to_create_in() {
        let acls = parse(&[]).unwrap();
        assert_eq!(acls.record, [Acl::everybody(Rights::READ), Acl::us()]);
        let (read, write) = (Rights::READ, Rights::WRITE);
        let (create, delete) = (Rights::CREATE, Rights::DELETE);
        assert_eq!(acls.service, [Acl::everybody(read | write | create | delete), Acl::us()]);
        assert_eq!(acls.parent, [Acl::everybody(read | create), Acl::us()]);
    }
}
