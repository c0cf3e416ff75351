//! Which requests a server on a private address answers: those that name it by a known host and do not come from a web page.
//!
//! A web page can send requests to any address that the browser reaches. It can read the answers if the browser takes the server
//! for the page's own, which an attacker gets by changing the address of the page's name (DNS rebinding). The request then carries
//! that name in `Host`.
//!
//! Guarantees: hosts are compared as a whole, never by a beginning or an end. A request without a host, with two, or with a URL
//! in its first line is refused. Does not authenticate anyone: a program can send any header.

use hyper::header::{HOST, ORIGIN};
use hyper::{Request, StatusCode, Version};
use std::net::{IpAddr, Ipv6Addr};

/// A host as clients name it, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name in lowercase.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// The longest name of the domain name system.
const NAME_BYTES_MAX: usize = 253;

impl Host {
    /// A host from a configuration. An error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Host, &'static str> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return match address.to_canonical() {
                address if address.is_unspecified() => Err("it stands for any address, not for a host"),
                address => Ok(Host::Address(address)),
            };
        }
        if text.contains("://") {
            return Err("it has a scheme");
        }
        if text.contains('*') {
            return Err("it has a wildcard, which is not supported");
        }
        if text.contains('/') {
            return Err("it has a path or a prefix length");
        }
        if text.contains(['[', ']']) {
            return Err("it has brackets, which only URLs have");
        }
        if text.contains(':') {
            return Err("it has a port");
        }
        name(text).map(Host::Name).ok_or("it is neither a host name nor an address")
    }

    /// The host of a header `Host`: a name or an address, which is in brackets if it has colons, and perhaps a port.
    fn of_header(text: &str) -> Option<Host> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(inside) => {
                let (address, rest) = inside.split_once(']')?;
                (Host::Address(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?).to_canonical()), rest)
            }
            None => {
                let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                let address = host.parse().map(IpAddr::V4).map(Host::Address);
                (address.ok().or_else(|| name(host).map(Host::Name))?, rest)
            }
        };
        match rest.strip_prefix(':') {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok() => Some(host),
            None if rest.is_empty() => Some(host),
            _ => None,
        }
    }

    /// Whether only this host can be meant.
    fn is_local(&self) -> bool {
        match self {
            Host::Name(name) => name == "localhost",
            Host::Address(address) => address.is_loopback(),
        }
    }
}

/// The name in lowercase, if it is one. What ends in a number is another way to write an address.
fn name(text: &str) -> Option<String> {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let last = text.rsplit('.').next()?;
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    let is_name = text.len() <= NAME_BYTES_MAX && text.split('.').all(is_label) && !is_number;
    is_name.then(|| text.to_ascii_lowercase())
}

/// The hosts that a server answers for, in addition to `localhost`, loopback addresses, and the address that the client reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(pub Vec<Host>);

impl Hosts {
    /// Whether to answer a request that came to the address `reached`; otherwise with which status and words to refuse it.
    pub fn check<B>(&self, request: &Request<B>, reached: Option<IpAddr>) -> Result<(), (StatusCode, &'static str)> {
        if request.uri().authority().is_some() || request.uri().scheme().is_some() {
            return Err((StatusCode::BAD_REQUEST, "the request has a URL instead of a path\n"));
        }
        let site = request.headers().get("sec-fetch-site").map(|site| site.as_bytes());
        let is_of_a_page = site.is_some_and(|site| site != b"none" && site != b"same-origin");
        if is_of_a_page || request.headers().contains_key(ORIGIN) {
            return Err((StatusCode::FORBIDDEN, "requests from web pages are not answered\n"));
        }
        let mut hosts = request.headers().get_all(HOST).into_iter();
        let host = match (hosts.next(), hosts.next()) {
            (None, _) if request.version() < Version::HTTP_11 => return Ok(()),
            (None, _) => return Err((StatusCode::BAD_REQUEST, "the request has no header Host\n")),
            (_, Some(_)) => return Err((StatusCode::BAD_REQUEST, "the request has two headers Host\n")),
            (Some(host), None) => host.to_str().ok().and_then(Host::of_header),
        };
        match host {
            None => Err((StatusCode::BAD_REQUEST, "the header Host is invalid\n")),
            Some(host) if host.is_local() || self.0.contains(&host) => Ok(()),
            Some(Host::Address(address)) if reached.is_some_and(|reached| reached.to_canonical() == address) => Ok(()),
            Some(_) => Err((StatusCode::FORBIDDEN, "unknown host in the header Host; add it to admin.hosts\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(hosts: &[&str], headers: &[(&str, &str)], url: &str) -> u16 {
        let hosts = Hosts(hosts.iter().map(|host| Host::parse(host).expect("a host")).collect());
        let mut request = Request::builder().uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reached = "10.1.2.3".parse().ok();
        match hosts.check(&request.body(()).expect("a request"), reached) {
            Ok(()) => 200,
            Err((status, words)) => {
                assert!(words.ends_with('\n'), "{words}");
                status.as_u16()
            }
        }
    }

    #[test]
    fn known_hosts_are_answered() {
        for host in [
            "localhost",
            "LocalHost:9600",
            "127.0.0.1",
            "127.8.9.1:80",
            "[::1]",
            "[::1]:9600",
            "[::ffff:127.0.0.1]:1",
            "10.1.2.3:9600",
            "[::ffff:10.1.2.3]",
            "Logs.example:9600",
            "10.9.9.9",
            "[fd00::1]:9600",
        ] {
            assert_eq!(status(&["logs.EXAMPLE", "10.9.9.9", "fd00::1"], &[("host", host)], "/livez"), 200, "{host}");
        }
    }

    #[test]
    fn unknown_hosts_are_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.evil.example",
            "10.1.2.4",
            "10.1.2.3.nip.io",
            "0.0.0.0",
            "[::]",
            "xlogs.example",
            "logs.example.evil",
            "localhost-",
        ] {
            assert_eq!(status(&["logs.example"], &[("host", host)], "/livez"), 403, "{host}");
        }
        for host in [
            "",
            ":9600",
            "[::1].evil.example",
            "[::1]evil",
            "[::1",
            "[::1%lo]",
            "::1",
            "localhost:",
            "localhost:+80",
            "localhost:65536",
            "localhost:80:80",
            "localhost.",
            "user@localhost",
            "localhost/",
            "localhost, evil.example",
            "localhost evil",
            "127.1",
            "0x7f.0x1",
            "[127.0.0.1]",
        ] {
            assert_eq!(status(&[], &[("host", host)], "/livez"), 400, "{host}");
        }
    }

    #[test]
    fn odd_requests_are_refused() {
        assert_eq!(status(&[], &[], "/livez"), 400, "no host");
        assert_eq!(status(&[], &[("host", "localhost"), ("host", "localhost")], "/livez"), 400, "two");
        assert_eq!(status(&[], &[("host", "localhost")], "http://localhost/livez"), 400, "a URL");
        for origin in ["http://localhost", "http://evil.example", "null", ""] {
            assert_eq!(status(&[], &[("host", "localhost"), ("origin", origin)], "/livez"), 403, "{origin}");
        }
        let site = |site| status(&[], &[("host", "localhost"), ("sec-fetch-site", site)], "/livez");
        assert_eq!(["none", "same-origin", "same-site", "cross-site"].map(site), [200, 200, 403, 403]);
        let mut old = Request::new(());
        *old.version_mut() = Version::HTTP_10;
        assert!(Hosts::default().check(&old, None).is_ok(), "HTTP/1.0 has no such header");
    }

    #[test]
    fn only_plain_hosts_can_be_configured() {
        for (text, part) in [
            ("logs.example:9600", "port"),
            ("http://logs.example", "scheme"),
            ("*.example", "wildcard"),
            ("*", "wildcard"),
            ("10.0.0.0/8", "path"),
            ("[::1]", "brackets"),
            ("", "neither"),
            ("a b", "neither"),
            ("a..b", "neither"),
            ("u@a", "neither"),
            ("127.1", "neither"),
            ("0.0.0.0", "any address"),
            ("::", "any address"),
        ] {
            let error = Host::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(Host::parse("::ffff:10.0.0.1"), Ok(Host::Address([10, 0, 0, 1].into())));
    }
}
