//! Dead letters as an operator sees them: rejected events are kept with the reason, shown, sent again after a fix, and
//! removed.

use crate::case::Case;
use crate::lines::LineCount;
use crate::metrics;
use crate::product::{Product, is_root, run_to_end, text};
use crate::wait::wait_for;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// How often the destination accepted each message.
type Taken = Arc<Mutex<BTreeMap<String, u64>>>;

/// A destination that rejects messages with the word `bad` until it is fixed, and always those with the word `never`.
struct Destination {
    port: u16,
    taken: Taken,
    mended: Arc<AtomicBool>,
}

impl Destination {
    fn start() -> Destination {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (taken, mended) = (Taken::default(), Arc::new(AtomicBool::new(false)));
        let (sink, fixed) = (taken.clone(), mended.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (sink, fixed) = (sink.clone(), fixed.clone());
                std::thread::spawn(move || serve(stream, &sink, &fixed));
            }
        });
        Destination { port, taken, mended }
    }

    /// An output to it that sends each event alone.
    fn output(&self) -> String {
        format!(
            "{{type: http, url: \"http://127.0.0.1:{}/in\", request_bytes: 1, batch: {{max_age: 10ms}}, \
             retry: {{initial: 10ms, max: 50ms}}}}",
            self.port
        )
    }

    fn taken(&self) -> BTreeMap<String, u64> {
        self.taken.lock().expect("no test panics with it").clone()
    }
}

fn serve(stream: TcpStream, taken: &Taken, mended: &AtomicBool) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let refused = body.contains("never") || body.contains("bad") && !mended.load(Ordering::Acquire);
        if !refused {
            for line in body.lines() {
                let event: Value = serde_json::from_str(line).ok()?;
                let message = event["message"].as_str()?.to_owned();
                *taken.lock().expect("no test panics with it").entry(message).or_default() += 1;
            }
        }
        let (status, why) = if refused { (400, "no such field") } else { (200, "") };
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{why}", why.len());
        stream.write_all(answer.as_bytes()).ok()?;
    }
}

fn configure(case: &Case, destination: &Destination) -> PathBuf {
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/*.log").display());
    case.configure(&input, &destination.output())
}

fn start(case: &Case, config: &Path) -> Product {
    let mut product = Product::start(case, config);
    product.expect("moved to the dead letter queue");
    product
}

fn dlq(arguments: &[&str], config: &Path) -> Output {
    let mut all = vec!["dlq"];
    all.extend(arguments);
    all.extend(["-c", config.to_str().expect("UTF-8")]);
    run_to_end(&all)
}

fn letters(config: &Path) -> Vec<Value> {
    let shown = dlq(&["cat"], config);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    text(&shown.stdout).lines().map(|line| serde_json::from_str(line).expect("a letter is JSON")).collect()
}

/// The messages of the events in dead letters, sorted.
fn messages(letters: &[Value]) -> Vec<String> {
    let message = |letter: &Value| {
        let event: Value = serde_json::from_str(letter["original"].as_str().expect("text")).expect("an event's line");
        event["message"].as_str().expect("a message").to_owned()
    };
    let mut all: Vec<String> = letters.iter().map(message).collect();
    all.sort();
    all
}

/// Waits until the output's counters cover this many events, and checks how many of them are dead letters.
fn wait_for_balance(case: &Case, events: u64, dead: u64, product: &mut Product) {
    wait_for(&format!("{events} events, {dead} of them dead letters"), || {
        let sum = |name: &str| metrics::sum(case.admin_port, name, &["component_kind=\"output\""]);
        let sent = sum("tailwater_component_sent_events_total")?;
        let letters = sum("tailwater_component_dead_lettered_events_total")?;
        let waiting = sum("tailwater_output_buffered_events")?;
        match sent + letters == events && letters == dead && waiting == 0 {
            true => Ok(()),
            false => Err(format!("{sent} sent, {letters} dead letters, {waiting} wait; {}", product.state())),
        }
    });
}

#[test]
fn refused_events_are_kept_with_the_reason_and_delivered_after_a_fix() {
    let (case, destination) = (Case::new("dead-letters"), Destination::start());
    let config = configure(&case, &destination);
    case.write("logs/app.log", b"good 1\nbad 2\ngood 3\nbad 4\nnever 5\n");
    let mut product = start(&case, &config);
    wait_for_balance(&case, 5, 3, &mut product);
    let kept = letters(&config);
    assert_eq!(messages(&kept), ["bad 2", "bad 4", "never 5"]);
    for letter in &kept {
        assert_eq!((&letter["kind"], &letter["component"]), (&"output".into(), &"out".into()));
        assert_eq!(letter["place"], "rejected");
        let reason = letter["reason"].as_str().expect("a reason");
        assert!(reason.contains("400") && letter["attempts"] == 1, "{letter}");
    }
    let refused_again = dlq(&["replay"], &config);
    assert_eq!(refused_again.status.code(), Some(1), "{}", text(&refused_again.stderr));
    assert!(text(&refused_again.stdout).contains("0 delivered, 3 rejected again"), "{}", text(&refused_again.stdout));
    assert_eq!(messages(&letters(&config)), ["bad 2", "bad 4", "never 5"], "they are back");

    destination.mended.store(true, Ordering::Release);
    let replayed = dlq(&["replay"], &config);
    assert!(text(&replayed.stdout).contains("2 delivered, 1 rejected again"), "{}", text(&replayed.stdout));
    assert_eq!(messages(&letters(&config)), ["never 5"]);
    let expected = ["bad 2", "bad 4", "good 1", "good 3"].map(|message| (message.to_owned(), 1));
    assert_eq!(destination.taken(), BTreeMap::from(expected), "each came once");

    let asked = dlq(&["purge"], &config);
    assert_eq!(asked.status.code(), Some(64));
    assert!(text(&asked.stderr).contains("1 letter would be removed"), "{}", text(&asked.stderr));
    let purged = dlq(&["purge", "--component", "out", "--yes"], &config);
    assert_eq!(text(&purged.stdout), "1 letter removed\n", "{}", text(&purged.stderr));
    let listed = dlq(&["ls", "--json"], &config);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!((&listed["letters"], &listed["claimed"]), (&0.into(), &0.into()), "{listed}");
    // The service continues with a new segment.
    std::fs::write(case.path("logs/more.log"), "never 6\n").expect("a log");
    wait_for_balance(&case, 6, 4, &mut product);
    assert_eq!(messages(&letters(&config)), ["never 6"]);
    product.terminate();
}

/// An operator removes the queue by hand while Tailwater runs. Dead letters that are made afterwards are kept, and shown.
#[test]
fn dead_letters_after_a_removal_of_the_queue_are_kept() {
    let (case, destination) = (Case::new("dead-letters-removed"), Destination::start());
    let config = configure(&case, &destination);
    case.write("logs/app.log", b"never 1\nnever 2\n");
    let mut product = start(&case, &config);
    product.expect("another program removed or renamed the file to which dead letters were written");
    wait_for_balance(&case, 2, 2, &mut product);
    std::fs::remove_dir_all(case.path("data/dlq")).expect("the queue");
    std::fs::write(case.path("logs/more.log"), "never 3\n").expect("a log");
    wait_for_balance(&case, 3, 3, &mut product);
    assert_eq!(messages(&letters(&config)), ["never 3"]);
    let lost = metrics::sum(case.admin_port, "tailwater_dlq_lost_letters_total", &[]);
    assert_eq!(lost, Ok(2));
    product.terminate();
    assert_eq!(messages(&letters(&config)), ["never 3"]);
}

/// The file that a killed process left is damaged: what is in it is set aside, and whoever starts Tailwater reads where.
#[test]
fn damaged_dead_letters_are_set_aside_at_a_start() {
    let (case, destination) = (Case::new("dead-letters-damaged"), Destination::start());
    let config = configure(&case, &destination);
    case.write("logs/app.log", b"never 1\n");
    let mut product = start(&case, &config);
    wait_for_balance(&case, 1, 1, &mut product);
    product.kill();
    let segments = || {
        std::fs::read_dir(case.path("data/dlq/shard-0000")).expect("a folder").map(|one| one.expect("a name").path())
    };
    let open =
        segments().find(|path| path.extension().is_some_and(|ending| ending == "open")).expect("an open segment");
    let damaged = vec![0x5a; std::fs::metadata(&open).expect("it exists").len() as usize];
    std::fs::write(&open, &damaged).expect("damage");
    let mut product = start(&case, &config);
    product.expect("are no letter");
    let aside = open.with_extension("torn");
    product.wait_for_log(&["dead letters in", "bytes at its end are no letter", aside.to_str().expect("UTF-8")]);
    assert_eq!(std::fs::read(&aside).expect("what was damaged"), damaged);
    product.terminate();
}

#[test]
fn every_event_is_delivered_or_a_dead_letter_over_kills() {
    const EVENTS: u64 = 3_000;
    let (case, destination) = (Case::new("dead-kills"), Destination::start());
    let config = configure(&case, &destination);
    // One is longer than a single read or request.
    let tail = |number: u64| if number == 7 { "x".repeat(150_000) } else { String::new() };
    let word = |number: u64| if number.is_multiple_of(7) { "bad" } else { "good" };
    let line = |number: u64| format!("{} {number} {}\n", word(number), tail(number));
    case.write("logs/app.log", (1..=EVENTS).map(line).collect::<String>().as_bytes());
    for kill in 1..=3 {
        let mut product = start(&case, &config);
        let enough = kill * 400;
        wait_for("a part of the events", || match destination.taken().len() as u64 {
            now if now >= enough => Ok(()),
            now => Err(format!("{now} events; {}", product.state())),
        });
        product.kill();
    }
    let mut product = start(&case, &config);
    let good = (1..=EVENTS).filter(|number| !number.is_multiple_of(7)).count();
    wait_for("the rest", || match destination.taken().len() {
        now if now == good => Ok(()),
        now => Err(format!("{now} of {good}; {}", product.state())),
    });
    product.terminate();
    let mut dead = messages(&letters(&config));
    dead.dedup();
    assert_eq!((dead.len() + good) as u64, EVENTS, "a letter may come twice, but none is missing");
    destination.mended.store(true, Ordering::Release);
    let replayed = dlq(&["replay"], &config);
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed.stderr));
    assert_eq!(destination.taken().len() as u64, EVENTS);
    assert_eq!(letters(&config).len(), 0);
}

#[test]
fn events_that_exceed_max_age_can_be_replayed_to_another_output() {
    let (case, destination) = (Case::new("dead-retries"), Destination::start());
    destination.mended.store(true, Ordering::Release);
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/*.log").display());
    // Nothing listens there.
    let dead = "{type: http, url: \"http://127.0.0.1:9/\", retry: {initial: 10ms, max: 20ms, max_age: 200ms}}";
    let config = case.configure(&input, &format!("{dead}\n  spare: {}", destination.output()));
    case.write("logs/app.log", b"one\ntwo\n");
    let mut product = start(&case, &config);
    for told in ["is in no pipeline", "are given up, now dead letters", "127.0.0.1:9", "suppressed"] {
        product.expect(told);
    }
    wait_for_balance(&case, 2, 2, &mut product);
    product.terminate();
    let kept = letters(&config);
    assert_eq!(messages(&kept), ["one", "two"]);
    assert!(kept.iter().all(|letter| letter["place"] == "retries_exhausted"), "{kept:?}");
    assert!(kept.iter().all(|letter| letter["attempts"].as_u64() > Some(1)), "{kept:?}");
    let unknown = dlq(&["replay", "--output", "nine"], &config);
    assert_eq!(unknown.status.code(), Some(64), "{}", text(&unknown.stderr));
    assert!(text(&unknown.stderr).contains("the outputs are out, spare"), "{}", text(&unknown.stderr));
    let replayed = dlq(&["replay", "--output", "spare", "--reason", "within retry.max_age"], &config);
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed.stderr));
    assert_eq!(destination.taken().keys().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(letters(&config).len(), 0);
}

#[test]
fn replay_to_a_file_appends_to_it() {
    let (case, destination) = (Case::new("dead-file"), Destination::start());
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/*.log").display());
    let outputs = format!("{}\n  archive: {}", destination.output(), case.json_output());
    let config = case.configure(&input, &outputs);
    case.write("out/events.json", b"what was there\n");
    case.write("logs/app.log", b"bad 1\nbad 2\n");
    let mut product = start(&case, &config);
    product.expect("is in no pipeline");
    wait_for_balance(&case, 2, 2, &mut product);
    let beside = dlq(&["replay", "--output", "archive"], &config);
    assert_eq!(beside.status.code(), Some(1), "{}", text(&beside.stdout));
    assert!(text(&beside.stderr).contains("writes files"), "{}", text(&beside.stderr));
    assert_eq!(messages(&letters(&config)), ["bad 1", "bad 2"], "they are back");
    product.terminate();
    // The files of an output in a pipeline belong to its journal, also while nothing runs.
    let used = std::fs::read_to_string(&config)
        .expect("the configuration")
        .replace("outputs: [out]", "outputs: [out, archive]");
    let used = case.write("used.yaml", used.as_bytes());
    let refused = dlq(&["replay", "--output", "archive"], &used);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    assert!(text(&refused.stderr).contains("would cut off what a replay adds"), "{}", text(&refused.stderr));
    assert_eq!(messages(&letters(&config)), ["bad 1", "bad 2"], "they are back");
    let replayed = dlq(&["replay", "--output", "archive"], &config);
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed.stderr));
    let file = std::fs::read_to_string(case.output()).expect("the file");
    let lines: Vec<&str> = file.lines().collect();
    assert!(lines.len() == 3 && lines[0] == "what was there" && lines[2].contains("bad 2"), "{file}");
    assert_eq!(letters(&config).len(), 0);
}

#[test]
fn interrupted_replay_returns_its_letters() {
    let (case, destination) = (Case::new("dead-interrupt"), Destination::start());
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/*.log").display());
    // Nothing listens there, and it is retried without limit.
    let away = "{type: http, url: \"http://127.0.0.1:9/\", retry: {initial: 10ms, max: 20ms}}";
    let config = case.configure(&input, &format!("{}\n  away: {away}", destination.output()));
    case.write("logs/app.log", b"bad 1\n");
    let mut product = start(&case, &config);
    product.expect("is in no pipeline");
    wait_for_balance(&case, 1, 1, &mut product);
    for signal in ["TERM", "KILL"] {
        let config = config.to_str().expect("UTF-8");
        let mut command = std::process::Command::new(crate::product::binary());
        command.args(["dlq", "replay", "-c", config, "--output", "away"]);
        let mut replay = Product::start_with(&case, &mut command);
        for told in ["127.0.0.1:9", "suppressed", "is in no pipeline"] {
            replay.expect(told);
        }
        replay.wait_for_log(&["warn", "127.0.0.1:9"]);
        if signal == "KILL" {
            replay.kill();
            continue;
        }
        replay.signal(signal);
        assert_eq!(replay.wait().code(), Some(75), "{}", replay.log());
        assert!(replay.log().contains("1 letter back in the queue"), "{}", replay.log());
    }
    assert_eq!(messages(&letters(&config)), ["bad 1"], "shown while nobody has put it back");
    destination.mended.store(true, Ordering::Release);
    let replayed = dlq(&["replay"], &config);
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed.stderr));
    assert_eq!(destination.taken().keys().collect::<Vec<_>>(), ["bad 1"]);
    product.terminate();
}

#[test]
fn unparsable_lines_are_kept_unchanged_and_survive_a_replay() {
    let (case, destination) = (Case::new("dead-lines"), Destination::start());
    let path = case.path("logs/*.log");
    let input =
        format!("{{type: file, include: [\"{}\"], parse: {{json: {{on_error: dead_letter}}}}}}", path.display());
    let config = case.configure(&input, &destination.output());
    case.write("logs/app.log", b"{\"message\":\"good 1\"}\nno object\n\xff\xfe\n{\"message\":\"good 2\"}\n");
    let mut product = start(&case, &config);
    wait_for("both good events", || match destination.taken().len() {
        2 => Ok(()),
        now => Err(format!("{now} came; {}", product.state())),
    });
    let dead = metrics::sum(
        case.admin_port,
        "tailwater_component_dead_lettered_events_total",
        &["component_kind=\"input\"", "reason=\"parse\""],
    );
    assert_eq!(dead, Ok(2));
    let kept = letters(&config);
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!((&kept[0]["kind"], &kept[0]["component"]), (&"input".into(), &"app".into()));
    assert_eq!(kept[0]["original"], "no object");
    assert_eq!(kept[1]["original_base64"], "//4=");
    assert!(kept.iter().all(|letter| letter["source"].as_str().is_some_and(|name| name.ends_with("app.log"))));
    let replayed = dlq(&["replay"], &config);
    assert_eq!(replayed.status.code(), Some(0));
    assert!(text(&replayed.stderr).contains("2 letters of inputs and pipelines stay"), "{}", text(&replayed.stderr));
    product.terminate();
    let mut again = start(&case, &config);
    again.wait_for_log(&["started"]);
    again.terminate();
    assert_eq!(letters(&config).len(), 2, "a start makes none again");
}

/// An input with a small queue of dead letters, two users, and 500 good lines of one of them.
struct Neighbours {
    case: Case,
    config: PathBuf,
    product: Product,
}

impl Neighbours {
    fn start(name: &str) -> Neighbours {
        let mut case = Case::new(name);
        case.extra = "dlq: {max_bytes: 4MiB}\n".to_owned();
        let path = case.path("logs/*.log");
        let parse = "max_line_bytes: 4KiB, parse: {json: {on_error: dead_letter}}";
        let input = format!("{{type: file, include: [\"{}\"], {parse}}}", path.display());
        let config = case.configure(&input, &case.json_output());
        std::fs::set_permissions(case.path("logs"), std::fs::Permissions::from_mode(0o1777)).expect("permissions");
        case.write("logs/good.log", good_lines(1).as_bytes());
        let mut product = Product::start(&case, &config);
        product.expect("no more space for this component");
        Neighbours { case, config, product }
    }

    /// An ordinary user writes a line many times to a file of its own, until letters have no space any more.
    fn write_bad(&mut self, file: &str, line: &str, lines: u64) {
        let bad = format!("yes {line} | head -n {lines} > {}", self.case.path(file).display());
        assert!(nobody_runs(&bad).status().expect("a shell").success());
        self.product.wait_for_log(&["no more space for this component", "app"]);
    }

    /// The other file goes on, with a bad line in each round, for which there is space.
    fn assert_other_file_is_read(&mut self) {
        let mut file = std::fs::File::options().append(true).open(self.case.path("logs/good.log")).expect("the file");
        let mut count = LineCount::of(self.case.output());
        for round in 1..5 {
            file.write_all(format!("a bad line\n{}", good_lines(500 * round + 1)).as_bytes()).expect("lines");
            count.wait(500 * (round + 1), &mut self.product);
        }
    }
}

fn good_lines(from: u64) -> String {
    (from..from + 500).map(|number| format!("{{\"n\":{number}}}\n")).collect()
}

/// More bad lines than there is space for, and than a lane and what waits beside it can hold, before any is refused: only their file
/// waits.
#[test]
fn user_who_writes_bad_lines_stops_no_file_of_another_user() {
    const BAD: u64 = 3_000;
    let mut neighbours = Neighbours::start("dead-shares");
    neighbours.write_bad("logs/bad.log", &"x".repeat(3_000), BAD);
    neighbours.assert_other_file_is_read();
    let Neighbours { case, config, mut product } = neighbours;
    let (status, body) = metrics::get(case.admin_port, "/readyz").expect("an answer");
    assert!(status == 200 && body.contains("input app: dead letters wait for space since "), "{status} {body}");
    let bad = case.path("logs/bad.log").display().to_string();
    assert!(body.contains(&format!("the first from {bad}; ")) && body.contains("replay or purge letters"), "{body}");
    let (_, body) = metrics::get(case.admin_port, "/metrics").expect("the metrics");
    let waiting = body.lines().filter(|line| line.starts_with("tailwater_dlq_waiting_seconds{"));
    let waiting: Vec<&str> = waiting.filter(|line| !line.ends_with(" 0")).collect();
    assert!(!waiting.is_empty() && waiting.iter().all(|line| line.contains("component_id=\"app\"")), "{waiting:?}");
    let log = product.log();
    assert!(log.contains("the input `app` waits: ") && log.contains(&format!("one of its sources, {bad}; ")), "{log}");
    let held = metrics::sum(case.admin_port, "tailwater_dlq_component_bytes", &["component_id=\"app\""]);
    assert!(held.as_ref().is_ok_and(|held| (1 << 20..2 << 20).contains(held)), "{held:?} bytes, two fifths of 4 MiB");
    let dead = || metrics::sum(case.admin_port, "tailwater_component_dead_lettered_events_total", &["\"app\""]);
    wait_for("all bad lines, while somebody makes space", || {
        assert_eq!(dlq(&["purge", "--yes"], &config).status.code(), Some(0));
        match dead()? {
            now if now == BAD + 4 => Ok(()),
            now => Err(format!("{now} dead letters; {}", product.state())),
        }
    });
    product.terminate();
}

/// The letters of very short lines need many times the memory of the lines, and there are several such files.
#[test]
fn user_who_writes_short_bad_lines_stops_no_file_of_another_user() {
    let mut neighbours = Neighbours::start("dead-short");
    for file in ["logs/bad.log", "logs/worse.log", "logs/worst.log"] {
        neighbours.write_bad(file, "x", 200_000);
    }
    neighbours.assert_other_file_is_read();
    neighbours.product.kill();
}

/// A destination rejects the events of one user, more than the queue has space for. Those of another user arrive, and the one that is
/// rejected in each of his rounds is kept.
#[test]
fn user_whose_events_are_rejected_stops_no_events_of_another_user() {
    const EVIL: u64 = 2_000;
    let (mut case, destination) = (Case::new("dead-rejected"), Destination::start());
    case.extra = "dlq: {max_bytes: 4MiB}\nwal: {segment_bytes: 1MiB, max_bytes: 8MiB}\n".to_owned();
    let input = format!("{{type: file, include: [\"{}\"], max_line_bytes: 4KiB}}", case.path("logs/*.log").display());
    let own = ", dead_letters: {when_full: drop_newest, share_by: \"{{ file }}\"}}";
    let output = format!("{}{own}", destination.output().strip_suffix('}').expect("settings in braces"));
    let config = case.configure(&input, &output);
    std::fs::set_permissions(case.path("logs"), std::fs::Permissions::from_mode(0o1777)).expect("permissions");
    let mut product = start(&case, &config);
    ["has no more space for this component", "similar lines"].into_iter().for_each(|part| product.expect(part));
    let bad = format!("never {}", "x".repeat(3_000));
    let write = format!("yes {bad} | head -n {EVIL} > {}", case.path("logs/evil.log").display());
    assert!(nobody_runs(&write).status().expect("a shell").success());
    product.wait_for_log(&["has no more space for this component", "its dead letters are dropped", "out"]);
    let mut file = std::fs::File::create(case.path("logs/good.log")).expect("a file");
    for round in 0..5_u64 {
        let good: String = (0..100).map(|number| format!("good {round} {number}\n")).collect();
        file.write_all(format!("never {round}\n{good}").as_bytes()).expect("lines");
        wait_for("the lines of the round", || match destination.taken().len() as u64 {
            taken if taken == 100 * (round + 1) => Ok(()),
            taken => Err(format!("{taken} arrived; {}", product.state())),
        });
    }
    let kept = letters(&config);
    for round in 0..5 {
        let mine = |letter: &&Value| letter["source"].as_str().is_some_and(|source| source.ends_with("good.log"));
        let rejected = format!("never {round}");
        assert!(messages(&kept.iter().filter(mine).cloned().collect::<Vec<_>>()).contains(&rejected), "{round}");
    }
    let (status, body) = metrics::get(case.admin_port, "/readyz").expect("an answer");
    assert!(status == 200 && body.contains("output out: dead letters are dropped for want of space since "), "{body}");
    let dropped =
        || metrics::sum(case.admin_port, "tailwater_component_discarded_events_total", &["\"dlq_full\"", "\"out\""]);
    wait_for("all of the others are decided", || match (dropped()?, letters(&config).len() as u64) {
        (dropped, kept) if dropped > EVIL / 4 && dropped + kept == EVIL + 5 => Ok(()),
        other => Err(format!("{other:?} dropped and kept; {}", product.state())),
    });
    product.terminate();
}

/// A server that rejects a request because of one event in it says no more than that. An ordinary user writes nearly all events.
#[test]
fn user_whose_events_are_rejected_loses_no_events_of_others_in_the_same_requests() {
    for (name, files, bad) in [("dead-crowd", 1, 12_000), ("dead-crowds", 60, 2_400)] {
        let (case, destination) = (Case::new(name), Destination::start());
        let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/*.log").display());
        let output = destination.output().replace("request_bytes: 1, batch: {max_age: 10ms}", "batch: {max_age: 3s}");
        let config = case.configure(&input, &output);
        std::fs::set_permissions(case.path("logs"), std::fs::Permissions::from_mode(0o1777)).expect("permissions");
        let logs = case.path("logs").display().to_string();
        let write = format!("for f in $(seq {files}); do yes bad | head -n {} > {logs}/bad$f.log; done", bad / files);
        assert!(nobody_runs(&write).status().expect("a shell").success());
        let good: Vec<String> = (0..40).map(|number| format!("good {number}")).collect();
        case.write("logs/good1.log", format!("{}\n", good[..39].join("\n")).as_bytes());
        case.write("logs/good2.log", format!("{}\n", good[39]).as_bytes());
        let mut product = start(&case, &config);
        ["single events were rejected", "similar lines"].into_iter().for_each(|part| product.expect(part));
        wait_for_balance(&case, bad + 40, bad, &mut product);
        product.terminate();
        assert_eq!(destination.taken(), good.into_iter().map(|message| (message, 1)).collect(), "{files} files");
        let reason = "rejected together with others of its source";
        let shown = dlq(&["cat", "--reason", reason], &config);
        assert!(text(&shown.stdout).contains("bad"), "{files} files: {}", text(&shown.stderr));
    }
}

/// A command of an ordinary user.
fn nobody_runs(script: &str) -> std::process::Command {
    let mut command = std::process::Command::new(if is_root() { "setpriv" } else { "sh" });
    if is_root() {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "sh"]);
    }
    command.arg("-c").arg(script);
    command
}
