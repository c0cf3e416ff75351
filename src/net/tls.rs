//! TLS for outgoing connections.
//!
//! Guarantees: the server's certificate is always verified ([`super::trust`]), against the configured certificates or those of the
//! system. Keys are never shown. Does not decide when files are read: [`super::secured`] does.

use super::trust::Trust;
use futures_rustls::TlsConnector;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use futures_rustls::rustls::client::{WantsClientCert, WebPkiServerVerifier};
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::env::{Disk, File};
use xxhash_rust::xxh3::Xxh3;

/// Where systems store the certificates of trusted authorities.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The largest certificate file that is read.
const FILE_BYTES_MAX: usize = 4 << 20;

/// How servers are verified, and how Tailwater identifies itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// A PEM file with the certificate authorities that servers are verified against, or with the certificates of the servers
    /// themselves. Default: the authorities of the system. Changes of the files of `tls` apply to new connections.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the client certificate, for servers that require one, and any intermediate certificates.
    pub cert_file: Option<PathBuf>,
    /// A PEM file with the private key of the client certificate.
    pub key_file: Option<PathBuf>,
    /// The name in the server's certificate, if it is not the host of the URL.
    pub server_name: Option<String>,
}

impl Tls {
    /// Checks that the settings make sense; returns every key that is wrong, and why.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => wrong.push(("tls.key_file", "a certificate is set without its key".to_owned())),
            (None, Some(_)) => wrong.push(("tls.cert_file", "a key is set without its certificate".to_owned())),
            _ => {}
        }
        if let Some(Err(what)) = self.server_name.as_deref().map(server_name) {
            wrong.push(("tls.server_name", what));
        }
        wrong
    }

    /// Reads the files; the number identifies their content. May block.
    pub fn read<D: Disk>(&self, disk: &D) -> Result<(TlsConnector, u128), String> {
        // If a file changes in between, the next look finds another number.
        let stamp = self.stamp(disk)?;
        let Authorities { roots, named } = self.authorities(disk)?;
        let provider = Arc::new(ring::default_provider());
        let issued = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let trust = Trust { issued: issued.map_err(|error| format!("TLS: {error}"))?, named };
        let builder = builder()?.dangerous().with_custom_certificate_verifier(Arc::new(trust));
        let mut config = self.identified(builder, self.chain(disk)?, self.key(disk)?)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok((TlsConnector::from(Arc::new(config)), stamp))
    }

    /// The same if the content of the files is not what `stamp` identifies.
    pub fn read_if_changed<D: Disk>(&self, disk: &D, stamp: u128) -> Result<Option<(TlsConnector, u128)>, String> {
        if self.stamp(disk)? == stamp { Ok(None) } else { self.read(disk).map(Some) }
    }

    /// A number for the content of the files.
    fn stamp<D: Disk>(&self, disk: &D) -> Result<u128, String> {
        let mut hash = Xxh3::new();
        let mut add = |bytes: Vec<u8>| {
            hash.update(&bytes.len().to_le_bytes());
            hash.update(&bytes);
        };
        match &self.ca_file {
            Some(path) => add(read(disk, path)?),
            None => add(SYSTEM_BUNDLES.iter().find_map(|path| read(disk, Path::new(path)).ok()).unwrap_or_default()),
        }
        for path in [&self.cert_file, &self.key_file].into_iter().flatten() {
            add(read(disk, path)?);
        }
        Ok(hash.digest128())
    }

    /// Every reason why the files cannot be used, each with its key. May block.
    pub fn check_files<D: Disk>(&self, disk: &D) -> Vec<(&'static str, String)> {
        let roots = self.authorities(disk);
        match (self.chain(disk), self.key(disk)) {
            (Ok(chain), Ok(key)) => {
                let builder = builder().map(|builder| builder.with_root_certificates(RootCertStore::empty()));
                let unfit = builder.and_then(|builder| self.identified(builder, chain, key)).err();
                let all = [("tls.ca_file", roots.err()), ("tls.key_file", unfit)];
                all.into_iter().filter_map(|(key, what)| Some((key, what?))).collect()
            }
            (chain, key) => {
                let all = [("tls.ca_file", roots.err()), ("tls.cert_file", chain.err()), ("tls.key_file", key.err())];
                all.into_iter().filter_map(|(key, what)| Some((key, what?))).collect()
            }
        }
    }

    /// The configuration with the client certificate, if there is one.
    fn identified(
        &self,
        builder: ConfigBuilder<ClientConfig, WantsClientCert>,
        chain: Vec<CertificateDer<'static>>,
        key: Option<PrivateKeyDer<'static>>,
    ) -> Result<ClientConfig, String> {
        let Some(key) = key else { return Ok(builder.with_no_client_auth()) };
        let shown = |path: &Option<PathBuf>| path.as_deref().unwrap_or(Path::new("")).display().to_string();
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("{} and {}: {error}", shown(&self.cert_file), shown(&self.key_file)))
    }

    /// The client certificate and its intermediate certificates.
    fn chain<D: Disk>(&self, disk: &D) -> Result<Vec<CertificateDer<'static>>, String> {
        let read = |path: &PathBuf| certificates(path, &read(disk, path)?);
        self.cert_file.as_ref().map_or(Ok(Vec::new()), read)
    }

    /// The private key of the client certificate.
    fn key<D: Disk>(&self, disk: &D) -> Result<Option<PrivateKeyDer<'static>>, String> {
        let Some(path) = &self.key_file else { return Ok(None) };
        let key = PrivateKeyDer::from_pem_slice(&read(disk, path)?);
        key.map(Some).map_err(|_| format!("{} contains no valid private key", path.display()))
    }

    fn authorities<D: Disk>(&self, disk: &D) -> Result<Authorities, String> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca_file {
            let named = certificates(path, &read(disk, path)?)?;
            for certificate in &named {
                let unfit = |error| format!("{} contains a certificate that cannot be used: {error}", path.display());
                roots.add(certificate.clone()).map_err(unfit)?;
            }
            return Ok(Authorities { roots, named });
        }
        for path in SYSTEM_BUNDLES.map(Path::new) {
            let Ok(bytes) = read(disk, path) else { continue };
            // A few certificates of a system may be invalid.
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).flatten());
            if !roots.is_empty() {
                return Ok(Authorities { roots, named: Vec::new() });
            }
        }
        Err(format!(
            "no certificate authorities in {}: install them, or name a file with tls.ca_file",
            SYSTEM_BUNDLES[0]
        ))
    }
}

/// The certificates that servers are verified against.
struct Authorities {
    roots: RootCertStore,
    /// Those that are accepted as a server's own.
    named: Vec<CertificateDer<'static>>,
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))
}

/// Parses the name that the server's certificate must have.
pub fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|_| format!("`{name}` is not a valid server name"))
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{} contains no certificate in PEM format", path.display())),
    }
}

fn read<D: Disk>(disk: &D, path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error| format!("{} cannot be read: {error}", path.display());
    let (file, _) = disk.open_regular(path).map_err(failed)?;
    let mut bytes = vec![0; 64 * 1024];
    let mut length = 0;
    loop {
        match file.read_at(&mut bytes[length..], length as u64).map_err(failed)? {
            0 => break,
            more => length += more,
        }
        if length > FILE_BYTES_MAX {
            return Err(format!("{} is larger than {FILE_BYTES_MAX} bytes", path.display()));
        }
        if length == bytes.len() {
            bytes.resize(length * 2, 0);
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}
