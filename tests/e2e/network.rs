//! Outputs over the network whose server is unreachable and comes back: what is reported, and what arrives.

use crate::case::Case;
use crate::lines::block;
use crate::metrics;
use crate::product::{Product, run_to_end, text};
use crate::wait::wait_for;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tailwater_services::ports::free_port;

/// The response to the request with this number and head; none to accept its body.
type Refusal = fn(usize, &str) -> Option<String>;

/// A server that accepts everything that it does not refuse.
pub struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub fn start(port: u16) -> Sink {
        Sink::refusing(port, |_, _| None)
    }

    fn refusing(port: u16, refusal: Refusal) -> Sink {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let (all, requests) = (taken.clone(), Arc::new(AtomicUsize::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, requests) = (all.clone(), requests.clone());
                std::thread::spawn(move || serve(stream, &all, &requests, refusal));
            }
        });
        Sink(taken)
    }

    pub fn lines(&self) -> usize {
        memchr::memchr_iter(b'\n', &self.0.lock().expect("no panic")).count()
    }
}

fn serve(stream: TcpStream, taken: &Mutex<Vec<u8>>, requests: &AtomicUsize, refusal: Refusal) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut line, mut head) = (0, String::new(), String::new());
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
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if let Some(response) = refusal(requests.fetch_add(1, Ordering::Relaxed), &head) {
            stream.get_mut().write_all(response.as_bytes())?;
            continue;
        }
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

/// The server names a time that no number of 64 bits can hold.
#[test]
fn server_is_not_waited_for_longer_than_configured() {
    let case = Case::new("retry-after");
    let port = free_port();
    let sink = Sink::refusing(port, |number, _| {
        let wait = "retry-after: 99999999999999999999999";
        (number == 0).then(|| format!("HTTP/1.1 503 Busy\r\n{wait}\r\ncontent-length: 0\r\n\r\n"))
    });
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/*.log").display());
    let retry = "{initial: 50ms, max: 200ms, max_retry_after: 1s}";
    let config =
        case.configure(&input, &format!("{{type: http, url: \"http://127.0.0.1:{port}/in\", retry: {retry}}}"));
    case.write("logs/app.log", &block(1, 500));
    let mut product = Product::start(&case, &config);
    product.expect("503");
    product.wait_for_log(&["503", "next_attempt_ms\":1000"]);
    wait_for("all lines", || match sink.lines() {
        500 => Ok(()),
        now => Err(format!("{now} lines; {}", product.state())),
    });
    product.terminate();
}

/// Its answer would turn around what a terminal shows, and clear it.
#[test]
fn answer_of_a_server_steers_no_terminal_that_shows_readiness() {
    let case = Case::new("steering-answer");
    let port = free_port();
    static IS_WELL: AtomicBool = AtomicBool::new(false);
    let sink = Sink::refusing(port, |_, _| {
        if IS_WELL.load(Ordering::Relaxed) {
            return None;
        }
        let answer = "fine\u{202e}dab\u{2066}\u{9b}2J\u{1b}[2Jend";
        Some(format!("HTTP/1.1 503 Busy\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()))
    });
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/*.log").display());
    let output = format!("{{type: http, url: \"http://127.0.0.1:{port}/\", retry: {{initial: 50ms, max: 200ms}}}}");
    let config = case.configure(&input, &output);
    case.write("logs/app.log", &block(1, 1));
    let mut product = Product::start(&case, &config);
    ["503", "suppressed"].into_iter().for_each(|part| product.expect(part));
    let shown = wait_for("trouble in /readyz", || match metrics::get(case.admin_port, "/readyz")? {
        (200, body) if body.contains("HTTP 503") => Ok(body),
        other => Err(format!("{other:?}")),
    });
    assert!(shown.contains("fine\\u{202e}dab\\u{2066}") && shown.contains("end"), "{shown:?}");
    let steers = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{2069}').contains(&c);
    assert!(!shown.contains(steers), "{shown:?}");
    IS_WELL.store(true, Ordering::Relaxed);
    wait_for("the line", || match sink.lines() {
        1 => Ok(()),
        now => Err(format!("{now} lines; {}", product.state())),
    });
    product.terminate();
}

#[test]
fn no_log_probe_or_dead_letter_holds_a_secret_that_the_server_repeats() {
    let case = Case::new("repeated-secret");
    let port = free_port();
    static REJECTS: AtomicBool = AtomicBool::new(false);
    let _sink = Sink::refusing(port, |_, head| {
        let status = if REJECTS.load(Ordering::Relaxed) { "400 Bad Request" } else { "503 Busy" };
        Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{head}", head.len()))
    });
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/*.log").display());
    let output = format!(
        "{{type: http, url: \"http://127.0.0.1:{port}/in?token=hush-query\", auth: {{bearer: hush-bearer}}, retry: {{initial: 50ms, max: 200ms}}}}"
    );
    let config = case.configure(&input, &output);
    case.write("logs/app.log", &block(1, 1));
    let mut product = Product::start(&case, &config);
    ["503", "400", "dead letter"].into_iter().for_each(|part| product.expect(part));
    let failing = wait_for("trouble in /readyz", || match metrics::get(case.admin_port, "/readyz")? {
        (200, body) if body.contains("output out: failing since ") => Ok(body),
        other => Err(format!("{other:?}")),
    });
    REJECTS.store(true, Ordering::Relaxed);
    let list = || text(&run_to_end(&["dlq", "cat", "-c", config.to_str().expect("UTF-8")]).stdout);
    let letters = wait_for("a dead letter", || match list() {
        letters if letters.contains("HTTP 400") => Ok(letters),
        other => Err(format!("{other}; {}", product.state())),
    });
    let log = product.log();
    for text in [&failing, &letters, &log] {
        assert!(!text.contains("hush"), "{text}");
    }
    assert!(letters.contains("***") && log.contains("***"), "it was repeated: {letters}; {log}");
    product.terminate();
}
