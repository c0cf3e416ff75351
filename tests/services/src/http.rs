//! A blocking HTTP/1.1 client for tests: one request per connection; bodies by length, chunked, or to the end.
//!
//! It reports exactly what was received and retries nothing: a test decides what an error means.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Maximum wait for a byte of a response: a server on a busy machine may be slow without being dead.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum size of a response, so that a broken server fails a test and not the machine.
const RESPONSE_BYTES_MAX: u64 = 256 << 20;

/// Where to send, and the headers of each request.
#[derive(Debug, Clone)]
pub struct Client {
    port: u16,
    pub headers: Vec<(String, String)>,
}

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// Names in lowercase.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Client {
    /// A client of 127.0.0.1.
    pub fn new(port: u16) -> Client {
        Client { port, headers: Vec::new() }
    }

    pub fn get(&self, path: &str) -> Result<Response, String> {
        self.send("GET", path, "", b"")
    }

    /// Sends a JSON body.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Result<Response, String> {
        self.send(method, path, "application/json", body.to_string().as_bytes())
    }

    /// Sends a request; if `content_type` is empty, the header is omitted.
    pub fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Response, String> {
        let what = |error: std::io::Error| format!("{method} 127.0.0.1:{}{path}: {error}", self.port);
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        if !content_type.is_empty() {
            head.push_str(&format!("Content-Type: {content_type}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(what)?;
        stream.set_read_timeout(Some(READ_TIMEOUT)).map_err(what)?;
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        let mut bytes = Vec::new();
        let read = stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut bytes);
        // A server may reject a request before it has read everything: then that is the response.
        if bytes.is_empty() {
            sent.map_err(what)?;
            read.map_err(what)?;
        }
        parse(&bytes).map_err(|error| format!("{method} 127.0.0.1:{}{path}: {error}", self.port))
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn value(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("{error} in {:?}", self.text()))
    }

    /// The body as JSON if the status is a success.
    pub fn success(&self) -> Result<Value, String> {
        if (200..300).contains(&self.status) { self.value() } else { Err(format!("{}: {}", self.status, self.text())) }
    }
}

fn parse(bytes: &[u8]) -> Result<Response, String> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| format!("no response: {:?}", String::from_utf8_lossy(bytes)))?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("no status: {head:?}"))?;
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let mut response = Response { status, headers: lines.filter_map(header).collect(), body: Vec::new() };
    let rest = &bytes[end + 4..];
    response.body = if response.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        joined(rest)?
    } else if let Some(length) = response.header("content-length") {
        let length = length.parse::<usize>().map_err(|error| format!("content-length {length:?}: {error}"))?;
        rest.get(..length).ok_or_else(|| format!("{} of {length} bytes of the body", rest.len()))?.to_vec()
    } else {
        rest.to_vec()
    };
    Ok(response)
}

/// The body of a chunked response; a truncated one is an error.
fn joined(mut rest: &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").ok_or("a chunk without its size")?;
        let size = String::from_utf8_lossy(&rest[..end]).into_owned();
        let size = size.split(';').next().unwrap_or("").trim().to_owned();
        let size = usize::from_str_radix(&size, 16).map_err(|error| format!("chunk of size {size:?}: {error}"))?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = rest.get(end + 2..end + 2 + size).ok_or("a chunk is cut off")?;
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).ok_or("a chunk without its end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_by_length_in_chunks_and_to_the_end() {
        let body = |bytes: &[u8]| parse(bytes).map(|response| response.text());
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab").as_deref(), Ok("ab"));
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n\r\nabc").as_deref(), Ok("abc"));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
        assert_eq!(body(chunked).as_deref(), Ok("abcde"));
    }

    #[test]
    fn truncated_response_is_an_error() {
        for bytes in [
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab".as_slice(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"HTTP/1.1 200",
            b"",
        ] {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
