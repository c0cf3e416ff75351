//! Responses that no server should send: bombs, endless responses, nonsense. The product's memory and time stay limited, the
//! meaning of the responses is defined, and when the server works again, everything arrives.

use crate::case::Case;
use crate::lines::{Arrived, block};
use crate::scene::{Scene, from_file, to_index};
use crate::server::{Plan, Server};
use crate::wait::wait_for;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const LINES: u64 = 2_000;
/// Number of hostile responses before the normal ones.
const EVIL: usize = 3;
/// Maximum memory of the product, including pages of its WAL.
const MEMORY_BYTES_MAX: u64 = 96 << 20;
/// Maximum time of a request in these scenes.
const TIMEOUT_SECONDS: u32 = 2;

type Saying = fn(&mut TcpStream, usize) -> io::Result<()>;

/// What must be in the product's log, and how the server responds to a request with this many events.
const SAYINGS: [(&str, Saying); 16] = [
    ("when it is decompressed", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n")?;
        let mut bomb = GzEncoder::new(stream, Compression::fast());
        forever(|| bomb.write_all(&[0; 1 << 16]))
    }),
    ("larger than", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(1 << 16));
        forever(|| stream.write_all(chunk.as_bytes()))
    }),
    ("larger than", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 67108900\r\n\r\n")?;
        stream.write_all(b"{\"errors\":true,\"items\":[{\"index\":{\"status\":400,\"error\":{\"reason\":\"")?;
        (0..1024).try_for_each(|_| stream.write_all(&[b'r'; 1 << 16]))
    }),
    ("items, but the request had", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n")?;
        let mut body = GzEncoder::new(stream, Compression::best());
        body.write_all(b"{\"errors\":true,\"items\":[")?;
        body.write_all(&b"{\"a\":{\"status\":4}},".repeat(800_000))?;
        body.write_all(b"{\"a\":{\"status\":4}}]}")?;
        body.finish().map(drop)
    }),
    ("no answer within", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")?;
        forever(|| {
            crate::wait::pause(Duration::from_millis(100));
            stream.write_all(b" ")
        })
    }),
    ("no answer within", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
        forever(|| {
            crate::wait::pause(Duration::from_millis(100));
            stream.write_all(b"x")
        })
    }),
    ("interim answers", |stream, _| forever(|| stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n"))),
    ("interim answers", |stream, _| {
        let head = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "x".repeat(30_000));
        forever(|| stream.write_all(head.as_bytes()))
    }),
    ("the answer is incomplete", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;")?;
        forever(|| stream.write_all(&[b'x'; 1 << 10]))
    }),
    ("the answer is incomplete", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")?;
        forever(|| stream.write_all(b"x: y\r\n"))
    }),
    ("too large", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
        forever(|| stream.write_all(&[b'x'; 1 << 16]))
    }),
    ("too large", |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        forever(|| stream.write_all(b"x: y\r\n"))
    }),
    ("invalid HTTP", |stream, _| stream.write_all(b"\x00\xff 42 OK\r\n\r\n{\"errors\":false,\"items\":[]}")),
    ("the response covers 0 events", |stream, _| say(stream, "{\"errors\":true}")),
    ("not a response to a bulk request", |stream, events| {
        let items = vec!["{\"index\":{\"error\":{}}}"; events].join(",");
        say(stream, &format!("{{\"errors\":true,\"items\":[{items}]}}"))
    }),
    ("not a response to a bulk request", |stream, _| {
        say(
            stream,
            &format!("{{\"errors\":true,\"items\":[{{\"index\":{{\"status\":400,\"error\":{}", "[".repeat(1 << 20)),
        )
    }),
];

fn forever(mut step: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        step()?;
    }
}

fn say(stream: &mut TcpStream, body: &str) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The peak resident memory of a process.
fn memory_bytes_max(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

fn scene(name: &str, server: &Server, more: &str) -> Scene {
    let case = Case::new(name);
    let input = from_file(&case, "");
    let more = format!(", timeout: {TIMEOUT_SECONDS}s{more}");
    let scene = Scene::new(case, &input, &[("out", to_index(&server.url(), "hostile", &more))]);
    fs::write(scene.log(), block(1, LINES)).expect("lines");
    scene
}

/// Runs until all events have left the WAL in one way or another, and checks the memory and time it took.
fn run(scene: &Scene, warnings: &[&'static str], sent: u64, rejected: u64) -> String {
    let mut product = scene.start_expecting(warnings);
    let begun = Instant::now();
    wait_for("events that left", || match (scene.sent("out")?, scene.dead_letters("out", "rejected")?) {
        left if left == (sent, rejected) => Ok(()),
        left => Err(format!("{left:?}; {}", product.state())),
    });
    let took = begun.elapsed();
    scene.assert_balance(&mut product);
    let memory_bytes = memory_bytes_max(product.id());
    let log = product.log();
    product.terminate();
    println!("{warnings:?}: {took:?}, {} MiB", memory_bytes >> 20);
    assert!(memory_bytes < MEMORY_BYTES_MAX, "{} MiB for {warnings:?}", memory_bytes >> 20);
    assert!(took < Duration::from_secs(30), "{took:?} for {warnings:?}");
    log
}

#[test]
fn invalid_responses_cost_little_and_lose_nothing() {
    for (warning, saying) in SAYINGS {
        let server = Server::start(move |number, _| if number < EVIL { Plan::Say(saying) } else { Plan::Take });
        let scene = scene("hostile", &server, "");
        // Halves follow at once, over a connection that the server may be about to close.
        let log = run(&scene, &[warning, "error writing a body to connection", "connection error"], LINES, 0);
        assert!(log.contains(warning), "{warning} is not in {log}");
        assert!(log.lines().all(|line| line.len() < 4096), "a server fills the log");
        Arrived::of(LINES, server.taken().into_iter()).assert_exactly_once();
    }
}

#[test]
fn rejections_without_a_reason_or_with_a_huge_one_reject_their_events() {
    let bare: Saying = |stream, events| {
        let items = vec!["{\"index\":{\"status\":400}}"; events].join(",");
        say(stream, &format!("{{\"errors\":true,\"items\":[{items}]}}"))
    };
    let huge: Saying = |stream, events| {
        let mut items = vec!["{\"index\":{\"status\":201}}".to_owned(); events];
        let reason = "r".repeat(12 << 20);
        items[0] = format!("{{\"index\":{{\"status\":400,\"error\":{{\"type\":\"huge\",\"reason\":\"{reason}\"}}}}}}");
        say(stream, &format!("{{\"errors\":true,\"items\":[{}]}}", items.join(",")))
    };
    // Small to send, and large for a client that keeps it as a tree.
    let bushy: Saying = |stream, events| {
        let mut items = vec!["{\"index\":{\"status\":201}}".to_owned(); events];
        let leaf = "{\"\":0},".repeat(2 << 20);
        items[0] =
            format!("{{\"index\":{{\"status\":400,\"error\":{{\"type\":\"bushy\",\"root_cause\":[{leaf}0]}}}}}}");
        say(stream, &format!("{{\"errors\":true,\"items\":[{}]}}", items.join(",")))
    };
    let all = "moved to the dead letter queue; the first: status 400";
    for (warning, saying, rejected) in
        [(all, bare, LINES), ("status 400, huge, rrr", huge, 1), ("status 400, bushy", bushy, 1)]
    {
        let server = Server::start(move |_, _| Plan::Say(saying));
        // All events in one request.
        let scene = scene("refusals", &server, ", batch: {max_age: 1s}");
        let log = run(&scene, &[warning], LINES - rejected, rejected);
        assert!(log.lines().all(|line| line.len() < 4096), "a server fills the log");
    }
}

#[test]
fn server_that_resets_instead_of_saying_that_a_request_is_too_large_gets_smaller_ones() {
    let server = Server::start(|_, length| if length > 100_000 { Plan::Reset } else { Plan::Take });
    let scene = scene("resets", &server, "");
    let log = run(&scene, &["error", "connection"], LINES, 0);
    assert!(log.contains("using smaller requests"), "{log}");
    Arrived::of(LINES, server.taken().into_iter()).assert_exactly_once();
}
