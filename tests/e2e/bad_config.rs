//! Mistakes in configurations and arguments: a message that says what, where and what to do, and the documented exit code.

use crate::case::Case;
use crate::product::{run_to_end, text};

/// Runs `validate` and `run` on a configuration and checks the exit code and the words of the message.
fn refused(name: &str, yaml: &str, words: &[&str]) {
    let case = Case::new(name);
    let config = case.write("bad.yaml", yaml.as_bytes());
    for verb in ["validate", "run"] {
        let output = run_to_end(&[verb, "-c", config.to_str().expect("UTF-8")]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{verb}: {message}");
        for word in words {
            assert!(message.contains(word), "{verb}: no {word:?} in:\n{message}");
        }
        assert!(!message.contains("panicked"), "{verb}: {message}");
    }
    assert!(std::fs::read_dir(case.path("data")).expect("a folder").next().is_none(), "a refused start left files");
}

const GOOD: &str = "data_dir: /tmp/tailwater-not-used
inputs:
  app: {type: file, include: [/var/log/app.log]}
pipelines:
  main: {inputs: [app], outputs: [out]}
outputs:
  out: {type: blackhole}
";

#[test]
fn good_configuration_is_accepted() {
    let case = Case::new("good");
    let config = case.write("good.yaml", GOOD.as_bytes());
    let output = run_to_end(&["validate", "-c", config.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn deployment_examples_are_accepted() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the examples") {
        let path = entry.expect("an entry").path();
        let output = run_to_end(&["validate", "-c", path.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(0), "{}: {}", path.display(), text(&output.stderr));
        count += 1;
    }
    assert!(count >= 4, "{count} examples");
}

#[test]
fn unknown_key_names_its_place_and_the_nearest_name() {
    let yaml = GOOD.replace("include:", "inclued:");
    refused("unknown-key", &yaml, &["inclued", "include", "bad.yaml:3:"]);
}

#[test]
fn unknown_top_level_key_names_its_place_and_the_nearest_name() {
    let yaml = GOOD.replace("data_dir:", "data_dri:");
    refused("unknown-top", &yaml, &["data_dri", "data_dir", "bad.yaml:1:"]);
}

#[test]
fn wrong_type_names_its_place() {
    let yaml = GOOD.replace("include: [/var/log/app.log]", "include: [/var/log/app.log], max_line_bytes: lots");
    refused("wrong-type", &yaml, &["lots", "bad.yaml:3:"]);
    let yaml = GOOD.replace("inputs: [app]", "inputs: 7");
    refused("wrong-shape", &yaml, &["bad.yaml:5:"]);
}

#[test]
fn unknown_component_type_names_the_nearest() {
    refused(
        "unknown-type",
        &GOOD.replace("type: blackhole", "type: blackhol"),
        &["blackhol", "blackhole", "bad.yaml:7:"],
    );
}

#[test]
fn pipeline_of_an_unknown_input_names_it() {
    refused("unknown-input", &GOOD.replace("inputs: [app]", "inputs: [apq]"), &["apq", "app", "bad.yaml:5:"]);
}

#[test]
fn broken_yaml_names_its_place() {
    refused("broken", &GOOD.replace("[out]}", "[out]"), &["bad.yaml:"]);
}

#[test]
fn missing_configuration_file_is_named() {
    for verb in ["validate", "run"] {
        let output = run_to_end(&[verb, "-c", "/nonexistent/tailwater.yaml"]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{message}");
        assert!(message.contains("/nonexistent/tailwater.yaml"), "{message}");
    }
}

#[test]
fn missing_variable_is_named() {
    let yaml = GOOD.replace("/var/log/app.log", "${TAILWATER_SURELY_NOT_SET:?where the logs are}");
    refused("variable", &yaml, &["TAILWATER_SURELY_NOT_SET", "where the logs are", "bad.yaml:3:"]);
}

#[test]
fn wrong_arguments_exit_with_64() {
    for arguments in [["frobnicate"].as_slice(), &["run", "--no-such-flag"], &["run"]] {
        let output = run_to_end(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty());
    }
}
