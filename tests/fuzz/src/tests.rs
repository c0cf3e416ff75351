//! Replays the corpora and random bytes in the ordinary test run.

use crate::{CANARY, TARGETS, Verdict};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Maximum size of a file in a corpus: slow inputs are of no use there.
const SEED_BYTES_MAX: u64 = 16 * 1024;

fn corpus(name: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry of a corpus").path()).collect();
    files.sort();
    files
}

#[test]
fn every_corpus_keeps_every_promise_and_reaches_both_verdicts() {
    for target in &TARGETS {
        let (mut accepted, mut refused) = (0, 0);
        for path in corpus(target.name) {
            let data = std::fs::read(&path).expect("a seed can be read");
            assert!(data.len() as u64 <= SEED_BYTES_MAX, "{} has {} bytes", path.display(), data.len());
            match catch_unwind(AssertUnwindSafe(|| (target.check)(&data))) {
                Ok(Verdict::Accepted) => accepted += 1,
                Ok(Verdict::Refused) => refused += 1,
                Err(_) => panic!("{} breaks a promise, see above", path.display()),
            }
        }
        assert!(accepted >= 3 && refused >= 1, "{}: {accepted} accepted, {refused} refused", target.name);
    }
}

#[test]
fn canary_is_found() {
    let guilty = (u32::from_le_bytes(*b"tide") ^ 0x5a5a_5a5a).to_le_bytes();
    assert!(catch_unwind(|| (CANARY.check)(&guilty)).is_err());
    assert_eq!((CANARY.check)(b"tide"), Verdict::Refused);
}

/// Random histories of a WAL, without a fuzzer: the model test of the write-ahead log against a vector.
#[test]
fn random_scripts_of_a_log_keep_every_promise() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for script in 0..5000 {
        let length = 200 + random() as usize % 1800;
        let bytes: Vec<u8> = (0..length).map(|_| (random() >> 24) as u8).collect();
        let kept = catch_unwind(AssertUnwindSafe(|| crate::log::check(&bytes)));
        assert!(kept.is_ok(), "script {script} breaks a promise: {bytes:?}");
    }
}
