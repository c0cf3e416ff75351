//! The memory of the process, which holds passwords and events: neither a core file nor another process of the same user gets it.
//!
//! Guarantees: the attack is a real one, and succeeds where the switch for debugging is set. Everything that the product reads of itself
//! below `/proc/self` works for an ordinary user all the same: files are reopened through it, and memory that stands for files.

use crate::case::Case;
use crate::disks::not_checked;
use crate::lines::{LineCount, arrived, block};
use crate::product::{Product, give_away, is_root, unprivileged};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

const LINES: u64 = 500;

/// What another process of the product's user gets of a file of the product's below `/proc`.
fn stolen(product: &Product, file: &str) -> bool {
    let path = format!("/proc/{}/{file}", product.id());
    let mut command = Command::new(if is_root() { "setpriv" } else { "env" });
    if is_root() {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    }
    let output = command.args(["cat", &path]).stdin(Stdio::null()).output().expect("cat is there");
    output.status.success() && !output.stdout.is_empty()
}

/// A product of an ordinary user that follows a file.
fn started(case: &Case, debugged: bool) -> Product {
    let config = case.files_to_file("logs/*.log");
    let log = case.write("logs/a.log", &block(1, LINES));
    ["logs", "data", "out"].iter().for_each(|name| give_away(&case.path(name)));
    give_away(&log);
    let user = unprivileged(case);
    // What a shell for debugging has set.
    let mut command = Command::new(if is_root() { "prlimit" } else { "env" });
    if is_root() {
        command.args(["--core=unlimited", "--"]);
    }
    command.arg(user.get_program()).args(user.get_args()).arg("run").arg("-c").arg(config).stdin(Stdio::null());
    // Where it may write a core file.
    command.current_dir(case.path("out")).env("TAILWATER_CORE_DUMPS", if debugged { "1" } else { "" });
    Product::start_with(case, &mut command)
}

#[test]
fn nobody_of_the_same_user_reads_the_memory() {
    for extra in ["", "wal: {type: memory, segment_bytes: 4MiB, max_bytes: 64MiB}\n"] {
        let mut case = Case::new("private");
        case.extra = extra.to_owned();
        let mut product = started(&case, false);
        let output = case.output();
        LineCount::of(output.clone()).wait(LINES, &mut product);
        for file in ["environ", "maps", "auxv"] {
            assert!(!stolen(&product, file), "{file} is readable");
        }
        let limits = fs::read_to_string(format!("/proc/{}/limits", product.id())).expect("the process runs");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
        product.terminate();
        arrived(&output, LINES).assert_exactly_once();
    }
}

/// A crash, with a debugger's switch and without it: the kernel would write everything that the process knows to a file of its user.
#[test]
fn crash_leaves_no_core_file() {
    for debugged in [true, false] {
        let case = Case::new("crashed");
        let mut product = started(&case, debugged);
        LineCount::of(case.output()).wait(LINES, &mut product);
        product.signal("ABRT");
        let status = product.wait();
        assert_eq!(status.signal(), Some(6), "{}", product.state());
        let cores =
            || fs::read_dir(case.path("out")).expect("a folder").flatten().filter(|file| file.path() != case.output());
        if debugged && !status.core_dumped() {
            return not_checked("core files", "this machine writes none");
        }
        assert!(debugged || (!status.core_dumped() && cores().count() == 0), "a core file was written");
    }
}

#[test]
fn switch_for_debugging_lets_the_same_user_in() {
    let case = Case::new("debugged");
    let mut product = started(&case, true);
    LineCount::of(case.output()).wait(LINES, &mut product);
    assert!(stolen(&product, "environ"), "the attack of the other test works where nothing holds it back");
    product.terminate();
}
