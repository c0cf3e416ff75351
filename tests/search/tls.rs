//! A real server behind a proxy that uses TLS and asks for a certificate and a password, and what happens with wrong ones.

use crate::case::Case;
use crate::lines::block;
use crate::node::steady;
use crate::scene::{Scene, documents, from_file, to_index};
use crate::wait::wait_for;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::fs;
use tailwater_services::nginx::Nginx;

const LINES: u64 = 5_000;
const PASSWORD: &str = "correct horse";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    // OpenSSL identifies an authority by its name, and would mistake a certificate with this name for the issuer's.
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

/// A certificate for this name or address, and its key, as PEM.
fn certificate(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    (params.signed_by(&key, authority).expect("signed").pem(), key.serialize_pem())
}

/// The proxy's requirements, and what a client needs.
struct Guarded {
    proxy: Nginx,
    ca: String,
    client: (String, String),
    /// Issued by an authority that is not trusted.
    stranger: (String, String),
    other_ca: String,
}

impl Guarded {
    fn start() -> Guarded {
        let (ours, other) = (authority("ours"), authority("another"));
        let (server, server_key) = certificate(&ours, "127.0.0.1");
        let directives = format!(
            "ssl_certificate server.pem;\nssl_certificate_key server.key;\nssl_client_certificate ca.pem;\nssl_verify_client on;\n\
             auth_basic guarded;\nauth_basic_user_file users;\nlocation / {{ proxy_pass {}; }}",
            steady().url()
        );
        let users = format!("tailwater:{{PLAIN}}{PASSWORD}\n");
        let files =
            [("server.pem", &*server), ("server.key", &*server_key), ("ca.pem", &*ours.pem()), ("users", &*users)];
        Guarded {
            proxy: Nginx::start(true, &directives, &files),
            ca: ours.pem(),
            client: certificate(&ours, "tailwater.test"),
            stranger: certificate(&other, "tailwater.test"),
            other_ca: other.pem(),
        }
    }

    /// Writes the files of an authorised client.
    fn equip(&self, case: &Case) {
        case.write("ca.pem", self.ca.as_bytes());
        case.write("client.pem", self.client.0.as_bytes());
        case.write("client.key", self.client.1.as_bytes());
    }

    fn output(&self, case: &Case, index: &str) -> String {
        let file = |name: &str| case.path(name).display().to_string();
        let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
        let more = format!(
            ", op: create, auth: {{basic: {{user: tailwater, password: {PASSWORD}}}}}, request_bytes: 256KiB, \
             tls: {{ca_file: \"{ca}\", cert_file: \"{cert}\", key_file: \"{key}\"}}"
        );
        to_index(&format!("https://127.0.0.1:{}", self.proxy.port()), index, &more)
    }
}

#[test]
fn every_document_arrives_through_tls_with_a_certificate_and_a_password() {
    let guarded = Guarded::start();
    let case = Case::new("guarded");
    guarded.equip(&case);
    let input = from_file(&case, "");
    let output = guarded.output(&case, "guarded");
    let scene = Scene::new(case, &input, &[("out", output)]);
    fs::write(scene.log(), block(1, LINES)).expect("lines");
    let mut product = scene.start();
    scene.wait_for_documents(&mut product, &steady().search(), "guarded", LINES);
    scene.assert_balance(&mut product);
    product.terminate();
    documents(&steady().search(), "guarded", LINES).assert_exactly_once();
    let requests = guarded.proxy.requests();
    assert!(!requests.is_empty() && requests.iter().all(|line| line == "200 SUCCESS tailwater"), "{requests:?}");
}

/// Changes the files or settings of an authorised client so that they are wrong.
type Spoil = fn(&Guarded, &Case);

/// Index, expected message, and what is wrong.
const WRONGS: [(&str, &str, Spoil); 5] = [
    ("password", "HTTP 401 Unauthorized", |_, case| {
        let config = fs::read_to_string(case.path("tailwater.yaml")).expect("the configuration");
        case.write("tailwater.yaml", config.replace(PASSWORD, "wrong donkey").as_bytes());
    }),
    (
        "authority",
        "has issued the server's certificate (unknown issuer); add the authority's certificate",
        |guarded, case| {
            case.write("ca.pem", guarded.other_ca.as_bytes());
        },
    ),
    ("certificate", "The SSL certificate error", |guarded, case| {
        case.write("client.pem", guarded.stranger.0.as_bytes());
        case.write("client.key", guarded.stranger.1.as_bytes());
    }),
    ("scheme", "The plain HTTP request was sent to HTTPS port", |_, case| {
        let config = fs::read_to_string(case.path("tailwater.yaml")).expect("the configuration");
        let (before, behind) = config.split_once(", tls: {").expect("a part on TLS");
        let text = format!("{before}{}", &behind[behind.find('}').expect("its end") + 1..]);
        case.write("tailwater.yaml", text.replace("https://", "http://").as_bytes());
    }),
    ("none", "No required SSL certificate was sent", |_, case| {
        let config = fs::read_to_string(case.path("tailwater.yaml")).expect("the configuration");
        let (before, behind) = config.split_once(", cert_file").expect("a certificate");
        case.write("tailwater.yaml", format!("{before}{}", &behind[behind.find('}').expect("its end")..]).as_bytes());
    }),
];

#[test]
fn rejected_client_gets_the_reason_and_loses_nothing() {
    let guarded = Guarded::start();
    for (name, error, spoil) in WRONGS {
        let index = format!("unguarded-{name}");
        let mut case = Case::new(name);
        case.extra = "drain_timeout: 1s\n".to_owned();
        guarded.equip(&case);
        let input = from_file(&case, "");
        let output = guarded.output(&case, &index);
        let scene = Scene::new(case, &input, &[("out", output)]);
        let config = fs::read_to_string(&scene.config).expect("the configuration");
        fs::write(scene.log(), block(1, LINES)).expect("lines");
        spoil(&guarded, &scene.case);
        let mut product = scene.start_expecting(&[error, "not everything was delivered within drain_timeout"]);
        wait_for("events that wait", || {
            match (scene.counter("out", "tailwater_output_buffered_events")?, scene.retries("out")?) {
                (LINES, retries) if retries > 3 => Ok(()),
                other => Err(format!("{other:?}; {}", product.state())),
            }
        });
        product.wait_for_log(&[error]);
        let left = ["sent", "dead_lettered", "discarded"];
        for way in left.map(|way| format!("tailwater_component_{way}_events_total")) {
            assert_eq!(scene.counter("out", &way), Ok(0), "{name}: {way}");
        }
        assert!(
            !product.log().contains("donkey") && !product.log().contains(PASSWORD),
            "a secret in {}",
            product.log()
        );
        product.signal("TERM");
        assert_eq!(product.wait().code(), Some(75), "{name}: events were left");

        scene.case.write("tailwater.yaml", config.as_bytes());
        guarded.equip(&scene.case);
        let mut product = scene.start();
        scene.wait_for_documents(&mut product, &steady().search(), &index, LINES);
        scene.assert_balance(&mut product);
        product.terminate();
        documents(&steady().search(), &index, LINES).assert_exactly_once();
    }
}
