//! The product with one `file` input, started, stopped and restarted by a case.

use crate::case::Case;
use crate::lines::{Arrived, LineCount, arrived};
use crate::metrics;
use crate::product::Product;
use crate::wait::wait_for;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A case with its product and the lines delivered so far.
pub struct Running {
    // Dropped first: the end of its log is in a file of the case.
    pub product: Product,
    pub case: Case,
    config: PathBuf,
    count: LineCount,
}

impl Running {
    /// Starts the product on the files that `include` matches below the case's directory. `settings` are further settings of
    /// the input, as `, key: value`.
    pub fn start(case: Case, include: &str, settings: &str) -> Running {
        let input = format!("{{type: file, include: [\"{}\"]{settings}}}", case.path(include).display());
        let config = case.configure(&input, &case.json_output());
        Running::start_with(case, config)
    }

    /// Starts the product with this configuration.
    pub fn start_with(case: Case, config: PathBuf) -> Running {
        let product = Product::start(&case, &config);
        Running::of(case, config, product)
    }

    /// A product that was started with this configuration.
    pub fn of(case: Case, config: PathBuf, product: Product) -> Running {
        let count = LineCount::of(case.output());
        Running { case, product, config, count }
    }

    /// Waits until this many lines were delivered.
    pub fn wait(&mut self, lines: u64) {
        self.count.wait(lines, &mut self.product);
    }

    /// Waits until the product follows this many files.
    pub fn wait_for_files(&mut self, files: u64) {
        wait_for(&format!("{files} followed files"), || {
            match metrics::sum(self.case.admin_port, "tailwater_files", &[])? {
                followed if followed == files => Ok(()),
                followed => Err(format!("{followed}; {}", self.product.state())),
            }
        });
    }

    /// Stops the product as an operator does.
    pub fn terminate(self) -> Stopped {
        self.product.terminate();
        Stopped { case: self.case, config: self.config }
    }

    /// Kills the product.
    pub fn kill(self) -> Stopped {
        self.product.kill();
        Stopped { case: self.case, config: self.config }
    }

    /// Waits for all lines, stops the product, and checks that each line arrived once and nothing else did.
    pub fn finish(mut self, lines: u64) -> (Case, Arrived) {
        self.wait(lines);
        let case = self.terminate().case;
        let all = arrived(&case.output(), lines);
        all.assert_exactly_once();
        (case, all)
    }
}

/// A case between two starts of its product.
pub struct Stopped {
    pub case: Case,
    config: PathBuf,
}

impl Stopped {
    pub fn start(self) -> Running {
        Running::start_with(self.case, self.config)
    }
}

/// Appends to a file, and creates it if it does not exist.
pub fn append(path: &Path, bytes: &[u8]) {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(bytes)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

pub fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).ino()
}
