//! A certificate authority of the tests' own.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// What servers of the tests are called besides their addresses: for the override of the server's name.
pub const SERVER_NAME: &str = "registry.discox.test";

/// The names that a server's certificate holds.
const SERVER_NAMES: [&str; 4] = ["127.0.0.1", "::1", "localhost", SERVER_NAME];

/// An authority, which signs certificates with keys of their own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM (the key as PKCS#8).
#[derive(Clone)]
pub struct Identity {
    /// The certificate, signed by an [`Authority`].
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Identity {
    /// The certificate and the key in one text, as ZooKeeper reads them.
    pub fn both(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }
}

impl Authority {
    /// A new one: no other knows its certificates.
    pub fn new() -> Result<Authority> {
        let mut params = CertificateParams::default();
        // Java finds an authority by its name: each has its own.
        let name = format!("discox test authority {:016x}", fastrand::u64(..));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// Its own certificate as PEM: what its friends trust.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A server's, for 127.0.0.1, `::1`, `localhost` and [`SERVER_NAME`].
    pub fn server(&self) -> Result<Identity> {
        self.sign("server", &SERVER_NAMES, false)
    }

    /// A server's, for this name only.
    pub fn server_named(&self, name: &str) -> Result<Identity> {
        self.sign("server", &[name], false)
    }

    /// A server's that expired years ago.
    pub fn expired_server(&self) -> Result<Identity> {
        self.sign("server", &SERVER_NAMES, true)
    }

    /// A client's, with this common name.
    pub fn client(&self, name: &str) -> Result<Identity> {
        self.sign(name, &[], false)
    }

    /// A client's that expired years ago.
    pub fn expired_client(&self, name: &str) -> Result<Identity> {
        self.sign(name, &[], true)
    }

    fn sign(&self, common_name: &str, names: &[&str], expired: bool) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Servers are clients of their peers, and etcd of itself.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}
