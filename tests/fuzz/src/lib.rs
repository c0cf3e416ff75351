//! Formats that are read from disk or written by others, with hostile bytes: one table of targets, each a plain function of
//! bytes.
//!
//! Guarantees: a target fails (panics) for a crash and for each broken promise that its file lists. The corpus in
//! `corpus/NAME` is replayed by every ordinary test run, so what was found once stays found. `tests/tools.sh` builds the
//! targets with libFuzzer and AddressSanitizer and runs them: `tests/tools.sh fuzz 20` for twenty seconds each. The directory
//! has the layout of cargo-fuzz: `RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz --features libfuzzer NAME`.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod configuration;
pub mod expression;
pub mod frame;
pub mod json_lines;
pub mod log;
pub mod manifest;
pub mod outputs;
pub mod script;
pub mod segment;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

/// The result of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes are valid for what it reads.
    Accepted,
    /// They are not, and were rejected in the right way.
    Refused,
}

impl Verdict {
    /// Accepted or rejected.
    pub fn accepted(accepted: bool) -> Verdict {
        if accepted { Verdict::Accepted } else { Verdict::Refused }
    }
}

/// One row of the table.
pub struct Target {
    /// The name of the program and the corpus.
    pub name: &'static str,
    /// Panics if a promise is broken.
    pub check: fn(&[u8]) -> Verdict,
}

/// All targets except the canary, which must fail.
pub const TARGETS: [Target; 9] = [
    Target { name: "frame", check: frame::check },
    Target { name: "segment", check: segment::check },
    Target { name: "log", check: log::check },
    Target { name: "checkpoint", check: checkpoint::check },
    Target { name: "outputs", check: outputs::check },
    Target { name: "manifest", check: manifest::check },
    Target { name: "configuration", check: configuration::check },
    Target { name: "json_lines", check: json_lines::check },
    Target { name: "expression", check: expression::check },
];

/// A target that must fail: a build that does not find this finds nothing.
pub const CANARY: Target = Target { name: "canary", check: canary };

fn canary(data: &[u8]) -> Verdict {
    let word = data.first_chunk::<4>().map_or(0, |word| u32::from_le_bytes(*word));
    assert_ne!(word ^ 0x5a5a_5a5a, u32::from_le_bytes(*b"tide"), "the canary was found");
    Verdict::Refused
}

fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| if name == CANARY.name { &CANARY } else { panic!("no target is named {name}") })
}

/// Runs one target on one input.
pub fn run(name: &str, data: &[u8]) {
    (target(name).check)(data);
}

/// Runs one target on the files in the arguments, and prints the result of each.
pub fn replay(name: &str) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for path in std::env::args_os().skip(1) {
        let path = std::path::PathBuf::from(path);
        match std::fs::read(&path) {
            Ok(data) => println!("{}: {:?}", path.display(), (target(name).check)(&data)),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}
