//! Which server certificates are accepted, renewed files, and what is said about others.

use super::*;
use futures_rustls::rustls::pki_types::CertificateDer;
use rcgen::{Certificate, DistinguishedName, date_time_ymd};
use std::path::Path;

/// A self-signed certificate for `logs.test`, and a server that has it.
fn self_signed(change: impl Fn(&mut CertificateParams)) -> (Certificate, Arc<ServerConfig>) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["logs.test".to_owned()]).expect("a name");
    change(&mut params);
    let certificate = params.self_signed(&key).expect("signed");
    let server = server_with(certificate.der().clone(), &key);
    (certificate, server)
}

fn server_with(certificate: CertificateDer<'static>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![certificate], key).expect("they belong together"))
}

fn authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

/// What comes of one event for this server, with this file and name.
fn outcome(server: &Arc<ServerConfig>, ca_file: &Path, name: &str) -> Outcome {
    let server = Server::start_with(Some(server.clone()), |_, _| status(200));
    let tls = json!({ "ca_file": ca_file, "server_name": name });
    let url = format!("https://127.0.0.1:{}", server.port);
    deliver(settings(&url, json!({ "tls": tls })), || delivery(&lines(1), 1), 1).remove(0)
}

#[test]
fn certificate_in_the_file_is_accepted_whatever_it_says_about_authorities() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("own.pem");
    for change in [authority, |_: &mut CertificateParams| {}] {
        let (certificate, server) = self_signed(change);
        std::fs::write(&file, certificate.pem()).expect("written");
        assert!(matches!(outcome(&server, &file, "logs.test"), Outcome::Delivered));
        let (error, _) = retry(&outcome(&server, &file, "other.test"));
        assert!(error.contains("is for logs.test and not for other.test; correct the host"), "{error}");
    }
    // Issued by an authority that is not in the file.
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    authority(&mut params);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["logs.test".to_owned()]).expect("a name");
    let leaf = params.signed_by(&key, &issuer).expect("signed");
    std::fs::write(&file, leaf.pem()).expect("written");
    let server = server_with(leaf.der().clone(), &key);
    assert!(matches!(outcome(&server, &file, "logs.test"), Outcome::Delivered));
}

#[test]
fn certificate_in_the_file_must_be_valid_now() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("own.pem");
    for is_authority in [true, false] {
        for (from, to, expected) in
            [(2001, 2002, "has expired at 2002-01-01"), (4000, 4001, "is not valid before 4000")]
        {
            let (certificate, server) = self_signed(|params| {
                if is_authority {
                    authority(params);
                }
                (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
            });
            std::fs::write(&file, certificate.pem()).expect("written");
            let (error, _) = retry(&outcome(&server, &file, "logs.test"));
            assert!(error.contains(expected) && error.contains("clock"), "{error}");
        }
    }
}

#[test]
fn other_certificate_is_refused_with_the_next_step() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("own.pem");
    let (certificate, _) = self_signed(authority);
    std::fs::write(&file, certificate.pem()).expect("written");
    // The same name and settings, but another key.
    let (_, stranger) = self_signed(authority);
    let (error, _) = retry(&outcome(&stranger, &file, "logs.test"));
    assert!(error.contains("(CA:TRUE)") && error.contains("own.pem; put it there"), "{error}");
    let unnamed = |params: &mut CertificateParams| params.distinguished_name = DistinguishedName::new();
    for ((_, stranger), expected) in [
        (self_signed(|_| {}), "but with another key"),
        (self_signed(unnamed), "has issued the server's certificate (unknown issuer)"),
    ] {
        let (error, _) = retry(&outcome(&stranger, &file, "logs.test"));
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("; add the authority's certificate, or the server's own, to "), "{error}");
    }
    // A server without TLS.
    let plain = Server::start(|_, _| Act::Last(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    let url = format!("https://127.0.0.1:{}", plain.port);
    let outcomes = deliver(settings(&url, json!({ "tls": { "ca_file": file } })), || delivery(&lines(1), 1), 1);
    let (error, _) = retry(&outcomes[0]);
    assert!(!error.contains("Error(") && (error.contains("speak") || error.contains("check")), "{error}");
}

/// Delivers one event per change; the server asks for a certificate and ends each connection after its answer.
fn with_changes(changes: &'static [fn(&Certificates, &Path)]) -> Vec<Outcome> {
    let (ours, other) = (certificates(), certificates());
    let server =
        Server::start_with(Some(ours.server.clone()), |_, _| Act::Last(answer(200, "connection: close\r\n", b"")));
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().to_owned();
    for name in ["ca.pem", "client.pem", "client.key"] {
        std::fs::copy(other.directory.path().join(name), place.join(name)).expect("copied");
    }
    let file = |name: &str| place.join(name);
    let tls = json!({
        "ca_file": file("ca.pem"), "cert_file": file("client.pem"), "key_file": file("client.key"), "server_name": "logs.test",
    });
    let settings = settings(&format!("https://127.0.0.1:{}", server.port), json!({ "tls": tls }));
    on_shard(move |env| async move {
        let mut output = open(&env, &settings).await.expect("it opens");
        let mut outcomes = vec![output.deliver(&delivery(&lines(1), 1)).await];
        for change in changes {
            change(&ours, &place);
            outcomes.push(output.deliver(&delivery(&lines(1), 1)).await);
        }
        outcomes
    })
}

fn copy(ours: &Certificates, name: &str, place: &Path) {
    std::fs::copy(ours.directory.path().join(name), place.join(name)).expect("copied");
}

#[test]
fn renewed_files_are_used_for_the_next_connection_and_bad_ones_are_not() {
    let outcomes = with_changes(&[
        |ours, place| copy(ours, "ca.pem", place),
        // Half of a renewal: the certificate does not belong to the key.
        |ours, place| copy(ours, "client.pem", place),
        |_, place| std::fs::write(place.join("client.key"), "nonsense").expect("written"),
        |ours, place| copy(ours, "client.key", place),
    ]);
    let shown = format!("{outcomes:?}");
    let (unknown, _) = retry(&outcomes[0]);
    assert!(unknown.contains("ca.pem"), "{shown}");
    // The server rejects the certificate that the client had before.
    for rejected in &outcomes[1..4] {
        let (error, _) = retry(rejected);
        assert!(!error.contains("ca.pem"), "{shown}");
    }
    assert!(matches!(outcomes[4..], [Outcome::Delivered]), "{shown}");
}
