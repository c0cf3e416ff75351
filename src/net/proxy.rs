//! HTTP proxies: which proxy a connection uses, and how it asks for a tunnel.
//!
//! Guarantees: the user and the password are part of the proxy's URL and are never shown. Environment variables are read as curl
//! and Go read them: lowercase before uppercase, `HTTP_PROXY` not if a web server may have set it from a header, loopback
//! addresses never through a proxy of the environment. The size of an answer to `CONNECT` is limited. Does not support SOCKS, or
//! TLS to the proxy: a variable that asks for these is an error, because connecting without the proxy could be a mistake.

use super::auth::base64;
use super::encode::encode_url;
use super::endpoint::Endpoint;
use super::secrets::Secrets;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use hyper::Uri;
use hyper::header::HeaderValue;
use std::io;
use std::net::IpAddr;

/// The most bytes of an answer to `CONNECT` that are read.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The most bytes of it that are shown.
const SHOWN_BYTES: usize = 100;

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Name or address; an IPv6 address is without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The value of the header `Proxy-Authorization`, if the URL has a user.
    pub authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Parses `http://user:password@host:port`, or `host:port`. An error says what is wrong without showing it.
    pub fn parse(url: &str) -> Result<Proxy, String> {
        let url = url.trim();
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = encode_url(&url).parse().map_err(|error| format!("invalid URL of the proxy: {error}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("TLS to a proxy is not supported: use http://".to_owned()),
            _ => return Err("the URL of an HTTP proxy must begin with http://".to_owned()),
        }
        let authority = uri.authority().ok_or("the URL of the proxy has no host")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("the URL of the proxy has no host".to_owned());
        }
        let port = match authority.port_u16() {
            Some(0) => return Err("the port is not a number from 1 to 65535".to_owned()),
            Some(port) => port,
            None if authority.as_str().ends_with(authority.host()) => 80,
            None => return Err("the port of the proxy is not a number from 1 to 65535".to_owned()),
        };
        let authorization = authority.as_str().rsplit_once('@').map(|(user, _)| basic(user)).transpose()?;
        Ok(Proxy { host: host.to_owned(), port, authorization })
    }

    /// The proxy as it is shown.
    pub fn name(&self) -> String {
        let brackets = if self.host.contains(':') { ["[", "]"] } else { ["", ""] };
        format!("http://{}{}{}:{}", brackets[0], self.host, brackets[1], self.port)
    }

    /// Asks for a tunnel to `endpoint` over a connection to the proxy. An error quotes the proxy, without `secrets`.
    pub async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        endpoint: &Endpoint,
        secrets: &Secrets,
    ) -> io::Result<()> {
        let target = endpoint.target();
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        if let Some(value) = &self.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await?;
        stream.flush().await?;
        let head = read_head(stream).await?;
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        match (words.next(), words.next()) {
            (Some(b"HTTP/1.1" | b"HTTP/1.0"), Some([b'2', _, _])) => Ok(()),
            (Some(b"HTTP/1.1" | b"HTTP/1.0"), Some(b"407")) => {
                Err(io::Error::other("the proxy rejects the user or password (407); check `proxy`"))
            }
            _ => {
                let shown = secrets.excerpt(line, SHOWN_BYTES);
                Err(io::Error::other(format!("the proxy cannot open a tunnel to {target}: {shown}")))
            }
        }
    }
}

/// Reads up to the empty line after the headers. A proxy sends nothing after it until the client sends more.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    loop {
        let length = stream.read(&mut bytes).await?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the proxy closed the connection"));
        }
        // The end may have begun in what came before, which is not searched again.
        let unsearched = head.len().saturating_sub(3);
        head.extend_from_slice(&bytes[..length]);
        let ends = head[unsearched..].windows(4).position(|four| four == b"\r\n\r\n");
        match ends {
            Some(_) => return Ok(head),
            None if head.len() > HEAD_BYTES_MAX => return Err(io::Error::other("the answer of the proxy is too long")),
            None => {}
        }
    }
}

/// The header value for `user:password` from a URL.
fn basic(user: &str) -> Result<HeaderValue, String> {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain = decoded(user)?;
    plain.push(b':');
    plain.extend(decoded(password)?);
    let value = HeaderValue::from_str(&format!("Basic {}", base64(&plain)));
    let mut value = value.map_err(|_| "the user or password of the proxy contains an invalid character".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn decoded(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        out.push(match byte {
            b'%' => match (digit(), digit()) {
                (Some(high), Some(low)) => (high * 16 + low) as u8,
                _ => {
                    return Err("a % in the user or password of the proxy is not followed by two hex digits".to_owned());
                }
            },
            byte => byte,
        });
    }
    Ok(out)
}

/// The proxy that the environment sets for an endpoint. An error names the variable.
pub fn of_environment(endpoint: &Endpoint, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<Proxy>, String> {
    let named = |name: &'static str| lookup(name).filter(|value| !value.trim().is_empty()).map(|value| (name, value));
    // A web server passes the header `Proxy` of a request as HTTP_PROXY to programs that it starts.
    let is_cgi = lookup("REQUEST_METHOD").is_some();
    let own = match endpoint.secure {
        true => named("https_proxy").or_else(|| named("HTTPS_PROXY")),
        false => named("http_proxy").or_else(|| named("HTTP_PROXY").filter(|_| !is_cgi)),
    };
    let Some((name, value)) = own.or_else(|| named("all_proxy")).or_else(|| named("ALL_PROXY")) else {
        return Ok(None);
    };
    let excepted = named("no_proxy").or_else(|| named("NO_PROXY"));
    if endpoint.is_loopback() || excepted.is_some_and(|(_, list)| is_excepted(endpoint, &list)) {
        return Ok(None);
    }
    Proxy::parse(&value).map(Some).map_err(|what| format!("the variable {name}: {what}"))
}

/// Whether a list such as `example.com, 10.0.0.0/8, host:9200, *` contains the endpoint.
fn is_excepted(endpoint: &Endpoint, list: &str) -> bool {
    let host = endpoint.host.to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let address = host.parse::<IpAddr>().ok();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
            _ => (entry.as_str(), None),
        };
        if port.is_some_and(|port| port.parse() != Ok(endpoint.port)) {
            return false;
        }
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if let Some(address) = address {
            return name.parse() == Ok(address) || is_in_block(address, name);
        }
        let name = name.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
        host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
    })
}

/// Whether an address is in a block such as `10.0.0.0/8`.
fn is_in_block(address: IpAddr, block: &str) -> bool {
    let Some((base, bits)) = block.split_once('/') else { return false };
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let same = |one: u128, other: u128, width: u32| bits == 0 || bits <= width && (one ^ other) >> (width - bits) == 0;
    match (address, base) {
        (IpAddr::V4(one), IpAddr::V4(other)) => same(u32::from(one).into(), u32::from(other).into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => same(one.into(), other.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy_for(url: &str, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let endpoint = Endpoint::parse(url).expect("a URL");
        of_environment(&endpoint, &lookup).map(|proxy| proxy.map(|proxy| proxy.name()))
    }

    #[test]
    fn proxy_is_read_and_its_user_is_shown_by_nobody() {
        let proxy = Proxy::parse("http://us%40er:hu%3Ash@proxy.example:3128").expect("a proxy");
        assert_eq!(
            (proxy.host.as_str(), proxy.port, proxy.name().as_str()),
            ("proxy.example", 3128, "http://proxy.example:3128")
        );
        let value = proxy.authorization.clone().expect("a user");
        assert_eq!(value.as_bytes(), format!("Basic {}", base64(b"us@er:hu:sh")).as_bytes());
        assert!(!format!("{proxy:?}").contains("Basic"), "{proxy:?}");
        assert_eq!(Proxy::parse("proxy:8080").expect("a proxy").port, 8080);
        assert_eq!(Proxy::parse("http://[::1]").expect("a proxy").name(), "http://[::1]:80");
        for url in
            ["https://hush@a", "socks5://hush@a", "http://", "http://hush@a:0", "http://hush@a:x", "http://hu%sh@a", ""]
        {
            let error = Proxy::parse(url).expect_err(url);
            assert!(!error.contains("hush") && !error.contains("hu%"), "{error}");
        }
    }

    #[test]
    fn variables_are_read_by_scheme_lowercase_first() {
        let proxies = [("http_proxy", "http://low:1"), ("HTTP_PROXY", "http://up:2"), ("HTTPS_PROXY", "tls:3")];
        let name = |url, variables: &[(&str, &str)]| proxy_for(url, variables).expect("no mistake").unwrap_or_default();
        assert_eq!(name("http://a", &proxies), "http://low:1");
        assert_eq!(name("http://a", &proxies[1..]), "http://up:2");
        assert_eq!(name("https://a", &proxies), "http://tls:3");
        assert_eq!(name("https://a", &[("ALL_PROXY", "all:4")]), "http://all:4");
        assert_eq!(name("http://a", &[("ALL_PROXY", "all:4"), ("http_proxy", " ")]), "http://all:4");
        assert_eq!(name("http://a", &[("HTTP_PROXY", "up:2"), ("REQUEST_METHOD", "GET")]), "", "a header of a request");
        assert_eq!(name("http://a", &[]), "");
        for loopback in ["http://localhost:9200", "http://127.0.0.1", "http://[::1]"] {
            assert_eq!(name(loopback, &proxies), "");
        }
        let error = proxy_for("https://a", &[("ALL_PROXY", "socks5://hush@b")]).expect_err("no HTTP proxy");
        assert!(error.contains("ALL_PROXY") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn exceptions_are_names_addresses_blocks_and_ports() {
        let goes = |url: &str, list: &str| {
            proxy_for(url, &[("ALL_PROXY", "p:1"), ("NO_PROXY", list)]).expect("no mistake").is_none()
        };
        for (url, list) in [
            ("http://a.example", "example"),
            ("http://A.EXAMPLE", "x, .Example"),
            ("http://a.example", "*.example"),
            ("http://example", ".example"),
            ("http://a", "b a"),
            ("http://a:9200", "a:9200"),
            ("http://10.1.2.3", "10.0.0.0/8"),
            ("http://10.1.2.3", "10.1.2.3"),
            ("http://[fd00::1]:9200", "fd00::/8"),
            ("http://[fd00::1]", "[fd00::1]:80"),
            ("http://anything", "*"),
        ] {
            assert!(goes(url, list), "{url} is in {list}");
        }
        for (url, list) in [
            ("http://anexample", "example"),
            ("http://a:9200", "a:9201"),
            ("http://11.1.2.3", "10.0.0.0/8"),
            ("http://10.1.2.3", "10.0.0.0/99"),
            ("http://10.1.2.3", "2.3"),
            ("http://a", ""),
        ] {
            assert!(!goes(url, list), "{url} is not in {list}");
        }
    }
}
