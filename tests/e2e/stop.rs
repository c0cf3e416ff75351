//! Stops while an output fails, stops right after a start, and events that policies drop: everything is delivered or counted.

use crate::case::Case;
use crate::lines::{LINES, LineWriter, arrived, block};
use crate::metrics;
use crate::product::Product;
use crate::wait::{pause, wait_for};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// A product with `lines` in its WAL and an output that accepts none of them.
fn failing(case: &Case, config: &Path, lines: u64) -> Product {
    fs::create_dir(case.output()).expect("a folder where the file should be");
    case.write("logs/app.log", &block(1, lines));
    let mut product = Product::start(case, config);
    product.expect("events.json");
    product.expect("waits in the write-ahead log");
    product.expect("suppressed");
    wait_for("the lines in the log", || match metrics::logged_events(case.admin_port)? {
        logged if logged >= lines => Ok(()),
        logged => Err(format!("logged {logged} of {lines}; {}", product.state())),
    });
    product
}

fn the_rest_arrives_once(case: &Case, config: &Path, lines: u64) {
    fs::remove_dir(case.output()).expect("the folder goes");
    let product = Product::start(case, config);
    product.finish(&case.output(), lines);
}

#[test]
fn drain_timeout_ends_a_stop_while_the_output_fails() {
    let mut case = Case::new("drain-timeout");
    case.extra = "drain_timeout: 1s\n".to_owned();
    let config = case.files_to_file("logs/*.log");
    let mut product = failing(&case, &config, 20_000);
    let started = Instant::now();
    product.signal("TERM");
    assert_eq!(product.wait().code(), Some(75), "{}", product.state());
    assert!(started.elapsed() >= Duration::from_secs(1), "it did not wait: {:?}", started.elapsed());
    the_rest_arrives_once(&case, &config, 20_000);
}

#[test]
fn second_signal_forces_the_end_at_once() {
    let mut case = Case::new("second-signal");
    // Longer than any case may take.
    case.extra = "drain_timeout: 1h\n".to_owned();
    let config = case.files_to_file("logs/*.log");
    let mut product = failing(&case, &config, 20_000);
    product.signal("TERM");
    product.wait_for_log(&["draining"]);
    // Signals in immediate succession count as one request.
    pause(Duration::from_millis(300));
    assert!(product.is_running(), "{}", product.state());
    product.signal("INT");
    assert_eq!(product.wait().code(), Some(75), "{}", product.state());
    the_rest_arrives_once(&case, &config, 20_000);
}

/// Transforms that keep a shard busy with one event: each of them may take its steps.
fn endless() -> String {
    vec!["{drop: \"items.exists(i, items.exists(j, i + j < 0))\"}"; 350].join(", ")
}

#[test]
fn shard_that_is_busy_does_not_hold_the_process() {
    let mut case = Case::new("busy-shard");
    case.extra = "drain_timeout: 1s\n".to_owned();
    let input = format!("{{type: file, include: [\"{}\"], parse: json}}", case.path("logs/*.log").display());
    let config = case.configure(&input, &case.json_output());
    let text = fs::read_to_string(&config).expect("the configuration");
    let busy = format!("{{inputs: [app], transforms: [{}],", endless());
    let config = case.write("tailwater.yaml", text.replace("{inputs: [app],", &busy).as_bytes());
    let items: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    case.write("logs/app.log", format!("{{\"items\":[{}]}}\n", items.join(",")).as_bytes());
    let mut product = Product::start(&case, &config);
    product.expect("a shard did not stop");
    product.expect("waits in the write-ahead log");
    product.wait_for_log(&["shard has stopped responding"]);
    product.signal("TERM");
    assert_eq!(product.wait().code(), Some(75), "{}", product.state());
    assert!(product.log().contains("a shard did not stop"), "{}", product.state());
    // Nobody else uses the log of the event meanwhile, and then it is free at once.
    let config = case.write("tailwater.yaml", text.as_bytes());
    let mut product = Product::start(&case, &config);
    product.wait_for_log(&["started"]);
    wait_for("the event", || match fs::read_to_string(case.output()) {
        Ok(written) if written.contains("\"items\"") => Ok(()),
        other => Err(format!("{other:?}; {}", product.state())),
    });
    product.terminate();
}

#[test]
fn kills_right_after_a_start_lose_and_repeat_nothing() {
    let mut case = Case::new("early-kill");
    case.shards = 2;
    let config = case.files_to_file("logs/*.log");
    let mut writer = LineWriter::create(case.path("logs/app.log"));
    for kill in 1..=20 {
        writer.burst_to(kill * 200);
        let product = Product::start(&case, &config);
        pause(Duration::from_millis(kill * 5 / 2));
        product.kill();
    }
    let product = Product::start(&case, &config);
    product.finish(&case.output(), 4_000);
}

fn counters(case: &Case) -> Result<(u64, u64, u64), String> {
    let sum = |name: &str, labels: &[&str]| metrics::sum(case.admin_port, name, labels);
    Ok((
        metrics::received_events(case.admin_port)?,
        sum("tailwater_component_sent_events_total", &["component_kind=\"output\""])?,
        sum("tailwater_component_discarded_events_total", &[])?,
    ))
}

/// With a failing output the WAL fills up, then the ring; from then on the policy drops events.
fn dropped_events_are_counted(policy: &str) {
    let mut case = Case::new(policy);
    case.extra = "wal: {segment_bytes: 2MiB, max_bytes: 8MiB}\n".to_owned();
    let include = case.path("logs/*.log");
    let input =
        format!("{{type: file, include: [\"{}\"], ring: {{bytes: 64KiB, when_full: {policy}}}}}", include.display());
    let config = case.configure(&input, &case.json_output());
    fs::create_dir(case.output()).expect("a folder where the file should be");
    case.write("logs/app.log", &block(1, LINES));
    let mut product = Product::start(&case, &config);
    product.expect("events.json");
    product.expect("full");
    product.expect("suppressed");
    wait_for("all lines received", || match counters(&case)? {
        (LINES, _, discarded) if discarded > 0 => Ok(()),
        other => Err(format!("{other:?}; {}", product.state())),
    });
    fs::remove_dir(case.output()).expect("the folder goes");
    let (_, sent, _) = wait_for("received = sent + discarded", || match counters(&case)? {
        (received, sent, discarded) if received == sent + discarded => Ok((received, sent, discarded)),
        other => Err(format!("{other:?}; {}", product.state())),
    });
    product.terminate();
    let seen = arrived(&case.output(), LINES);
    assert_eq!((LINES - seen.lost().len() as u64, seen.repeated().len()), (sent, 0));
}

#[test]
fn drop_newest_counts_what_it_drops() {
    dropped_events_are_counted("drop_newest");
}

#[test]
fn drop_oldest_counts_what_it_drops() {
    dropped_events_are_counted("drop_oldest");
}

/// How the end is requested.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// Standard input ends.
    EndOfInput,
    Term,
    Int,
}

/// The state of the output.
#[derive(Clone, Copy, Debug)]
enum State {
    Takes,
    /// Its server is unreachable.
    Dead,
    /// It cannot be opened, with events to deliver.
    Closed,
    /// The same with nothing to deliver.
    ClosedIdle,
}

/// All ends: the request, the state of the output, and the exit code. If something is left, the drain is waited for.
#[test]
fn exit_code_says_whether_everything_was_delivered() {
    let cases = [
        (Ask::EndOfInput, State::Takes, 0),
        (Ask::EndOfInput, State::Dead, 75),
        (Ask::EndOfInput, State::Closed, 75),
        (Ask::EndOfInput, State::ClosedIdle, 0),
        (Ask::Term, State::Takes, 0),
        (Ask::Term, State::Dead, 75),
        (Ask::Term, State::Closed, 75),
        (Ask::Term, State::ClosedIdle, 0),
        (Ask::Int, State::Dead, 75),
    ];
    for (ask, state, code) in cases {
        let mut case = Case::new("ends");
        case.extra = "drain_timeout: 1s\n".to_owned();
        let tls = case.path("missing.pem").display().to_string();
        let output = match state {
            State::Takes => case.json_output(),
            State::Dead => "{type: http, url: \"http://127.0.0.1:9/x\"}".to_owned(),
            State::Closed | State::ClosedIdle => {
                format!("{{type: http, url: \"https://127.0.0.1:9/x\", tls: {{ca_file: \"{tls}\"}}}}")
            }
        };
        let config = case.configure("{type: stdin}", &output);
        let (mut product, mut input) = Product::start_piped(&case, &config);
        for part in ["127.0.0.1:9", "drain_timeout", "missing.pem", "suppressed", "waits in the write-ahead log"] {
            product.expect(part);
        }
        product.wait_for_log(&["started"]);
        if !matches!(state, State::ClosedIdle) {
            input.write_all(b"a line\n").expect("it reads");
        }
        let started = Instant::now();
        match ask {
            Ask::EndOfInput => drop(input),
            Ask::Term | Ask::Int => {
                wait_for("the line in the log", || match metrics::logged_events(case.admin_port)? {
                    0 if !matches!(state, State::ClosedIdle) => Err(product.state()),
                    _ => Ok(()),
                });
                product.signal(if matches!(ask, Ask::Term) { "TERM" } else { "INT" });
            }
        }
        assert_eq!(product.wait().code(), Some(code), "{ask:?} {state:?}: {}", product.state());
        assert!(code == 0 || started.elapsed() >= Duration::from_secs(1), "{ask:?} {state:?}: it did not wait");
    }
}

/// From the moment on at which it handles the signal, wherever the start is by then.
#[test]
fn stop_during_the_start_is_orderly() {
    let case = Case::new("early-stop");
    let config = case.files_to_file("logs/*.log");
    case.write("logs/app.log", &block(1, 100));
    for _ in 0..10 {
        Product::start(&case, &config).terminate();
    }
    Product::start(&case, &config).finish(&case.output(), 100);
}

#[test]
fn other_signals_do_not_end_the_process() {
    let case = Case::new("other-signals");
    let config = case.files_to_file("logs/*.log");
    case.write("logs/app.log", &block(1, 1));
    let mut product = Product::start(&case, &config);
    // A SIGHUP during the start does no harm, and is not reported.
    product.wait_for_log(&["started"]);
    for signal in ["HUP", "USR1", "USR2"] {
        product.signal(signal);
    }
    product.wait_for_log(&["SIGHUP", "restart"]);
    let mut log = fs::File::options().append(true).open(case.path("logs/app.log")).expect("the log");
    log.write_all(&block(2, 100)).expect("lines");
    product.finish(&case.output(), 100);
}
