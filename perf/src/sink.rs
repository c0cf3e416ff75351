//! The server at the end of the network scenarios: it receives events, counts them and discards them.
//!
//! Guarantees: each event's number is recorded, so that a missing or repeated event is detected. A sample of the events is kept
//! unchanged. It does as little else as possible: large reads, a vectorized search for the numbers, one thread per connection.
//! It records the processor time that this takes, so that a run in which the sink was the limit is detected
//! ([`Sink::busy_seconds`]). [`capacity`] measures how much it can receive.
//!
//! It is not a general server: it stores nothing, and trusts the lengths that a sender declares, up to a limit.

mod bulk;
mod capacity;
mod connection;
mod http;

pub use capacity::capacity;

use crate::check::Arrival;
use crate::data::{NUMBER_DIGITS, NUMBER_KEY};
use connection::Reader;
use memchr::memmem::Finder;
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One event out of this many is kept unchanged: all of a small run, and so few of a large run that keeping them costs nothing.
/// It is a prime number, so that the sample covers everything that repeats.
pub fn sample_each(lines: u64) -> u64 {
    if lines <= 20_000 { 1 } else { 997 }
}

/// Longer events are not kept: they are many events in one line.
const SAMPLE_BYTES_MAX: usize = 16 << 10;

/// The protocol of a sink.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Service {
    /// Lines over TCP, without any answer.
    Lines,
    /// Any POST or PUT; the body is events.
    Http,
    /// Elasticsearch's bulk requests, and the requests that clients send before the first one.
    Bulk,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 3] = [Service::Lines, Service::Http, Service::Bulk];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Service::Lines => "TCP lines",
            Service::Http => "HTTP",
            Service::Bulk => "bulk",
        }
    }
}

/// What all connections have received.
#[derive(Debug)]
pub(crate) struct Received {
    finder: Finder<'static>,
    seen: Vec<AtomicU8>,
    sample_each: u64,
    events: AtomicU64,
    strange: AtomicU64,
    busy_ns: AtomicU64,
    samples: Mutex<BTreeMap<u64, Vec<u8>>>,
    stopping: AtomicBool,
}

impl Received {
    fn new(lines: u64) -> Received {
        Received {
            finder: Finder::new(NUMBER_KEY.as_bytes()),
            seen: (0..lines).map(|_| AtomicU8::new(0)).collect(),
            sample_each: sample_each(lines),
            events: AtomicU64::new(0),
            strange: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            samples: Mutex::new(BTreeMap::new()),
            stopping: AtomicBool::new(false),
        }
    }

    /// Records the events of whole lines and returns their number. A sink spends most of its time here.
    fn take(&self, bytes: &[u8]) -> u64 {
        let mut events = 0;
        for at in self.finder.find_iter(bytes) {
            events += u64::from(self.note(bytes, at));
        }
        self.events.fetch_add(events, Ordering::Relaxed);
        events
    }

    /// Records the event whose key is at `at`.
    fn note(&self, bytes: &[u8], at: usize) -> bool {
        let Some(number) = number_at(&bytes[at + NUMBER_KEY.len()..]) else { return false };
        let Some(seen) = self.seen.get(number as usize) else { return false };
        // Cannot wrap in practice: nothing repeats an event 255 times.
        seen.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(self.sample_each) {
            let (before, after) = (at.saturating_sub(SAMPLE_BYTES_MAX), bytes.len().min(at + SAMPLE_BYTES_MAX));
            let first = memchr::memrchr(b'\n', &bytes[before..at]).map_or(before, |end| before + end + 1);
            let end = memchr::memchr(b'\n', &bytes[at..after]).map_or(after, |end| at + end);
            if end - first > SAMPLE_BYTES_MAX {
                return true;
            }
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.insert(number, bytes[first..end].to_vec());
        }
        true
    }

    fn strange(&self, count: u64) {
        self.strange.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds what this thread has used since `before` and returns its total.
    fn account(&self, before: u64) -> u64 {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0, |time| time.num_nanoseconds() as u64);
        self.busy_ns.fetch_add(time.saturating_sub(before), Ordering::Relaxed);
        time
    }
}

/// The number after its key, with quotes and escapes between them.
fn number_at(rest: &[u8]) -> Option<u64> {
    let first = rest.iter().take(8).position(u8::is_ascii_digit)?;
    let digits = rest.get(first..first + NUMBER_DIGITS)?;
    digits.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
}

/// A listening sink. It stops when it is dropped. Connections end with their senders.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    received: Arc<Received>,
}

impl Sink {
    /// Starts one for events with numbers below `lines`.
    pub fn start(service: Service, lines: u64) -> Result<Sink, String> {
        let fail = |error: std::io::Error| format!("{} sink: {error}", service.name());
        let listener = TcpListener::bind("127.0.0.1:0").map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let received = Arc::new(Received::new(lines));
        let shared = Arc::clone(&received);
        std::thread::Builder::new().spawn(move || accept(&listener, service, &shared)).map_err(fail)?;
        Ok(Sink { address, received })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Events received, including repeated ones.
    pub fn events(&self) -> u64 {
        self.received.events.load(Ordering::Relaxed)
    }

    /// Processor time of its connections so far.
    pub fn busy_seconds(&self) -> f64 {
        self.received.busy_ns.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Whether each event arrived exactly once.
    pub fn verdict(&self) -> Result<(), String> {
        let seen = self.received.seen.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Arrival::of(seen, self.received.strange.load(Ordering::Relaxed)).verdict()
    }

    /// The sampled events, unchanged, by number.
    pub fn samples(&self) -> BTreeMap<u64, Vec<u8>> {
        self.received.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.received.stopping.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, if it still exists.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, service: Service, received: &Arc<Received>) {
    for stream in listener.incoming().flatten() {
        if received.stopping.load(Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(received);
        // Responses are small, and the sender waits for each one.
        let _ = stream.set_nodelay(true);
        let serve = move || {
            let reader = Reader::new(stream);
            // If a sender disconnects in the middle, events are missing, which the verdict reports.
            let _ = match service {
                Service::Lines => connection::lines(reader, &shared),
                Service::Http | Service::Bulk => http::serve(reader, service, &shared),
            };
        };
        if std::thread::Builder::new().spawn(serve).is_err() {
            // The sender sees its connection close.
            received.strange(1);
        }
    }
}
