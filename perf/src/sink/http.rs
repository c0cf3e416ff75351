//! The part of HTTP/1.1 that senders of events need: persistent connections, bodies by length and in chunks, `Expect:
//! 100-continue`.
//!
//! Compressed bodies are rejected with 415: the scenarios compare programs, not compressors.

use super::bulk;
use super::connection::{MESSAGE_BYTES_MAX, Reader};
use super::{Received, Service};
use std::io::{self, ErrorKind, Write};

/// The relevant parts of a request's head.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Head {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    length: usize,
    chunked: bool,
    encoded: bool,
    expects: bool,
    closes: bool,
}

/// A response with a JSON body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, body: body.into() }
    }
}

impl Head {
    pub(super) fn parse(text: &str) -> Option<Head> {
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let mut head = Head { method: words.next()?.to_owned(), target: words.next()?.to_owned(), ..Head::default() };
        head.closes = words.next()? == "HTTP/1.0";
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim().to_ascii_lowercase();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.parse().ok()?,
                "transfer-encoding" => head.chunked = value.contains("chunked"),
                "content-encoding" => head.encoded = value != "identity",
                "expect" => head.expects = value.starts_with("100-"),
                "connection" => head.closes = value == "close" || head.closes && value != "keep-alive",
                _ => {}
            }
        }
        Some(head)
    }
}

/// Responds to one request after the other until the sender closes.
pub(super) fn serve(mut reader: Reader, service: Service, received: &Received) -> io::Result<()> {
    let mut used = received.account(u64::MAX);
    let (mut joined, mut out) = (Vec::new(), Vec::new());
    loop {
        while reader.unread().is_empty() {
            if reader.fill()? == 0 {
                return Ok(());
            }
        }
        let end = reader.need_until(b"\r\n\r\n")?;
        let head = Head::parse(&String::from_utf8_lossy(&reader.unread()[..end]));
        reader.use_up(end);
        let Some(head) = head else {
            return send(&mut reader, &mut out, "", &Answer::new("400 Bad Request", "{}"));
        };
        if head.expects {
            reader.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if head.length > MESSAGE_BYTES_MAX {
            return send(&mut reader, &mut out, &head.method, &Answer::new("413 Content Too Large", "{}"));
        }
        let answer = if head.chunked {
            join(&mut reader, &mut joined)?;
            answer(&head, &joined, service, received)
        } else {
            reader.need(head.length)?;
            let answer = answer(&head, &reader.unread()[..head.length], service, received);
            reader.use_up(head.length);
            answer
        };
        send(&mut reader, &mut out, &head.method, &answer)?;
        used = received.account(used);
        if head.closes {
            return Ok(());
        }
    }
}

fn answer(head: &Head, body: &[u8], service: Service, received: &Received) -> Answer {
    if head.encoded {
        return Answer::new("415 Unsupported Media Type", "{}");
    }
    match service {
        Service::Bulk => bulk::answer(head, body, received),
        Service::Http | Service::Lines => {
            let events = received.take(body);
            // An array of events has no lines.
            let lines = memchr::memchr_iter(b'\n', body).count() as u64;
            received.strange(lines.saturating_sub(events));
            Answer::new("200 OK", "")
        }
    }
}

fn send(reader: &mut Reader, out: &mut Vec<u8>, method: &str, answer: &Answer) -> io::Result<()> {
    let Answer { status, body } = answer;
    out.clear();
    write!(
        out,
        "HTTP/1.1 {status}\r\nX-elastic-product: Elasticsearch\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    if method != "HEAD" {
        out.extend_from_slice(body);
    }
    reader.stream.write_all(out)
}

/// Joins the chunks of a body.
fn join(reader: &mut Reader, body: &mut Vec<u8>) -> io::Result<()> {
    body.clear();
    loop {
        let end = reader.need_until(b"\r\n")?;
        let size = String::from_utf8_lossy(&reader.unread()[..end]).into_owned();
        let size = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16);
        let size = size.map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
        if size == 0 {
            // Trailers after the last chunk end with an empty line.
            reader.use_up(end);
            while reader.need_until(b"\r\n")? > 2 {
                let end = reader.need_until(b"\r\n")?;
                reader.use_up(end);
            }
            reader.use_up(2);
            return Ok(());
        }
        if body.len() + size > MESSAGE_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        reader.need(end + size + 2)?;
        body.extend_from_slice(&reader.unread()[end..end + size]);
        reader.use_up(end + size + 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Sink;
    use std::io::Read;
    use std::net::TcpStream;

    const EVENT: &str = "{\"event_number\":\"000000000000\"}\n";

    /// Sends everything and closes. Returns everything that came back.
    fn talk(sink: &Sink, bytes: &str) -> String {
        let mut stream = TcpStream::connect(sink.address()).expect("it listens");
        stream.write_all(bytes.as_bytes()).expect("it reads");
        stream.shutdown(std::net::Shutdown::Write).expect("it is open");
        let mut answers = String::new();
        stream.read_to_string(&mut answers).expect("it answers");
        answers
    }

    #[test]
    fn bodies_come_by_length_and_in_chunks_on_one_connection() {
        let sink = Sink::start(Service::Http, 2).expect("a sink");
        let second = EVENT.replace("000\"", "001\"");
        let (head, tail) = second.split_at(10);
        let answers = talk(
            &sink,
            &format!(
                "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{EVENT}POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {:x}\r\n{head}\r\n{:x};x\r\n{tail}\r\n0\r\nTrailer: x\r\n\r\nHEAD / HTTP/1.1\r\n\r\n",
                EVENT.len(),
                head.len(),
                tail.len()
            ),
        );
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
        assert_eq!((sink.events(), sink.verdict()), (2, Ok(())));
        assert_eq!(sink.samples()[&1], second.trim_end().as_bytes());
    }

    #[test]
    fn body_that_waits_for_permission_gets_it() {
        let sink = Sink::start(Service::Bulk, 1).expect("a sink");
        let body = format!("{{\"index\":{{}}}}\n{EVENT}");
        let answers = talk(
            &sink,
            &format!("POST /_bulk HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        );
        assert!(answers.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answers}");
        assert!(
            answers.contains("X-elastic-product: Elasticsearch") && answers.contains("\"status\":201"),
            "{answers}"
        );
        assert_eq!(sink.verdict(), Ok(()));
    }

    #[test]
    fn repeated_missing_and_strange_events_are_seen_and_compressed_ones_refused() {
        let verdict = |body: &str| {
            let sink = Sink::start(Service::Http, 2).expect("a sink");
            talk(&sink, &format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
            sink.verdict().expect_err("something is wrong")
        };
        assert!(verdict(&EVENT.repeat(2)).starts_with("1 events missing, 1 repeated"));
        assert!(verdict(&format!("{EVENT}{{}}\n")).starts_with("1 events missing, 0 repeated, 1 lines without"));
        let sink = Sink::start(Service::Http, 1).expect("a sink");
        let answers = talk(&sink, "POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx");
        assert!(answers.starts_with("HTTP/1.1 415"), "{answers}");
    }

    #[test]
    fn lines_over_tcp_are_counted_and_a_torn_one_is_strange() {
        let sink = Sink::start(Service::Lines, 1).expect("a sink");
        assert_eq!(talk(&sink, EVENT), "");
        assert_eq!(sink.verdict(), Ok(()));
        assert_eq!(talk(&sink, &EVENT[..20]), "");
        assert!(sink.verdict().expect_err("it is torn").contains("1 lines without a number"));
    }
}
