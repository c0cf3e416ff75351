//! The output with a server that responds as each test needs.

mod certificates;
mod floods;
mod proxies;

use super::*;
use crate::outputs::encoding::testing::delivery;
use crate::outputs::requests::tests::{Act, Seen, Server, answer, closed_port, deliver, on_shard, open, retry, status};
use flate2::read::GzDecoder;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use futures_rustls::rustls::server::WebPkiClientVerifier;
use futures_rustls::rustls::{RootCertStore, ServerConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use std::io::Read;
use tailwater_shards::plugin::Outcome;

fn settings(url: &str, more: serde_json::Value) -> Settings {
    let mut keys = json!({ "url": url });
    keys.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    serde_json::from_value(keys).expect("settings")
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{{\"message\":\"line {number}\"}}\n")).collect()
}

/// Delivers `count` events and returns the outcomes, the last attempt last.
fn send(server: &Server, more: serde_json::Value, count: usize, attempts: usize) -> Vec<Outcome> {
    deliver(settings(&server.url(), more), move || delivery(&lines(count), 1), attempts)
}

/// How often each event was in a request.
fn times(seen: &[Seen], count: usize) -> Vec<usize> {
    let text: String = seen.iter().map(Seen::text).collect();
    lines(count).iter().map(|line| text.matches(line.as_str()).count()).collect()
}

#[test]
fn lines_are_sent_as_they_are_in_the_wal() {
    let server = Server::start(|_, _| status(200));
    let more = json!({ "auth": { "bearer": "hush" }, "headers": { "X-Tenant": "7", "content-type": "text/weird" } });
    assert!(matches!(send(&server, more, 3, 1)[..], [Outcome::Delivered]));
    let [seen] = &server.seen()[..] else { panic!("one request") };
    assert!(seen.head.starts_with("POST / HTTP/1.1\n"), "{}", seen.head);
    assert_eq!(seen.text(), lines(3).concat());
    let header = |name: &str| seen.header(name).expect("once").to_owned();
    assert_eq!(header("authorization"), "Bearer hush");
    assert_eq!((header("x-tenant"), header("content-type")), ("7".to_owned(), "text/weird".to_owned()));
    assert_eq!(header("host"), format!("127.0.0.1:{}", server.port));
}

#[test]
fn framings_and_methods_are_as_configured() {
    let server = Server::start(|_, _| status(204));
    send(&server, json!({ "framing": "json_array", "method": "PUT" }), 2, 1);
    send(&server, json!({ "framing": "text" }), 2, 1);
    let seen = server.seen();
    assert!(seen[0].head.starts_with("PUT "));
    assert_eq!(seen[0].text(), r#"[{"message":"line 0"},{"message":"line 1"}]"#);
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!(seen[1].text(), "line 0\nline 1\n");
    assert_eq!(seen[1].header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn bodies_are_compressed() {
    let server = Server::start(|_, _| status(200));
    send(&server, json!({ "compression": "gzip" }), 5000, 1);
    send(&server, json!({ "compression": "zstd" }), 5000, 1);
    let seen = server.seen();
    let mut text = String::new();
    GzDecoder::new(&seen[0].body[..]).read_to_string(&mut text).expect("gzip");
    assert_eq!(text, lines(5000).concat());
    assert_eq!(seen[0].header("content-encoding"), Some("gzip"));
    assert_eq!(zstd::decode_all(&seen[1].body[..]).expect("zstd"), lines(5000).concat().into_bytes());
}

#[test]
fn busy_server_is_retried_after_the_time_it_asks_for() {
    let busy = |number, _: &Seen| match number {
        0 => Act::Send(answer(429, "retry-after: 7\r\n", b"slow down")),
        1 => status(503),
        _ => status(200),
    };
    let server = Server::start(busy);
    let outcomes = send(&server, json!({}), 2, 5);
    assert_eq!(outcomes.len(), 3);
    let (error, after) = retry(&outcomes[0]);
    assert!(error.contains("429") && error.contains("slow down"), "{error}");
    assert_eq!(after, Some(Duration::from_secs(7)));
    assert_eq!(retry(&outcomes[1]).1, None);
    assert!(matches!(outcomes[2], Outcome::Delivered));
}

#[test]
fn accepted_events_are_not_sent_again_with_the_rest() {
    let second_fails = |number, _: &Seen| if number == 1 { status(500) } else { status(200) };
    let server = Server::start(second_fails);
    let outcomes = send(&server, json!({ "request_bytes": 100, "concurrency": 1 }), 20, 5);
    assert_eq!(outcomes.len(), 2);
    assert!(matches!(outcomes[1], Outcome::Delivered));
    let repeated = times(&server.seen(), 20);
    assert_eq!(repeated.iter().sum::<usize>(), 24, "only the four events of the failed request go twice: {repeated:?}");
    assert!(repeated.iter().all(|times| *times >= 1));
}

#[test]
fn only_events_at_fault_are_rejected() {
    for (framing, code) in [("ndjson", 400), ("json_array", 422)] {
        let at_fault = |seen: &Seen| ["line 7\"", "line 300\""].iter().any(|text| seen.text().contains(text));
        let server = Server::start(move |_, seen| match at_fault(seen) {
            true => Act::Send(answer(code, "", b"no such events")),
            false => status(200),
        });
        let outcomes = send(&server, json!({ "framing": framing }), 512, 1);
        let [Outcome::Rejected(events)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(events.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [7, 300]);
        assert!(events.iter().all(|(_, why)| why.contains(&format!("HTTP {code}")) && why.contains("no such events")));
        let (refused, taken): (Vec<Seen>, Vec<Seen>) = server.seen().into_iter().partition(|seen| at_fault(seen));
        let expected: Vec<usize> = (0..512).map(|number| usize::from(number != 7 && number != 300)).collect();
        let text: String = taken.iter().map(Seen::text).collect();
        let times = lines(512).iter().map(|line| text.matches(line.trim_end()).count()).collect::<Vec<_>>();
        assert_eq!(times, expected, "each other event is taken once");
        assert!(refused.len() + taken.len() <= 1 + 2 * 2 * 9, "{} + {} requests", refused.len(), taken.len());
    }
}

#[test]
fn server_that_rejects_everything_is_not_asked_about_each_event() {
    let server = Server::start(|_, _| Act::Send(answer(400, "", b"not today")));
    let settings = settings(&server.url(), json!({ "concurrency": 1 }));
    let requests = on_shard(move |env| async move {
        let mut output = open(&env, &settings).await.expect("it opens");
        let mut requests = Vec::new();
        for _ in 0..3 {
            let outcome = output.deliver(&delivery(&lines(3000), 1)).await;
            let Outcome::Rejected(events) = outcome else { panic!("{outcome:?}") };
            assert_eq!(events.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (0..3000).collect::<Vec<_>>());
            assert!(events.iter().all(|(_, why)| why.contains("HTTP 400 Bad Request: not today")), "{}", events[0].1);
            assert!(events.iter().any(|(_, why)| why.contains("with others")), "{}", events[0].1);
            requests.push(server.seen().len());
        }
        requests
    });
    // With several at a time, those that are running when this is decided come on top.
    assert_eq!(requests, [64 + 32, 64 + 32 + 17, 64 + 32 + 2 * 17]);
}

#[test]
fn wrong_url_or_headers_lose_nothing() {
    for code in [404, 405, 410, 414, 415, 431] {
        let server = Server::start(move |number, _| status(if number == 0 { code } else { 200 }));
        let outcomes = send(&server, json!({}), 2, 3);
        let why = retry(&outcomes[0]).0;
        assert!(why.contains("check the URL") || why.contains("check `headers`"), "{outcomes:?}");
        assert!(matches!(outcomes[1], Outcome::Delivered), "{outcomes:?}");
    }
}

#[test]
fn wrong_credentials_lose_nothing() {
    let server = Server::start(|number, _| status(if number == 0 { 401 } else { 200 }));
    let outcomes = send(&server, json!({ "auth": { "basic": { "user": "u", "password": "hush" } } }), 2, 3);
    let (error, _) = retry(&outcomes[0]);
    assert!(error.contains("auth") && !error.contains("hush"), "{error}");
    assert!(matches!(outcomes[1], Outcome::Delivered));
}

#[test]
fn no_message_quotes_a_secret_that_the_server_repeats() {
    for code in [401, 503, 400, 413] {
        let server = Server::start(move |_, seen| Act::Send(answer(code, "", seen.head.as_bytes())));
        let more = json!({ "auth": { "bearer": "hush-bearer" }, "headers": { "x-key": "hush-header" } });
        let url = format!("{}/in?token=hush%2Dquery&x=1", server.url());
        let outcomes = deliver(settings(&url, more), || delivery(&lines(1), 1), 1);
        let shown = format!("{outcomes:?}");
        assert!(shown.contains(&format!("HTTP {code}")) && shown.contains("token=***"), "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
        assert!(server.seen()[0].head.contains("hush-header"), "it was sent");
    }
}

#[test]
fn too_large_requests_are_halved_down_to_one_event() {
    let small = |_, seen: &Seen| match seen.body.len() > 60 || seen.text().contains("line 3\"") {
        true => status(413),
        false => status(200),
    };
    let server = Server::start(small);
    let outcomes = send(&server, json!({}), 9, 1);
    let [Outcome::Rejected(events)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].0, 3);
    assert!(events[0].1.contains("too large"), "{}", events[0].1);
    let is_taken = |seen: &Seen| seen.body.len() <= 60 && !seen.text().contains("line 3\"");
    let taken: Vec<Seen> = server.seen().into_iter().filter(is_taken).collect();
    assert_eq!(times(&taken, 9), [1, 1, 1, 0, 1, 1, 1, 1, 1]);
}

/// Lines of about 1 KiB.
fn large_lines(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{{\"message\":\"large {number} {}\"}}\n", "x".repeat(1000))).collect()
}

/// The numbers of the large lines in these requests, in order.
fn large_numbers(seen: &[Seen]) -> Vec<usize> {
    let number = |line: &str| line.split(' ').nth(1).and_then(|number| number.parse().ok()).expect("a large line");
    let mut numbers: Vec<usize> =
        seen.iter().flat_map(|seen| seen.text().lines().map(number).collect::<Vec<_>>()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn request_that_breaks_the_connection_or_overloads_the_server_alone_is_halved() {
    for refusal in [|| Act::Last(Vec::new()), || status(429)] {
        let server = Server::start(move |_, seen| if seen.body.len() > 100_000 { refusal() } else { status(200) });
        let more = json!({ "request_bytes": "512KiB" });
        let outcomes = deliver(settings(&server.url(), more), || delivery(&large_lines(1000), 1), 40);
        assert!(matches!(outcomes.last(), Some(Outcome::Delivered)), "{:?}", outcomes.last());
        let (taken, refused): (Vec<Seen>, Vec<Seen>) =
            server.seen().into_iter().partition(|seen| seen.body.len() <= 100_000);
        assert_eq!(large_numbers(&taken), (0..1000).collect::<Vec<_>>());
        assert!(refused.len() <= 8, "what size is taken is learnt: {} were refused", refused.len());
    }
}

#[test]
fn event_that_breaks_every_connection_is_kept_and_does_not_delay_others() {
    let large = |seen: &Seen| seen.text().contains("large 7 ");
    let server = Server::start(move |_, seen| if large(seen) { Act::Last(Vec::new()) } else { status(200) });
    let mut lines = large_lines(200);
    lines[7] = lines[7].replace("xx", &"x".repeat(200));
    let more = json!({ "request_bytes": "64KiB" });
    let outcomes = deliver(settings(&server.url(), more), move || delivery(&lines, 1), 30);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Retry { .. })), "{outcomes:?}");
    let taken: Vec<Seen> = server.seen().into_iter().filter(|seen| !large(seen)).collect();
    assert_eq!(large_numbers(&taken), (0..200).filter(|number| *number != 7).collect::<Vec<_>>());
}

#[test]
fn requests_do_not_become_smaller_because_a_server_is_unreachable() {
    let server = Server::start(|number, _| if number < 10 { Act::Last(Vec::new()) } else { status(200) });
    let outcomes = deliver(settings(&server.url(), json!({})), || delivery(&large_lines(50), 1), 20);
    assert!(matches!(outcomes.last(), Some(Outcome::Delivered)), "{:?}", outcomes.last());
    assert!(server.seen().iter().all(|seen| seen.text().lines().count() == 50));
}

#[test]
fn broken_connections_are_retried() {
    let server = Server::start(|number, _| match number {
        0 => Act::Last(Vec::new()),
        1 => Act::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec()),
        2 => Act::Last(b"nonsense\r\n\r\n".to_vec()),
        _ => status(200),
    });
    let outcomes = send(&server, json!({}), 2, 9);
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    assert!(matches!(outcomes[3], Outcome::Delivered));
    assert_eq!(times(&server.seen(), 2), [4, 4]);
}

#[test]
fn request_to_a_silent_server_times_out() {
    let server = Server::start(|number, _| if number == 0 { Act::Silence } else { status(200) });
    let outcomes = send(&server, json!({ "timeout": "50ms" }), 2, 3);
    assert!(retry(&outcomes[0]).0.contains("no answer within 50ms"), "{outcomes:?}");
    assert!(matches!(outcomes[1], Outcome::Delivered));
}

#[test]
fn refused_connection_is_an_error_with_the_address() {
    let url = format!("http://127.0.0.1:{}", closed_port());
    let outcomes = deliver(settings(&url, json!({})), || delivery(&lines(1), 1), 1);
    let (error, _) = retry(&outcomes[0]);
    assert!(error.contains(&url) && error.contains("refused"), "{error}");
    let outcomes = deliver(settings("http://no-such-host.invalid", json!({})), || delivery(&lines(1), 1), 1);
    assert!(retry(&outcomes[0]).0.contains("no-such-host.invalid"), "{outcomes:?}");
}

#[test]
fn responses_of_any_form_are_understood() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let server = Server::start(move |number, _| match number {
        0 => Act::Send(chunked.as_bytes().to_vec()),
        1 => Act::Last(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()),
        _ => Act::Last(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
    });
    let outcomes = send(&server, json!({ "request_bytes": 30, "concurrency": 1 }), 4, 1);
    assert!(matches!(outcomes[..], [Outcome::Delivered]), "{outcomes:?}");
    assert_eq!(times(&server.seen(), 4), [1; 4]);
}

#[test]
fn status_counts_whatever_the_body_is() {
    use flate2::write::GzEncoder;
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &vec![b' '; 64 << 20]).expect("in memory");
    let bomb = encoder.finish().expect("in memory");
    assert!(bomb.len() < 128 << 10);
    for (encoding, body) in [("gzip", bomb), ("br", b"x".to_vec()), ("identity", vec![b'x'; 17 << 20])] {
        let server = Server::start(move |number, _| {
            let status = if number == 0 { 503 } else { 200 };
            Act::Send(answer(status, &format!("content-encoding: {encoding}\r\n"), &body))
        });
        let outcomes = send(&server, json!({}), 1, 2);
        assert!(retry(&outcomes[0]).0.contains("503"), "{encoding}: {outcomes:?}");
        assert!(
            matches!(outcomes[1], Outcome::Delivered),
            "{encoding}: taken events would be sent for ever: {outcomes:?}"
        );
    }
}

#[test]
fn connections_are_reused_and_requests_are_concurrent() {
    let server = Server::start(|_, _| status(200));
    assert!(matches!(
        send(&server, json!({ "request_bytes": 100, "concurrency": 1 }), 40, 1)[..],
        [Outcome::Delivered]
    ));
    assert!(server.seen().len() >= 10);
    assert!(server.seen().iter().all(|seen| seen.connection == 0), "one connection serves them all");

    let gate = std::sync::Barrier::new(2);
    let together = Server::start(move |_, _| {
        gate.wait();
        status(200)
    });
    let outcomes = send(&together, json!({ "request_bytes": 100, "concurrency": 2, "timeout": "20s" }), 8, 1);
    assert!(matches!(outcomes[..], [Outcome::Delivered]), "two requests wait for each other: {outcomes:?}");
}

struct Certificates {
    directory: tempfile::TempDir,
    server: Arc<ServerConfig>,
}

/// A certificate authority, with a server certificate for `logs.test` and a client certificate.
fn certificates() -> Certificates {
    let directory = tempfile::tempdir().expect("a directory");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    let made = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &authority).expect("signed");
        (certificate, key)
    };
    let ((server, server_key), (client, client_key)) = (made("logs.test"), made("tailwater.test"));
    let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text).expect("written");
    write("ca.pem", authority.pem());
    write("client.pem", client.pem());
    write("client.key", client_key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("an authority");
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().expect("roots");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)
        .expect("they belong together");
    Certificates { directory, server: Arc::new(server) }
}

#[test]
fn both_sides_authenticate_over_tls() {
    let Certificates { directory, server } = certificates();
    let server = Server::start_with(Some(server), |_, _| status(200));
    let file = |name: &str| directory.path().join(name).display().to_string();
    let url = format!("https://127.0.0.1:{}", server.port);
    let full = json!({
        "ca_file": file("ca.pem"), "cert_file": file("client.pem"), "key_file": file("client.key"), "server_name": "logs.test",
    });
    let with = |change: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>)| {
        let mut tls = full.as_object().expect("a map").clone();
        change(&mut tls);
        deliver(settings(&url, json!({ "tls": tls })), || delivery(&lines(3000), 1), 1)
    };
    assert!(matches!(with(&|_| {})[..], [Outcome::Delivered]), "{:?}", with(&|_| {}));
    assert_eq!(server.seen()[0].text(), lines(3000).concat());
    let known = server.seen().len();
    let wrong_name = with(&|tls| drop(tls.insert("server_name".into(), "other.test".into())));
    assert!(retry(&wrong_name[0]).0.contains("certificate"), "{wrong_name:?}");
    let unknown_authority = with(&|tls| drop(tls.insert("ca_file".into(), file("client.pem").into())));
    assert!(!matches!(unknown_authority[..], [Outcome::Delivered]), "{unknown_authority:?}");
    let nobody = with(&|tls| {
        tls.remove("cert_file");
        tls.remove("key_file");
    });
    assert!(matches!(nobody[..], [Outcome::Retry { .. }]), "{nobody:?}");
    let no_file = with(&|tls| drop(tls.insert("ca_file".into(), "/no/such/file".into())));
    assert!(matches!(&no_file[..], [Outcome::Reopen(error)] if error.contains("/no/such/file")), "{no_file:?}");
    assert_eq!(server.seen().len(), known, "only the first was let in");
}

#[test]
fn invalid_settings_are_rejected_without_showing_secrets() {
    let refused = |url: &str, more: serde_json::Value| settings(url, more).check().remove(0);
    assert_eq!(refused("ftp://x", json!({})).key, "url");
    let mistake = refused("http://u:hush@x", json!({}));
    assert!(!format!("{mistake:?}").contains("hush"));
    assert_eq!(refused("http://x", json!({ "tls": {} })).key, "tls");
    assert_eq!(refused("https://x", json!({ "tls": { "cert_file": "/c" } })).key, "tls.key_file");
    assert_eq!(refused("http://x", json!({ "concurrency": 0 })).key, "concurrency");
    assert_eq!(refused("http://x", json!({ "request_bytes": 0 })).key, "request_bytes");
    assert_eq!(refused("http://x", json!({ "timeout": "0s" })).key, "timeout");
    assert_eq!(refused("http://x", json!({ "headers": { "a b": "x" } })).key, "headers.a b");
    let mistake = refused("http://x", json!({ "headers": { "x-key": "hush\n" } }));
    assert!(mistake.key == "headers.x-key" && !format!("{mistake:?}").contains("hush"));
    let shown =
        format!("{:?}", settings("http://x", json!({ "headers": { "x-key": "hush" }, "auth": { "bearer": "hush" } })));
    assert!(!shown.contains("hush"), "{shown}");
}
