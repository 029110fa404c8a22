//! What a certificate says: names, issuer and until when it is good.

use std::time::{Duration, SystemTime};

use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate};

/// A certificate that ends so soon is worth a warning: time enough to renew it.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Names that are shown of one certificate.
const NAMES: usize = 8;

/// What is shown of a certificate.
#[derive(Debug)]
pub(crate) struct Summary {
    /// Names, issuer and end, in words.
    pub(crate) text: String,
    pub(crate) validity: Validity,
}

/// Whether a certificate is good at this moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Validity {
    Good,
    EndsSoon,
    Ended,
    NotYet,
}

/// Reads a certificate in DER; none where that cannot be read.
pub(crate) fn summary(der: &[u8]) -> Option<Summary> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names: Vec<String> = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .into_iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(name)
        .collect();
    if names.len() > NAMES {
        names.truncate(NAMES);
        names.push("…".into());
    }
    let names = if names.is_empty() { "no names".to_owned() } else { format!("names {}", names.join(", ")) };
    let (begins, ends) = (time(certificate.validity().not_before), time(certificate.validity().not_after));
    let text = format!(
        "{names}; issued by {}; good until {}",
        certificate.issuer(),
        humantime::format_rfc3339_seconds(ends)
    );
    Some(Summary { text, validity: validity(begins, ends, SystemTime::now()) })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
            v4.or_else(|_| {
                <[u8; 16]>::try_from(*bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string())
            })
            .ok()
        }
        _ => None,
    }
}

fn time(time: x509_parser::time::ASN1Time) -> SystemTime {
    // Years beyond what can be printed are cut.
    const LAST: i64 = 253_402_300_799;
    let seconds = u64::try_from(time.timestamp().clamp(0, LAST)).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn validity(begins: SystemTime, ends: SystemTime, now: SystemTime) -> Validity {
    if now > ends {
        Validity::Ended
    } else if now < begins {
        Validity::NotYet
    } else if now + SOON > ends {
        Validity::EndsSoon
    } else {
        Validity::Good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_from_its_beginning_to_its_end() {
        let day = Duration::from_secs(24 * 3600);
        let now = SystemTime::now();
        assert_eq!(validity(now - day, now + 100 * day, now), Validity::Good);
        assert_eq!(validity(now - day, now + day, now), Validity::EndsSoon);
        assert_eq!(validity(now - 2 * day, now - day, now), Validity::Ended);
        assert_eq!(validity(now + day, now + 2 * day, now), Validity::NotYet);
    }

    #[test]
    fn what_is_no_certificate_is_not_read() {
        assert!(summary(b"not a certificate").is_none());
    }
}
