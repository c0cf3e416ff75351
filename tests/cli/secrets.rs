//! Secrets in a configuration: no command shows them, and what exposes them is told with a next step.

use crate::{command, text};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn configuration(directory: &Path, outputs: &str) -> String {
    format!(
        "data_dir: {}\nadmin: false\ninputs: {{app: {{type: stdin}}}}\npipelines: {{main: {{inputs: [app], outputs: [out]}}}}\n\
         outputs:\n  out: {outputs}\n",
        directory.join("data").display()
    )
}

/// Writes a configuration with these rights and validates it: the exit code, and what is told.
fn validated(outputs: &str, mode: u32) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("c.yaml");
    fs::write(&file, configuration(directory.path(), outputs)).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("its owner may");
    let path = file.to_str().expect("UTF-8").to_owned();
    // Which authorities this machine trusts is another matter.
    let no_files = outputs.contains("https://").then_some("--no-files");
    let all: Vec<&str> = ["validate", "-c", &path].into_iter().chain(no_files).collect();
    let output = command(&all).env("PASSWORD", "hunter2hunter2").output().expect("the binary runs");
    (output.status.code(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}

const LITERAL: &str = "{type: http, url: \"https://a/\", auth: {bearer: hunter2}, headers: {X-Key: hunter3}}";

#[test]
fn literal_secret_in_a_readable_file_is_told() {
    for (mode, is_told) in [(0o644, true), (0o604, true), (0o600, false), (0o640, false)] {
        let (code, told) = validated(LITERAL, mode);
        assert_eq!(code, Some(0), "a warning is no error: {told}");
        assert_eq!(
            told.contains("a secret is written in a file that every user can read"),
            is_told,
            "{mode:o}: {told}"
        );
        assert!(!told.contains("hunter"), "{told}");
        if is_told {
            assert!(
                told.contains("this one and 1 more") && told.contains("chmod 0640") && told.contains("${NAME}"),
                "{told}"
            );
            assert!(told.contains("c.yaml:6:"), "{told}");
        }
    }
    for of_url in [
        "{type: http, url: \"https://a/\", proxy: \"http://u:hunter2@p:1\"}",
        "{type: http, url: \"https://a/in?x=1&api_key=hunter2\"}",
        "{type: http, url: https://a/in?token=hunter2}",
    ] {
        let (_, told) = validated(of_url, 0o644);
        assert!(told.contains("a secret is written") && !told.contains("hunter"), "{of_url}: {told}");
    }
    for open in [
        "{type: http, url: \"https://a/\", auth: {basic: {user: u, password: \"${PASSWORD}\"}}}",
        "{type: http, url: \"https://a/\", auth: {bearer: \"${TOKEN:-none}\"}, proxy: none}",
        "{type: http, url: \"https://a/in?token=${PASSWORD}\"}",
        "{type: http, url: \"https://a/in?x=1\", proxy: \"http://p:3128\"}",
    ] {
        let (code, told) = validated(open, 0o644);
        assert!(code == Some(0) && !told.contains("warning"), "{open}: {told}");
    }
}

#[test]
fn credentials_without_encryption_are_told() {
    let warns = |outputs: &str| {
        let (code, told) = validated(outputs, 0o600);
        assert_eq!(code, Some(0), "{told}");
        told.contains("credentials are sent without encryption to http://")
    };
    for outputs in [
        "{type: http, url: \"http://a/\", auth: {bearer: hunter2}}",
        "{type: http, url: \"http://10.0.0.1:8080/\", headers: {X-Api-Key: hunter2}}",
        "{type: elasticsearch, endpoints: [\"http://127.0.0.1:9200\", \"http://b:9200\"], index: i, auth: {api_key: hunter2}}",
    ] {
        assert!(warns(outputs), "{outputs}");
    }
    for outputs in [
        "{type: http, url: \"http://a/\", headers: {X-Tenant: t}}",
        "{type: http, url: \"http://localhost/\", auth: {bearer: hunter2}}",
        "{type: http, url: \"http://[::1]:1/\", auth: {bearer: hunter2}}",
        "{type: http, url: \"https://a/\", auth: {bearer: hunter2}}",
        "{type: elasticsearch, endpoints: [\"http://127.8.0.1:9200\"], index: i, auth: {api_key: hunter2}}",
    ] {
        assert!(!warns(outputs), "{outputs}");
    }
}

#[test]
fn endpoints_of_which_only_some_use_tls_are_told() {
    let outputs = "{type: elasticsearch, endpoints: [\"https://a:9200\", \"http://b:9200\"], index: i}";
    let (code, told) = validated(outputs, 0o600);
    assert!(code == Some(0) && told.contains("http://b:9200 is used without encryption"), "{told}");
    let outputs = "{type: elasticsearch, endpoints: [\"http://a:9200\", \"http://b:9200\"], index: i}";
    assert!(!validated(outputs, 0o600).1.contains("without encryption"));
}

#[test]
fn readable_private_key_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("key.pem");
    fs::write(&key, "no key").expect("written");
    let tls = format!("tls: {{cert_file: {0}, key_file: {0}}}", key.display());
    let outputs = format!("{{type: http, url: \"https://a/\", {tls}}}");
    for (mode, is_told) in [(0o644, true), (0o600, false)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("its owner may");
        let (code, told) = validated(&outputs, 0o600);
        assert_eq!(code, Some(0), "{told}");
        assert_eq!(told.contains("every user can read the private key"), is_told, "{mode:o}: {told}");
        assert_eq!(told.contains("chmod 0640"), is_told, "{told}");
    }
}

#[test]
fn start_logs_what_is_exposed_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("c.yaml");
    fs::write(&file, configuration(directory.path(), LITERAL)).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("its owner may");
    let output = command(&["run", "-c", file.to_str().expect("UTF-8")])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the binary runs");
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert_eq!(log.matches("a secret is written in a file").count(), 1, "{log}");
    assert!(log.contains("\"level\":\"warn\"") && !log.contains("hunter"), "{log}");
}
