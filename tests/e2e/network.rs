//! Outputs over the network whose server is unreachable and comes back: what is reported, and what arrives.

use crate::case::{Case, free_port};
use crate::lines::block;
use crate::metrics;
use crate::product::Product;
use crate::wait::wait_for;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A server that accepts everything.
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn start(port: u16) -> Sink {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let all = taken.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let all = all.clone();
                std::thread::spawn(move || serve(stream, &all));
            }
        });
        Sink(taken)
    }

    fn lines(&self) -> usize {
        memchr::memchr_iter(b'\n', &self.0.lock().expect("no panic")).count()
    }
}

fn serve(stream: TcpStream, taken: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        taken.lock().expect("no panic").extend(body);
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

#[test]
fn failing_output_reports_since_when_what_waits_and_the_recovery() {
    let case = Case::new("network");
    let port = free_port();
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/*.log").display());
    let output = format!("{{type: http, url: \"http://127.0.0.1:{port}/in\", retry: {{initial: 50ms, max: 200ms}}}}");
    let config = case.configure(&input, &output);
    case.write("logs/app.log", &block(1, 500));
    let mut product = Product::start(&case, &config);
    product.expect("refused");
    product.wait_for_log(&["refused", "POST with 500 events", "waiting_events\":500", "next_attempt_ms"]);
    let failing = wait_for("trouble in /readyz", || match metrics::get(case.admin_port, "/readyz")? {
        (200, body) if body.contains("output out: failing since ") => Ok(body),
        other => Err(format!("{other:?}")),
    });
    assert!(failing.starts_with("ok\n") && failing.contains("attempts, the last: http://127.0.0.1"), "{failing}");
    assert!(!failing.contains("/in"), "what a path holds is nobody's: {failing}");
    let sink = Sink::start(port);
    wait_for("all lines", || match sink.lines() {
        500 => Ok(()),
        now => Err(format!("{now} lines; {}", product.state())),
    });
    product.wait_for_log(&["delivers again", "failed_attempts", "failed_for_ms", "waiting_events\":500"]);
    wait_for("an output that is well", || match metrics::get(case.admin_port, "/readyz")? {
        (200, body) if body == "ok\noutput out: ok\n" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    product.terminate();
}
