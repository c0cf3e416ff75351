//! The capacity of a sink, measured with a sender that only writes the same bodies repeatedly.
//!
//! The relevant figure is the processor time of the sink per event, because sender and sink may share a processor here. A
//! measured program is limited by the sink only if it sends as many events per second, minus other load on the sink's
//! processor. Each run reports how busy the sink was.

use super::{Service, Sink};
use crate::data::{Kind, Lines};
use crate::measure;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Events per body: a body has about a mebibyte.
const EVENTS_A_BODY: u64 = 3_000;
/// More than a sample keeps.
const BODIES: u64 = 10;
const TAKEN_WITHIN: Duration = Duration::from_secs(20);

/// What was measured for a sink.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    pub service: Service,
    /// Events received per second of its processor time.
    pub events_per_cpu_second: f64,
    /// Events per second of wall time, with the sender running.
    pub events_per_second: f64,
}

impl Capacity {
    /// As text.
    pub fn text(&self) -> String {
        format!(
            "{} sink: receives {:.1} million events per CPU-second ({:.1} million per second with a sender on the same machine)",
            self.service.name(),
            self.events_per_cpu_second / 1e6,
            self.events_per_second / 1e6
        )
    }
}

/// Sends for about `duration`.
pub fn capacity(service: Service, duration: Duration) -> Result<Capacity, String> {
    let fail = |error: std::io::Error| format!("{} sink: {error}", service.name());
    let sink = Sink::start(service, EVENTS_A_BODY * BODIES)?;
    let bodies: Vec<Vec<u8>> = (0..BODIES).map(|body| request(service, body)).collect();
    let mut stream = TcpStream::connect(sink.address()).map_err(fail)?;
    stream.set_nodelay(true).map_err(fail)?;
    let (begun, mut sent) = (Instant::now(), 0);
    let mut answers = vec![0; 1 << 20];
    while begun.elapsed() < duration || sent == 0 {
        for body in &bodies {
            stream.write_all(body).map_err(fail)?;
            sent += EVENTS_A_BODY;
            if service != Service::Lines {
                answer(&mut stream, &mut answers).map_err(fail)?;
            }
        }
    }
    measure::wait_for("the sink", TAKEN_WITHIN, Duration::from_millis(1), || Ok(sink.events() >= sent))?;
    let seconds = begun.elapsed().as_secs_f64();
    if sink.events() != sent {
        return Err(format!("{} sink: it counts {} events out of {sent}", service.name(), sink.events()));
    }
    let busy = sink.busy_seconds();
    if busy <= 0.0 {
        return Err(format!("{} sink: it recorded no CPU time", service.name()));
    }
    let (events_per_cpu_second, events_per_second) = (sent as f64 / busy, sent as f64 / seconds);
    Ok(Capacity { service, events_per_cpu_second, events_per_second })
}

/// The bytes of one request with the events of body number `body`.
fn request(service: Service, body: u64) -> Vec<u8> {
    let mut source = Lines::new(Kind::App, 1, body * EVENTS_A_BODY);
    let mut text = String::new();
    for _ in 0..EVENTS_A_BODY {
        if service == Service::Bulk {
            text.push_str("{\"index\":{\"_index\":\"perf\"}}\n");
        }
        source.append(&mut text);
    }
    let head = format!("POST /_bulk HTTP/1.1\r\nHost: perf\r\nContent-Length: {}\r\n\r\n", text.len());
    if service == Service::Lines { text.into_bytes() } else { (head + &text).into_bytes() }
}

/// Reads one response with a given length.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<()> {
    let mut had = 0;
    loop {
        let length = stream.read(&mut buffer[had..])?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        had += length;
        let Some(end) = memchr::memmem::find(&buffer[..had], b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let body = head.split("content-length:").nth(1).and_then(|rest| rest.split("\r\n").next()?.trim().parse().ok());
        if had >= end + 4 + body.unwrap_or(0) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sink_counts_what_a_sender_sends_and_accounts_for_it() {
        for service in Service::ALL {
            let capacity = capacity(service, Duration::from_millis(20)).expect("it works");
            assert!(capacity.events_per_second > 0.0 && capacity.events_per_cpu_second > 0.0, "{}", capacity.text());
        }
    }
}
