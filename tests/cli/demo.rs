//! `demo`: nothing is lost over a rotation, and a server gets the events.

use crate::{bytes_below, command, text};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tailwater_services::opensearch::OpenSearch;

fn demo(arguments: &[&str]) -> (Output, String) {
    let temporary = tempfile::tempdir().expect("a directory");
    let all: Vec<&str> = ["demo"].into_iter().chain(arguments.iter().copied()).collect();
    let output = command(&all).env("TMPDIR", temporary.path()).output().expect("the binary runs");
    assert_eq!(bytes_below(temporary.path()), [], "nothing is left behind");
    let shown = text(&output.stdout);
    (output, shown)
}

#[test]
fn demo_delivers_every_line_over_a_rotation_and_cleans_up() {
    let (output, shown) = demo(&["--seconds", "11"]);
    assert_eq!(output.status.code(), Some(0), "{shown}\n{}", text(&output.stderr));
    let summary = shown.lines().last().unwrap_or_default();
    assert!(summary.ends_with("lost 0, repeated 0"), "{shown}");
    let written = summary.strip_prefix("written ").and_then(|rest| rest.split(',').next()?.parse::<u64>().ok());
    assert!(written.is_some_and(|lines| lines > 20_000), "it rotates at 20,000 lines: {summary}");
    assert!(shown.contains("/metrics") && shown.contains("type: file") && shown.contains("parse: json"), "{shown}");
    let edited = shown.lines().find(|line| line.starts_with("  -> {")).expect("events are shown");
    assert!(edited.contains("\"message\":\"GET ") && edited.contains("\"service\":\"shop\""), "{edited}");
    assert!(!edited.contains("session") && !shown.contains("lost 1"), "{edited}");
}

#[test]
fn demo_ends_when_its_reader_is_gone() {
    let temporary = tempfile::tempdir().expect("a directory");
    let mut child = command(&["demo"])
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let mut first = String::new();
    let shown = child.stdout.take().expect("a pipe");
    BufReader::new(shown).read_line(&mut first).expect("a line");
    assert!(first.contains("This configuration runs"), "{first}");
    let (_held, never) = mpsc::channel::<()>();
    let begun = Instant::now();
    while child.try_wait().expect("its state").is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().expect("it can be killed");
            panic!("it goes on without a reader");
        }
        let _ = never.recv_timeout(Duration::from_millis(50));
    }
}

/// The directory has a name that nobody can prepare, and nobody else can look into it.
#[test]
fn demo_uses_nothing_that_another_user_has_put_into_the_temporary_directory() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let temporary = tempfile::tempdir().expect("a directory");
    let victim = tempfile::tempdir().expect("a directory");
    let highest =
        std::fs::read_to_string("/proc/sys/kernel/pid_max").expect("a number").trim().parse().expect("a number");
    // Every number that the process can have, up to a bound that this machine reaches only if it starts very many.
    let begin = std::process::id();
    for pid in (begin..begin + 5_000).map(|pid: u32| if pid > highest { pid - highest } else { pid }) {
        symlink(victim.path(), temporary.path().join(format!("tailwater-demo-{pid}"))).expect("a link");
    }
    let output = command(&["demo", "--seconds", "1", "--keep"]).env("TMPDIR", temporary.path()).output();
    let output = output.expect("the binary runs");
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}{}", text(&output.stderr));
    let kept = shown.lines().find_map(|line| line.strip_prefix("kept: ")).expect("it says where");
    let below = std::fs::read_dir(victim.path()).expect("it is there");
    assert_eq!(below.count(), 0, "nothing follows the links");
    let mode = std::fs::symlink_metadata(kept).expect("it is kept").permissions().mode();
    assert_eq!(mode, 0o040_700, "a directory of its own: {mode:o}");
}

/// Responds to every request with 200 and counts the lines of the bodies.
fn serve(mut stream: TcpStream, lines: &AtomicU64) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        lines.fetch_add(body.iter().filter(|byte| **byte == b'\n').count() as u64, Ordering::Relaxed);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

#[test]
fn demo_sends_its_events_to_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http=http://{}/hunter2?token=hunter3", listener.local_addr().expect("an address"));
    let lines = Arc::new(AtomicU64::new(0));
    let counted = lines.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counted = counted.clone();
            std::thread::spawn(move || serve(stream, &counted));
        }
    });
    let (output, shown) = demo(&["--seconds", "2", "--to", &url]);
    assert_eq!(output.status.code(), Some(0), "{shown}\n{}", text(&output.stderr));
    assert!(!shown.contains("hunter"), "a path and a query may hold a key: {shown}");
    let summary = shown.lines().last().unwrap_or_default();
    let numbers: Vec<u64> = summary.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [sent, kept] = numbers[..] else { panic!("{summary}") };
    assert!(summary.contains(" accepted ") && sent == kept && sent > 1000, "{summary}");
    assert_eq!(lines.load(Ordering::Relaxed), sent, "{shown}");
}

#[test]
fn demo_fills_an_index_of_a_real_server() {
    let server = OpenSearch::start();
    let (output, shown) = demo(&["--seconds", "2", "--to", &format!("elasticsearch={}", server.url())]);
    assert_eq!(output.status.code(), Some(0), "{shown}\n{}", text(&output.stderr));
    let summary = shown.lines().last().unwrap_or_default();
    let sent: u64 = summary.split(' ').find_map(|word| word.parse().ok()).expect("a number");
    // At least once: the demo gives its events no id.
    assert!(sent > 1000 && server.search().count("tailwater-demo-*") >= sent, "{summary}");
    let event = &server.search().documents("tailwater-demo-*")[0].source;
    assert!(event["service"] == "shop" && event["message"].is_string() && event["session"].is_null(), "{event}");
}

#[test]
fn demo_ends_with_an_error_when_the_server_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let (output, shown) = demo(&["--seconds", "1", "--to", &format!("elasticsearch=http://{address}")]);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains(&format!("http://{address} accepted 0 of ")), "{shown}");
    assert!(shown.contains("lost 0, repeated 0"), "the archive has all: {shown}");
    let (output, _) = demo(&["--to", "kafka=x"]);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
}

#[test]
fn demo_repeats_no_password_of_its_command_line() {
    for to in [
        "http=http://u:hunter2@127.0.0.1:1/",
        "http=ftp://u:hunter2@a",
        "hunter2=http://a",
        "u:hunter2@a",
        "http=http://a:hunter2",
    ] {
        let (output, shown) = demo(&["--seconds", "1", "--to", to]);
        let complaint = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{to}: {complaint}");
        assert!(
            complaint.starts_with("error: --to: ") && !format!("{shown}{complaint}").contains("hunter2"),
            "{complaint}"
        );
    }
}
