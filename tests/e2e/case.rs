//! A case: the directory and configuration of one test. At most two run at the same time, so that each has its own core.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use tailwater_services::ports::free_port;
use tempfile::TempDir;

const CASES_AT_ONCE: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

struct Turn(usize);

impl Turn {
    /// Takes this many of the slots, when they are free.
    fn take(places: usize) -> Turn {
        // A failed case poisons nothing: the number is right whatever happened.
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        while *running + places > CASES_AT_ONCE {
            running = ENDED.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += places;
        Turn(places)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        ENDED.notify_all();
    }
}

/// The directory of one test: `logs/` to read from, `data/` for the product, `out/` to write to. It is removed at the end,
/// and kept if `TAILWATER_KEEP` is set.
pub struct Case {
    folder: PathBuf,
    pub admin_port: u16,
    pub shards: usize,
    /// Top-level lines of the configuration in addition to the fixed ones.
    pub extra: String,
    _removed: Option<TempDir>,
    _turn: Turn,
}

impl Case {
    pub fn new(name: &str) -> Case {
        Case::with(name, Turn::take(1))
    }

    /// A case that runs alone, because it affects or measures the machine.
    pub fn alone(name: &str) -> Case {
        Case::with(name, Turn::take(CASES_AT_ONCE))
    }

    fn with(name: &str, turn: Turn) -> Case {
        let folder =
            tempfile::Builder::new().prefix(&format!("tailwater-{name}-")).tempdir().expect("a temporary folder");
        // Some cases run the product as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let (path, removed) = match std::env::var_os("TAILWATER_KEEP") {
            Some(_) => (folder.keep(), None),
            None => (folder.path().to_owned(), Some(folder)),
        };
        for part in ["logs", "data", "out"] {
            fs::create_dir(path.join(part)).expect("a folder");
        }
        Case { folder: path, admin_port: free_port(), shards: 1, extra: String::new(), _removed: removed, _turn: turn }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.join(below)
    }

    /// Where the product writes in most cases.
    pub fn output(&self) -> PathBuf {
        self.path("out/events.json")
    }

    /// A configuration that sends files matching `include` (below the directory) to [`Case::output`].
    pub fn files_to_file(&self, include: &str) -> PathBuf {
        let input = format!("{{type: file, include: [\"{}\"]}}", self.path(include).display());
        self.configure(&input, &self.json_output())
    }

    /// Like [`Case::files_to_file`], with other paths below the directory: `(usual, other)`.
    pub fn files_to_file_with(&self, include: &str, moves: &[(&str, &str)]) -> PathBuf {
        let config = self.files_to_file(include);
        let path = |below: &str| self.path(below).to_str().expect("UTF-8").to_owned();
        let mut text = fs::read_to_string(&config).expect("the configuration");
        for (usual, other) in moves {
            text = text.replace(&path(usual), &path(other));
        }
        self.write("tailwater.yaml", text.as_bytes())
    }

    pub fn json_output(&self) -> String {
        // Short retry intervals, so that a case sees a repaired output soon.
        format!("{{type: file, path: \"{}\", retry: {{initial: 50ms, max: 500ms}}}}", self.output().display())
    }

    /// Writes the configuration file with these settings for its only input and output.
    pub fn configure(&self, input: &str, output: &str) -> PathBuf {
        let text = format!(
            "data_dir: \"{}\"\nshards: {}\nadmin: {{listen: \"127.0.0.1:{}\"}}\n{}inputs:\n  app: {input}\npipelines:\n  \
             main: {{inputs: [app], outputs: [out]}}\noutputs:\n  out: {output}\n",
            self.path("data").display(),
            self.shards,
            self.admin_port,
            self.extra,
        );
        self.write("tailwater.yaml", text.as_bytes())
    }

    pub fn write(&self, below: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(below);
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}
