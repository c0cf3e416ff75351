//! Outputs and inputs that are removed from the configuration or renamed in it: waiting events are never dropped without
//! being asked for.

use crate::case::Case;
use crate::metrics::{get, sum};
use crate::product::{Product, run_to_end, text};
use crate::wait::wait_for;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

/// Number of lines that wait in the WAL for an output whose server is unreachable.
const WAITING: u64 = 50;

/// A configuration with these entries under `outputs:`, all in its only pipeline.
fn configure(case: &Case, input: &str, outputs: &[(&str, &str)]) -> PathBuf {
    let names: Vec<&str> = outputs.iter().map(|(name, _)| *name).collect();
    let all: String = outputs.iter().map(|(name, settings)| format!("  {name}: {settings}\n")).collect();
    let text = format!(
        "data_dir: {data}\nshards: 1\nadmin: {{listen: 127.0.0.1:{port}}}\ninputs:\n  {input}\npipelines:\n  \
         main: {{inputs: [{name}], outputs: [{names}]}}\noutputs:\n{all}",
        data = case.path("data").display(),
        port = case.admin_port,
        name = input.split(':').next().expect("a name"),
        names = names.join(", "),
    );
    case.write("tailwater.yaml", text.as_bytes())
}

fn app(case: &Case, name: &str, more: &str) -> String {
    format!("{name}: {{type: file, include: [\"{}\"], parse: json{more}}}", case.path("app.log").display())
}

fn file(case: &Case, more: &str) -> String {
    format!("{{type: file, path: {}{more}}}", case.output().display())
}

const AWAY: &str = "{type: http, url: \"http://127.0.0.1:1/\", retry: {initial: 1s, max: 1s}}";

/// Makes events wait for the output `away`, and ends the process.
fn leave_waiting(case: &Case) {
    let lines: String = (0..WAITING).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    case.write("app.log", lines.as_bytes());
    let mut product = Product::start(case, &configure(case, &app(case, "app", ""), &[("away", AWAY)]));
    product.expect("127.0.0.1:1");
    wait_for("all of it in the log", || match sum(case.admin_port, "tailwater_output_buffered_events", &[])? {
        WAITING => Ok(()),
        other => Err(format!("{other}; {}", product.state())),
    });
    // Lines that are counted may still be in the memory of the process; what an output gets is in the file.
    product.wait_for_log(&["away", "127.0.0.1:1", &format!("waiting_events\":{WAITING}")]);
    // Lines that are not recorded yet would be read again and wait twice.
    product.kill();
}

fn run(config: &Path, more: &[&str]) -> Output {
    run_to_end(&[&["run", "-c", config.to_str().expect("UTF-8")], more].concat())
}

fn lines(case: &Case) -> usize {
    std::fs::read_to_string(case.output()).unwrap_or_default().lines().count()
}

/// Runs until this many lines are in the output file.
fn delivers(case: &Case, config: &Path, count: u64) {
    let mut product = Product::start(case, config);
    product.wait_for_log(&["started"]);
    wait_for("the lines", || match lines(case) as u64 {
        found if found == count => Ok(()),
        found => Err(format!("{found} of {count}; {}", product.state())),
    });
    product.terminate();
}

#[test]
fn removed_output_with_waiting_events_prevents_the_start_and_names_the_options() {
    let case = Case::new("removed");
    leave_waiting(&case);
    let config = configure(&case, &app(&case, "app", ""), &[("files", &file(&case, ""))]);
    for _ in 0..2 {
        let refused = run(&config, &[]);
        let message = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(78), "{message}");
        for part in
            ["50 events wait", "`away`", "was: away", "--discard-removed away", "dead_letters", "nothing was changed"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    let refused = run(&config, &["--discard-removed", "awya"]);
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(78), "{message}");
    assert!(message.contains("`--discard-removed` names only `awya`"), "{message}");
    // Back under its name it has all of it.
    delivers(&case, &configure(&case, &app(&case, "app", ""), &[("away", &file(&case, ""))]), WAITING);
    // Without waiting events it is simply removed.
    case.write("app.log", b"");
    let config = configure(&case, &app(&case, "app", ""), &[("files", &file(&case, ""))]);
    let mut product = Product::start(&case, &config);
    product.wait_for_log(&["no events waited for it"]);
    product.terminate();
    let mut command = std::process::Command::new(crate::product::binary());
    command.args(["run", "-c", config.to_str().expect("UTF-8"), "--discard-removed", "awya"]);
    let mut product = Product::start_with(&case, &mut command);
    product.expect("--discard-removed awya: the write-ahead log has no removed input or output `awya`");
    product.wait_for_log(&["--discard-removed awya"]);
    product.terminate();
}

#[test]
fn renamed_output_continues_where_it_was() {
    let case = Case::new("renamed");
    leave_waiting(&case);
    let settings = file(&case, ", was: away");
    let config = configure(&case, &app(&case, "app", ""), &[("files", &settings)]);
    delivers(&case, &config, WAITING);
    // `was` may stay.
    delivers(&case, &config, WAITING);
    for (more, code) in [("away", 64), ("files", 64), ("nobody=nothing", 64)] {
        assert_eq!(run(&config, &["--discard-removed", more]).status.code(), Some(code), "{more}");
    }
}

#[test]
fn events_of_a_removed_output_are_discarded_or_become_dead_letters_as_requested() {
    for (name, fate) in [("discarded", "away"), ("lettered", "away=dead_letters")] {
        let case = Case::new(name);
        leave_waiting(&case);
        let config = configure(&case, &app(&case, "app", ""), &[("files", &file(&case, ""))]);
        let mut command = std::process::Command::new(crate::product::binary());
        command.args(["run", "-c", config.to_str().expect("UTF-8"), "--discard-removed", fate]);
        let mut product = Product::start_with(&case, &mut command);
        product.expect("an output was removed from the configuration");
        product.expect("its output was removed from the configuration");
        let away = ["component_id=\"away\""];
        let gone = || {
            let discarded = sum(case.admin_port, "tailwater_component_discarded_events_total", &away)?;
            Ok::<_, String>((discarded, sum(case.admin_port, "tailwater_component_dead_lettered_events_total", &away)?))
        };
        let expected = if fate == "away" { (WAITING, 0) } else { (0, WAITING) };
        wait_for("what waited", || match gone()? {
            found if found == expected => Ok(()),
            found => Err(format!("{found:?}; {}", product.state())),
        });
        product.terminate();
        let letters = run_to_end(&["dlq", "cat", "-c", config.to_str().expect("UTF-8")]);
        assert_eq!(text(&letters.stdout).lines().count() as u64, expected.1, "{}", text(&letters.stderr));
        // Nothing waits any more.
        delivers(&case, &config, 0);
    }
}

#[test]
fn renamed_input_continues_where_it_was() {
    let case = Case::new("renamed-input");
    let outputs = [("files", file(&case, ""))];
    let outputs: Vec<(&str, &str)> = outputs.iter().map(|(name, settings)| (*name, settings.as_str())).collect();
    case.write("app.log", b"{\"n\":1}\n{\"n\":2}\n");
    delivers(&case, &configure(&case, &app(&case, "app", ""), &outputs), 2);
    case.write("app.log", b"{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    delivers(&case, &configure(&case, &app(&case, "web", ", was: app"), &outputs), 3);
    delivers(&case, &configure(&case, &app(&case, "web", ""), &outputs), 3);
}

/// The age of an event is the time it has spent in Tailwater, over restarts too, whatever its own timestamp is.
#[test]
fn age_of_what_waits_is_its_time_in_the_log() {
    let case = Case::new("age");
    let begun = Instant::now();
    let input = app(&case, "app", "");
    let old = "{\"time\":\"2001-01-01T00:00:00Z\",\"n\":1}\n";
    case.write("app.log", old.as_bytes());
    let config = configure(&case, &input, &[("away", AWAY)]);
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let verb = "transforms: [{timestamp: {field: time}}], outputs";
    case.write("tailwater.yaml", text.replace("outputs: [away]", &format!("{verb}: [away]")).as_bytes());
    let age = |port: u16| {
        let (_, body) = get(port, "/metrics")?;
        let name = "tailwater_output_oldest_unacked_age_seconds{";
        let line = body.lines().find(|line| line.starts_with(name)).ok_or("no such metric")?;
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).ok_or_else(|| line.to_owned())
    };
    let mut earlier = Duration::ZERO;
    for _ in 0..2 {
        let mut product = Product::start(&case, &config);
        product.expect("127.0.0.1:1");
        wait_for("an age", || match age(case.admin_port)? {
            found if found > earlier.as_secs_f64() => Ok(()),
            found => Err(format!("{found}; {}", product.state())),
        });
        let (found, most) = (age(case.admin_port).expect("the metric"), begun.elapsed().as_secs_f64() + 1.0);
        assert!(found < most, "{found} of {most} seconds");
        // The next run begins with the value of this one.
        earlier = Duration::from_secs_f64(found);
        product.kill();
    }
}
