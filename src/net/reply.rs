//! The answer of a server: status, `Retry-After`, and a body of limited size.
//!
//! Guarantees: a body never uses more memory than the caller allows, compressed or decompressed; one that would grow beyond it
//! is rejected. Decompression goes in steps: a few bytes can stand for a thousand times as many. Does not know what a status
//! means for events.

use super::secrets::Secrets;
use flate2::write::GzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderMap, RETRY_AFTER};
use hyper::{Response, StatusCode};
use std::io::{self, Write};
use std::time::Duration;
use tailwater_shards::env::Timestamp;

/// The largest body in bytes that a caller allows, both as received and decompressed.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// Compressed bytes between two pauses: they become at most 1 MiB.
const STEP_BYTES: usize = 1024;

/// The most bytes of a body that are shown.
const SHOWN_BYTES: usize = 300;

/// A complete answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// How long the server asks the client to wait.
    pub retry_after: Option<Duration>,
    /// The body, decompressed.
    pub body: Vec<u8>,
    /// What is not shown of it.
    pub secrets: Secrets,
}

impl Reply {
    /// Status and the first bytes of the body, on one line and without secrets, for messages.
    pub fn shown(&self) -> String {
        match self.secrets.excerpt(&self.body, SHOWN_BYTES) {
            text if text.is_empty() => format!("HTTP {}", self.status),
            text => format!("HTTP {}: {text}", self.status),
        }
    }
}

/// How an answer is read.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// A date in `Retry-After` is relative to this.
    pub now: Timestamp,
    /// The longest body.
    pub bytes_max: usize,
    /// What is not shown of it.
    pub secrets: &'a Secrets,
}

/// Why a body was rejected.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection failed before the body was complete.
    #[error("the answer is incomplete: {0}")]
    Broken(#[from] hyper::Error),
    /// Larger than the limit.
    #[error("the body of the answer (HTTP {0}) is larger than {1} bytes, more than its request can need")]
    TooLarge(StatusCode, usize),
    /// Larger than the limit when decompressed.
    #[error(
        "the compressed body of the answer (HTTP {0}) is larger than {1} bytes when it is decompressed, more than its request \
         can need"
    )]
    Bomb(StatusCode, usize),
    /// Compressed with a method that was not offered.
    #[error("the body of the answer (HTTP {0}) is damaged or compressed with an unknown method")]
    Encoding(StatusCode),
}

impl BodyError {
    /// The status of the answer whose body was rejected.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            BodyError::Broken(_) => None,
            BodyError::TooLarge(status, _) | BodyError::Bomb(status, _) | BodyError::Encoding(status) => Some(*status),
        }
    }
}

/// Reads an answer. `breathe` is called between steps.
pub async fn read(
    response: Response<Incoming>,
    reading: Reading<'_>,
    breathe: &impl AsyncFn(),
) -> Result<Reply, BodyError> {
    let Reading { now, bytes_max, secrets } = reading;
    let (head, mut body) = response.into_parts();
    let status = head.status;
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(BodyError::TooLarge(status, bytes_max));
    }
    let mut inflate = Inflate::new(&head.headers, status, bytes_max)?;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame?.into_data() else { continue };
        for step in bytes.chunks(STEP_BYTES) {
            inflate.push(step)?;
            breathe().await;
        }
    }
    let body = inflate.finish()?;
    Ok(Reply { status, retry_after: retry_after(&head.headers, now), body, secrets: secrets.clone() })
}

/// A body that is being read.
struct Inflate {
    status: StatusCode,
    bytes_max: usize,
    taken: usize,
    sink: Sink,
}

enum Sink {
    Plain(Capped),
    Gzip(Box<GzDecoder<Capped>>),
}

/// A buffer that cannot grow beyond its limit.
struct Capped {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inflate {
    fn new(headers: &HeaderMap, status: StatusCode, bytes_max: usize) -> Result<Inflate, BodyError> {
        let capped = Capped { bytes: Vec::new(), bytes_max };
        let sink = match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase()) {
            None => Sink::Plain(capped),
            Some(name) if name == b"identity" => Sink::Plain(capped),
            Some(name) if name == b"gzip" || name == b"x-gzip" => Sink::Gzip(Box::new(GzDecoder::new(capped))),
            Some(_) => return Err(BodyError::Encoding(status)),
        };
        Ok(Inflate { status, bytes_max, taken: 0, sink })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        self.taken += bytes.len();
        if self.taken > self.bytes_max {
            return Err(BodyError::TooLarge(self.status, self.bytes_max));
        }
        let taken = match &mut self.sink {
            Sink::Plain(sink) => sink.write_all(bytes),
            Sink::Gzip(sink) => sink.write_all(bytes),
        };
        taken.map_err(|error| self.failed(&error))
    }

    fn finish(self) -> Result<Vec<u8>, BodyError> {
        let (status, bytes_max) = (self.status, self.bytes_max);
        match self.sink {
            Sink::Plain(sink) => Ok(sink.bytes),
            Sink::Gzip(_) if self.taken == 0 => Ok(Vec::new()),
            Sink::Gzip(sink) => match sink.finish() {
                Ok(sink) => Ok(sink.bytes),
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(BodyError::Bomb(status, bytes_max)),
                Err(_) => Err(BodyError::Encoding(status)),
            },
        }
    }

    fn failed(&self, error: &io::Error) -> BodyError {
        match error.kind() {
            io::ErrorKind::FileTooLarge => BodyError::Bomb(self.status, self.bytes_max),
            _ => BodyError::Encoding(self.status),
        }
    }
}

/// The header `Retry-After`: seconds or a date. The caller limits how long it waits.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        // More seconds than the number can hold.
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Duration::from_secs(u64::MAX))
        }
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            let nanos = date.as_nanosecond() - i128::from(now.0);
            Some(Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use hyper::header::HeaderValue;

    const OK: StatusCode = StatusCode::OK;
    const BYTES_MAX: usize = 4 << 20;

    fn headers(name: hyper::header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn inflated(parts: &[&[u8]]) -> Result<Vec<u8>, BodyError> {
        let mut inflate = Inflate::new(&headers(CONTENT_ENCODING, "gzip"), OK, BYTES_MAX)?;
        for part in parts {
            inflate.push(part)?;
        }
        inflate.finish()
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now = Timestamp(784_111_777 * 1_000_000_000);
        let pause = |text: &'static str| retry_after(&headers(RETRY_AFTER, text), now);
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(pause("Sun, 06 Nov 1994 08:40:37 GMT"), Some(Duration::ZERO));
        assert_eq!(pause("86400"), Some(Duration::from_secs(86_400)));
        assert_eq!(pause("18446744073709551616"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!((pause("soon"), pause(""), pause("-1")), (None, None, None));
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn compressed_body_is_inflated_whatever_its_parts() {
        let bytes = gzip(b"{\"errors\":false}");
        let (head, tail) = bytes.split_at(7);
        assert_eq!(inflated(&[head, tail]).expect("it inflates"), b"{\"errors\":false}");
        assert_eq!(inflated(&[]).expect("nothing"), b"");
        assert!(matches!(inflated(&[head]), Err(BodyError::Encoding(_))));
        assert!(matches!(inflated(&[b"no gzip at all"]), Err(BodyError::Encoding(_))));
        assert!(Inflate::new(&headers(CONTENT_ENCODING, "br"), OK, BYTES_MAX).is_err());
    }

    #[test]
    fn compressed_bomb_is_refused() {
        let bomb = gzip(&vec![0; BYTES_MAX + 1]);
        assert!(bomb.len() < BYTES_MAX / 100);
        assert!(matches!(inflated(&[&bomb]), Err(BodyError::Bomb(_, BYTES_MAX))));
        // Blocks without content, and a name in the header, are as long as they want to be.
        let empty = [&gzip(b"")[..10], &b"\x00\x00\x00\xff\xff".repeat(BYTES_MAX / 5 + 1)].concat();
        let mut name = gzip(b"x");
        name[3] |= 8;
        name.truncate(10);
        name.resize(BYTES_MAX + 1, b'n');
        for endless in [empty, name] {
            assert!(matches!(inflated(&[&endless]), Err(BodyError::TooLarge(_, BYTES_MAX))));
            assert!(inflated(&[&endless[..BYTES_MAX / 2]]).is_err(), "it is cut off");
        }
    }

    #[test]
    fn shown_body_is_short_and_on_one_line() {
        let reply = |status, body| Reply { status, retry_after: None, body, secrets: Secrets::default() };
        let shown = reply(StatusCode::BAD_REQUEST, b"a\n\x1b[31m b".repeat(200)).shown();
        assert!(shown.starts_with("HTTP 400 Bad Request: a [31m ba"), "{shown}");
        assert!(shown.len() < 400 && !shown.contains(char::is_control));
        assert_eq!(reply(OK, Vec::new()).shown(), "HTTP 200 OK");
    }
}
