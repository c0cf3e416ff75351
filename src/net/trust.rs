//! Which server certificates are accepted, and what is said about a handshake that failed.
//!
//! Guarantees: a certificate is accepted if an authority in the configured file has issued it, or if it is itself in that file,
//! byte for byte, also when it says that it is an authority, as self-signed ones from `openssl req -x509` do. In both cases it must
//! be valid now and be for the server's name, and the server must prove that it has the key. Does not accept certificates without
//! a check.

use futures_rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use futures_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use futures_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use futures_rustls::rustls::server::ParsedCertificate;
use futures_rustls::rustls::{AlertDescription, CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Verifies servers: see the module.
#[derive(Debug)]
pub struct Trust {
    /// The verifier for certificates that an authority has issued.
    pub issued: Arc<WebPkiServerVerifier>,
    /// The certificates that are accepted themselves.
    pub named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.issued.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(problem))
                if is_of_issuer(&problem) && self.named.iter().any(|named| named == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.supported_verify_schemes()
    }
}

/// Whether a certificate was rejected because of who issued it. This is found after the period of validity was checked.
fn is_of_issuer(problem: &CertificateError) -> bool {
    is_authority(problem) || matches!(problem, CertificateError::UnknownIssuer | CertificateError::BadSignature)
}

/// Whether a certificate was rejected because it says that it is an authority's.
fn is_authority(problem: &CertificateError) -> bool {
    is_other(problem, "CaUsedAsEndEntity")
}

/// Whether it is a problem of this name for which rustls has no kind of its own.
fn is_other(problem: &CertificateError, name: &str) -> bool {
    matches!(problem, CertificateError::Other(other) if format!("{other:?}").contains(name))
}

/// The error of TLS that is the cause of this one.
pub fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut error = Some(error);
    while let Some(this) = error {
        let inner = this.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(inner) = inner {
            return tls_error(inner);
        }
        if let Some(found) = this.downcast_ref::<Error>() {
            return Some(found);
        }
        error = this.source();
    }
    None
}

/// Says why a connection over TLS failed, and what to do. `ca_file` is the configured file.
pub fn explained(error: &(dyn StdError + 'static), ca_file: Option<&Path>) -> String {
    let Some(found) = tls_error(error) else {
        let is_closed = error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset));
        return match is_closed {
            true => "the server closed the connection during the TLS handshake; check that it speaks TLS at this port"
                .to_owned(),
            false => format!("{error}; check `tls` and the URL"),
        };
    };
    match found {
        Error::InvalidCertificate(problem) => of_certificate(problem, ca_file),
        Error::InvalidMessage(_) => {
            "the server does not speak TLS at this port; use http:// or another port in the URL".to_owned()
        }
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server offers no version or cipher of TLS that Tailwater has; enable TLS 1.2 or 1.3 on the server"
                .to_owned()
        }
        Error::AlertReceived(alert) => format!(
            "the server rejected the TLS connection with `{alert:?}`; if it requires a client certificate, check `tls.cert_file` and \
             `tls.key_file`, otherwise check `tls.server_name` and the URL"
        ),
        other => format!("{other}; check `tls` and the URL"),
    }
}

fn of_certificate(problem: &CertificateError, ca_file: Option<&Path>) -> String {
    let file = ca_file.map(|path| path.display().to_string());
    let add = match &file {
        Some(file) => format!("add the authority's certificate, or the server's own, to {file}"),
        None => "name a file with the authority's certificate, or the server's own, with `tls.ca_file`".to_owned(),
    };
    let at = |time: &UnixTime| {
        let time = i64::try_from(time.as_secs()).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok());
        time.map_or(String::new(), |time| time.to_string())
    };
    match problem {
        CertificateError::UnknownIssuer => match &file {
            Some(file) => format!("no authority in {file} has issued the server's certificate (unknown issuer); {add}"),
            None => format!(
                "no authority that this system trusts has issued the server's certificate (unknown issuer); {add}"
            ),
        },
        CertificateError::BadSignature => format!(
            "the server's certificate was issued under the name of an authority in {}, but with another key; {add}",
            file.as_deref().unwrap_or("the system's list")
        ),
        problem if is_authority(problem) => {
            let place = file.as_deref().unwrap_or("a file that `tls.ca_file` names");
            format!(
                "the server's certificate is one of an authority (CA:TRUE), which is accepted only if it is itself in {place}; put it \
                 there, or give the server a certificate with CA:FALSE"
            )
        }
        problem if is_other(problem, "UnsupportedCertVersion") => {
            "the server's certificate has the outdated X.509 version 1; create a new one with a subjectAltName"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let name = |name: &String| {
                let inside = name.split_once('(').map_or(name.as_str(), |(_, inside)| inside.trim_end_matches(')'));
                inside.trim_matches('"').escape_debug().to_string()
            };
            let names = match presented.is_empty() {
                true => "no name (it has no subjectAltName)".to_owned(),
                false => presented.iter().take(NAMES_MAX).map(name).collect::<Vec<_>>().join(", "),
            };
            format!(
                "the server's certificate is for {names} and not for {}; correct the host in the URL, or set `tls.server_name` to a \
                 name in the certificate",
                expected.to_str()
            )
        }
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "the server's certificate has expired at {}; renew it on the server, or correct the clock of this machine",
            at(not_after)
        ),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "the server's certificate is not valid before {}; correct the clock of this machine or the certificate",
            at(not_before)
        ),
        problem => format!("the server's certificate is not accepted: {problem}; check `tls` and the URL"),
    }
}

/// Names of a certificate that are shown.
const NAMES_MAX: usize = 5;
