//! Lines of one user: written all the time, and looked for in the output.
//!
//! Guarantees: each line is numbered, and belongs to the phase in which it was written. The first read that shows it counts.

use crate::measure;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a line is appended, and how many of them come before one in a new file.
const EACH: Duration = Duration::from_millis(50);
const APPENDED: usize = 20;
/// Number of new files that are there at a time.
const NEW_KEPT: usize = 10;
/// How often the output is read.
const LOOK: Duration = Duration::from_millis(5);
const MARK: &[u8] = b"perf-probe-";
const DIGITS: usize = 9;

struct Probe {
    phase: usize,
    is_new_file: bool,
    written: Instant,
    seen: Option<Instant>,
}

/// How late the lines of a phase were.
#[derive(Default)]
pub(super) struct Late {
    pub(super) appended_median: Duration,
    pub(super) appended_longest: Duration,
    pub(super) new_longest: Duration,
}

/// See the module.
pub(super) struct Probes {
    directory: PathBuf,
    output: PathBuf,
    phase: AtomicUsize,
    /// Ends both threads.
    pub(super) stop: AtomicBool,
    all: Mutex<Vec<Probe>>,
    failure: Mutex<Option<String>>,
}

impl Probes {
    pub(super) fn new(directory: &Path, output: &Path) -> Probes {
        Probes {
            directory: directory.to_owned(),
            output: output.to_owned(),
            phase: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            all: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Probe>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, lines belong to this phase.
    pub(super) fn begin(&self, phase: usize) -> Instant {
        self.phase.store(phase, Ordering::Relaxed);
        Instant::now()
    }

    /// What went wrong in one of the threads.
    pub(super) fn failure(&self) -> Result<(), String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        failure.map_or(Ok(()), Err)
    }

    fn fail(&self, path: &Path, error: &std::io::Error) {
        let message = format!("{}: {error}", path.display());
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
    }

    /// Waits until the lines of a phase have arrived.
    pub(super) fn all_arrived(&self, phase: usize, within: Duration) -> Result<(), String> {
        measure::wait_for("the lines of the other user", within, Duration::from_millis(20), || {
            self.failure()?;
            Ok(self.all().iter().all(|probe| probe.phase != phase || probe.seen.is_some()))
        })
    }

    /// How late the lines of a phase were that have arrived.
    pub(super) fn late(&self, phase: usize) -> Late {
        let (mut appended, mut late) = (Vec::new(), Late::default());
        for probe in self.all().iter().filter(|probe| probe.phase == phase) {
            let Some(seen) = probe.seen else { continue };
            match probe.is_new_file {
                true => late.new_longest = late.new_longest.max(seen - probe.written),
                false => appended.push(seen - probe.written),
            }
        }
        appended.sort_unstable();
        late.appended_median = appended.get(appended.len() / 2).copied().unwrap_or_default();
        late.appended_longest = appended.last().copied().unwrap_or_default();
        late
    }

    /// Writes lines until it is stopped.
    pub(super) fn write(&self) {
        let path = self.directory.join("app.log");
        if let Err(error) = self.write_to(&path) {
            self.fail(&path, &error);
        }
    }

    fn write_to(&self, path: &Path) -> std::io::Result<()> {
        let mut file = File::options().create(true).append(true).open(path)?;
        let mut new_files: Vec<PathBuf> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.all().len();
            let is_new_file = number % (APPENDED + 1) == APPENDED;
            let line = format!("{}{number:0DIGITS$}\n", String::from_utf8_lossy(MARK));
            let probe =
                Probe { phase: self.phase.load(Ordering::Relaxed), is_new_file, written: Instant::now(), seen: None };
            self.all().push(probe);
            if is_new_file {
                let new = self.directory.join(format!("new-{number}.log"));
                fs::write(&new, line)?;
                new_files.push(new);
                // Those before it have arrived, or their phase is not over.
                if new_files.len() > NEW_KEPT && self.all().iter().all(|probe| probe.seen.is_some()) {
                    fs::remove_file(new_files.remove(0))?;
                }
            } else {
                file.write_all(line.as_bytes())?;
            }
            measure::pause(EACH);
        }
        Ok(())
    }

    /// Reads the output until it is stopped.
    pub(super) fn watch(&self) {
        let (mut kept, mut buffer, mut at) = (Vec::new(), vec![0; 1 << 18], 0);
        let mut file = None;
        while !self.stop.load(Ordering::Relaxed) {
            file = file.or_else(|| File::open(&self.output).ok());
            let read = file.as_ref().map_or(Ok(0), |file| file.read_at(&mut buffer, at));
            match read {
                Ok(0) => measure::pause(LOOK),
                Ok(length) => {
                    at += length as u64;
                    kept.extend_from_slice(&buffer[..length]);
                    self.see(&mut kept, Instant::now());
                }
                Err(error) => return self.fail(&self.output, &error),
            }
        }
    }

    /// Notes the lines in what was read, and keeps the part that may be the beginning of one.
    fn see(&self, kept: &mut Vec<u8>, now: Instant) {
        let mut all = self.all();
        for start in memchr::memmem::find_iter(kept, MARK) {
            let digits = kept.get(start + MARK.len()..start + MARK.len() + DIGITS);
            let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
            if let Some(probe) = number.and_then(|number| all.get_mut(number)) {
                probe.seen.get_or_insert(now);
            }
        }
        let left = kept.len().saturating_sub(MARK.len() + DIGITS - 1);
        kept.drain(..left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_seen_wherever_reads_cut_it() {
        let text = b"{\"message\":\"perf-probe-000000001\"}\n{\"message\":\"perf-probe-000000000\"}\n";
        for cut in 0..text.len() {
            let probes = Probes::new(Path::new("/logs"), Path::new("/out"));
            let now = Instant::now();
            let probe = |phase| Probe { phase, is_new_file: phase == 1, written: now, seen: None };
            probes.all().extend([probe(0), probe(1)]);
            let mut kept = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                kept.extend_from_slice(part);
                probes.see(&mut kept, now + Duration::from_millis(7));
            }
            let (first, second) = (probes.late(0), probes.late(1));
            assert_eq!((first.appended_longest.as_millis(), second.new_longest.as_millis()), (7, 7), "cut at {cut}");
        }
    }
}
