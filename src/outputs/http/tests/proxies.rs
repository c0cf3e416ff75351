//! The output through a proxy: requests with absolute URLs, tunnels for TLS, credentials that are never shown.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

/// A proxy that opens tunnels to one port, whatever it is asked for, or sends a fixed response.
struct Tunnels {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    fn start(target: u16, refusal: Option<&'static str>) -> Tunnels {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let log = heads.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let log = log.clone();
                std::thread::spawn(move || tunnel(client, target, refusal, &log));
            }
        });
        Tunnels { port, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }
}

fn tunnel(mut client: TcpStream, target: u16, refusal: Option<&str>, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    log.lock().expect("no panic").push(String::from_utf8_lossy(&head).replace("\r\n", "\n"));
    if let Some(refusal) = refusal {
        return client.write_all(refusal.as_bytes());
    }
    let server = TcpStream::connect(("127.0.0.1", target))?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n")?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let back = std::thread::spawn(move || std::io::copy(&mut &server, &mut &client));
    std::io::copy(&mut from, &mut to)?;
    back.join().map(drop).map_err(|_| std::io::ErrorKind::Other.into())
}

#[test]
fn request_through_a_proxy_has_the_absolute_url_and_the_proxy_user() {
    let proxy = Server::start(|_, _| status(200));
    let url = format!("http://user:hu%20sh@127.0.0.1:{}", proxy.port);
    let settings = settings("http://logs.invalid:9200/lög?a=b", json!({ "proxy": url }));
    assert!(!format!("{settings:?}").contains("sh@"), "{settings:?}");
    let outcomes = deliver(settings, || delivery(&lines(2), 1), 1);
    assert!(matches!(outcomes[..], [Outcome::Delivered]), "{outcomes:?}");
    let seen = &proxy.seen()[0];
    assert!(seen.head.starts_with("POST http://logs.invalid:9200/l%C3%B6g?a=b HTTP/1.1\n"), "{}", seen.head);
    assert_eq!(seen.header("host"), Some("logs.invalid:9200"));
    assert_eq!(seen.header("proxy-authorization"), Some("Basic dXNlcjpodSBzaA=="));
    assert_eq!(seen.text(), lines(2).concat());
}

#[test]
fn secure_endpoint_is_reached_through_a_tunnel_and_is_verified() {
    let Certificates { directory, server } = certificates();
    let server = Server::start_with(Some(server), |_, _| status(200));
    let proxy = Tunnels::start(server.port, None);
    let file = |name: &str| directory.path().join(name).display().to_string();
    let tls = json!({ "ca_file": file("ca.pem"), "cert_file": file("client.pem"), "key_file": file("client.key") });
    let proxy_url = format!("http://user:hush@127.0.0.1:{}", proxy.port);
    let more = json!({ "tls": tls, "proxy": proxy_url, "auth": { "bearer": "token" } });
    let outcomes = deliver(settings("https://logs.test:443/in", more), || delivery(&lines(3000), 1), 1);
    assert!(matches!(outcomes[..], [Outcome::Delivered]), "{outcomes:?}");
    assert_eq!(
        proxy.heads(),
        ["CONNECT logs.test:443 HTTP/1.1\nHost: logs.test:443\nProxy-Authorization: Basic dXNlcjpodXNo\n\n"]
    );
    let seen = &server.seen()[0];
    assert!(
        seen.head.starts_with("POST /in HTTP/1.1\n") && !seen.head.contains("proxy-authorization"),
        "{}",
        seen.head
    );
    assert_eq!(seen.text(), lines(3000).concat());
}

#[test]
fn proxy_that_refuses_is_an_error_that_loses_nothing() {
    for (refusal, word) in [
        ("HTTP/1.1 407 Who are you\r\n\r\n", "`proxy`"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "cannot open a tunnel"),
        ("SSH-2.0-x\r\n\r\n", "SSH-2.0-x"),
        ("", "closed the connection"),
    ] {
        let proxy = Tunnels::start(0, Some(refusal));
        let more = json!({ "proxy": format!("http://u:hush@127.0.0.1:{}", proxy.port) });
        let outcomes = deliver(settings("https://logs.invalid", more), || delivery(&lines(1), 1), 1);
        let (error, _) = retry(&outcomes[0]);
        assert!(error.contains(word) && error.contains("https://logs.invalid:443 through the proxy"), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
    let endless = Tunnels::start(0, Some(Box::leak(format!("HTTP/1.1 200 {}", "x".repeat(100_000)).into_boxed_str())));
    let more = json!({ "proxy": format!("127.0.0.1:{}", endless.port) });
    let outcomes = deliver(settings("https://logs.invalid", more), || delivery(&lines(1), 1), 1);
    assert!(matches!(outcomes[..], [Outcome::Retry { .. }]), "{outcomes:?}");
}

#[test]
fn no_message_quotes_the_password_that_a_proxy_repeats() {
    let proxy = Server::start(|_, seen| Act::Send(answer(503, "", seen.head.as_bytes())));
    let more = json!({ "proxy": format!("http://u:hush-hush@127.0.0.1:{}", proxy.port) });
    let outcomes = deliver(settings("http://logs.invalid:9200/", more), || delivery(&lines(1), 1), 1);
    let (error, _) = retry(&outcomes[0]);
    assert!(error.contains("proxy-authorization: ***"), "{error}");
    // Base64 of `u:hush-hush`.
    assert!(!error.contains("dTpodXNoLWh1c2g"), "{error}");

    let tunnels = Tunnels::start(0, Some("Basic dTpodXNoLWh1c2g=\r\n\r\n"));
    let more = json!({ "proxy": format!("http://u:hush-hush@127.0.0.1:{}", tunnels.port) });
    let outcomes = deliver(settings("https://logs.invalid", more), || delivery(&lines(1), 1), 1);
    let (error, _) = retry(&outcomes[0]);
    assert!(error.contains("***") && !error.contains("dTpodXNoLWh1c2g"), "{error}");
}

/// What a proxy repeats is searched before it is cut and before its characters are replaced.
#[test]
fn no_message_quotes_a_secret_that_a_proxy_repeats_at_the_cut_or_with_other_letters() {
    let error = |refusal: String| {
        let tunnels = Tunnels::start(0, Some(Box::leak(refusal.into_boxed_str())));
        let more =
            json!({ "proxy": format!("http://127.0.0.1:{}", tunnels.port), "auth": { "bearer": "hush-hush-hush" } });
        let url = "https://logs.invalid/in?key=schl%C3%BCssel-geheim";
        retry(&deliver(settings(url, more), || delivery(&lines(1), 1), 1)[0]).0
    };
    for before in 70..100 {
        let error = error(format!("HTTP/1.1 503 {} hush-hush-hush and more\r\n\r\n", "x".repeat(before)));
        assert!(error.contains('…'), "{error}");
        assert!(!error.contains("hu"), "{error}");
    }
    let error = error("HTTP/1.1 503 schlüssel-geheim\x07 \x1b[31mred\r\n\r\n".to_owned());
    assert!(error.contains("503 *** [31mred") && !error.contains("geheim"), "{error}");
}

#[test]
fn invalid_proxies_are_rejected_without_showing_secrets() {
    for proxy in ["socks5://u:hush@p", "https://u:hush@p", "http://u:hush@p:0", "http://u:hu%sh@p"] {
        let mistake = settings("http://x", json!({ "proxy": proxy })).check().remove(0);
        assert!(mistake.key == "proxy" && !format!("{mistake:?}").contains("hush"), "{mistake:?}");
    }
    assert!(settings("http://x", json!({ "proxy": "none" })).check().is_empty());
}
