//! What a failed handshake means.

use std::{error::Error as StdError, io};

use discox_core::{Denial, Error, ErrorKind};
use rustls::{AlertDescription as Alert, CertificateError, Error as TlsError};

/// Says what went wrong with TLS, if an error was caused by it: which side did not accept which
/// certificate, or that the other side does not speak TLS. `identified` is whether we have shown a
/// client certificate.
pub fn explain(error: &(dyn StdError + 'static), identified: bool) -> Option<Error> {
    let cause = find(error)?;
    Some(match cause {
        TlsError::InvalidCertificate(why) => {
            Error::denied(distrust(why), format!("the server's certificate: {why}"))
        }
        TlsError::AlertReceived(alert) => refused(*alert, identified),
        TlsError::InvalidMessage(_) => {
            Error::new(ErrorKind::Protocol, "the server does not speak TLS here: is the port right?")
        }
        other => Error::new(ErrorKind::Protocol, format!("TLS: {other}")),
    })
}

fn distrust(why: &CertificateError) -> Denial {
    match why {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Denial::WrongServerName
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Denial::ExpiredCertificate,
        _ => Denial::UnknownAuthority,
    }
}

/// The server has ended the handshake with an alert (RFC 8446, section 6.2).
fn refused(alert: Alert, identified: bool) -> Error {
    let about_us = matches!(
        alert,
        Alert::AccessDenied
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::DecryptError
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate
    );
    // With TLS 1.2 a missing certificate is a bad one, or just a failure.
    if about_us && identified {
        Error::denied(
            Denial::ClientCertificateRefused,
            format!("the server refuses our certificate: {alert:?}"),
        )
    } else if about_us || (alert == Alert::HandshakeFailure && !identified) {
        Error::denied(
            Denial::NoClientCertificate,
            format!("the server wants a client certificate: {alert:?}"),
        )
    } else {
        Error::new(ErrorKind::Protocol, format!("the server has ended the TLS handshake: {alert:?}"))
    }
}

/// Looks through the causes, also those inside of I/O errors, which `source` passes over.
fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<TlsError>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &'a (dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(cause: TlsError, identified: bool) -> Option<Denial> {
        let error = io::Error::other(io::Error::other(cause));
        explain(&error, identified).and_then(|error| error.denial())
    }

    #[test]
    fn causes_are_found_inside_of_io_errors() {
        for (cause, identified, expected) in [
            (
                TlsError::InvalidCertificate(CertificateError::UnknownIssuer),
                false,
                Some(Denial::UnknownAuthority),
            ),
            (
                TlsError::InvalidCertificate(CertificateError::Expired),
                false,
                Some(Denial::ExpiredCertificate),
            ),
            (
                TlsError::InvalidCertificate(CertificateError::NotValidForName),
                false,
                Some(Denial::WrongServerName),
            ),
            (TlsError::AlertReceived(Alert::CertificateRequired), false, Some(Denial::NoClientCertificate)),
            (TlsError::AlertReceived(Alert::BadCertificate), false, Some(Denial::NoClientCertificate)),
            (TlsError::AlertReceived(Alert::BadCertificate), true, Some(Denial::ClientCertificateRefused)),
            (TlsError::AlertReceived(Alert::UnknownCA), true, Some(Denial::ClientCertificateRefused)),
            (TlsError::AlertReceived(Alert::InternalError), true, None),
        ] {
            assert_eq!(denial(cause.clone(), identified), expected, "{cause:?}");
        }
        assert!(explain(&io::Error::other("no TLS in it"), false).is_none());
    }
}
