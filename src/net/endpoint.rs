//! Endpoints: the parts of a URL that a client needs.
//!
//! Guarantees: a URL with credentials is rejected. Only scheme, host and port of an endpoint are shown, since paths and queries
//! may contain keys. Characters that are not allowed in a URL are encoded. Does not resolve names.

use super::encode::encode_url;
use hyper::Uri;
use hyper::header::HeaderValue;
use std::fmt;
use std::net::IpAddr;

/// A server and a base path.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it uses TLS.
    pub secure: bool,
    /// Name or address; an IPv6 address is without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The value of the header `Host`.
    pub host_header: HeaderValue,
    /// Path and query for the request line.
    pub path: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Endpoint {
    /// Parses `http://host:port/path?query`. An error says what is wrong without showing the URL.
    pub fn parse(url: &str) -> Result<Endpoint, String> {
        let uri: Uri = encode_url(url).parse().map_err(|error| format!("invalid URL: {error}"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("the URL must begin with http:// or https://".to_owned()),
        };
        let authority = uri.authority().ok_or("the URL has no host")?;
        if authority.as_str().contains('@') {
            return Err("the URL contains a user or a password; put them in `auth`".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("the URL has no host".to_owned());
        }
        let port = match authority.port_u16() {
            Some(0) => return Err("the port is not a number from 1 to 65535".to_owned()),
            Some(port) => port,
            None if authority.as_str() != authority.host() => {
                return Err("the port is not a number from 1 to 65535".to_owned());
            }
            None => [80, 443][usize::from(secure)],
        };
        let host_header = HeaderValue::from_str(authority.as_str()).map_err(|_| "the host is invalid".to_owned())?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Endpoint { secure, host: host.to_owned(), port, host_header, path })
    }

    /// The path without its query and without a trailing slash.
    pub fn base(&self) -> &str {
        self.path.split('?').next().unwrap_or_default().trim_end_matches('/')
    }

    /// Whether it is on this host.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The endpoint as it is shown.
    pub fn name(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.target())
    }

    /// Host and port, as they are passed to a proxy.
    pub fn target(&self) -> String {
        let brackets = if self.host.contains(':') { ["[", "]"] } else { ["", ""] };
        format!("{}{}{}:{}", brackets[0], self.host, brackets[1], self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_url_are_found() {
        let read = |url: &str| Endpoint::parse(url).expect("a URL");
        let one = read("https://logs.example:9243/in/?key=hush");
        assert_eq!((one.secure, one.host.as_str(), one.port), (true, "logs.example", 9243));
        assert_eq!((one.path.as_str(), one.base()), ("/in/?key=hush", "/in"));
        assert_eq!(one.name(), "https://logs.example:9243");
        assert_eq!(format!("{one:?}"), one.name(), "a query may hold a key");
        assert_eq!((read("http://a").port, read("https://a").port), (80, 443));
        assert_eq!((read("http://a").path.as_str(), read("http://a").base()), ("/", ""));
        let six = read("http://[::1]:9200");
        assert_eq!((six.host.as_str(), six.name().as_str()), ("::1", "http://[::1]:9200"));
        assert_eq!(six.host_header, "[::1]:9200");
        let other = read("http://bücher.example/lög");
        assert_eq!((other.host.as_str(), other.path.as_str()), ("xn--bcher-kva.example", "/l%C3%B6g"));
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_shown() {
        for url in [
            "",
            "a:1",
            "/x",
            "ftp://a",
            "http://",
            "http://u:hush@a",
            "http://a:0",
            "http://a:99999",
            "http://a b",
            "http://ü:hush@a",
        ] {
            let error = Endpoint::parse(url).expect_err(url);
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
