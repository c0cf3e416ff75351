//! `wal` with missing logs and segments, and on a read-only file system.

use super::{bytes_below, tailwater, text, write_log};
use std::path::Path;
use std::process::{Command, Output};
use tailwater_shards::glommio_env::RealDisk;
use tailwater_shards::wal::LogId;
use tailwater_shards::wal::manifest::{DataDirectory, KnownLogs};

/// A data directory with a log that a start continued.
fn started(root: &Path) {
    write_log(root);
    let mut directory = DataDirectory::open(RealDisk::new(), root).expect("the data directory opens");
    let outputs = directory.outputs().to_vec();
    directory
        .set_contents(&outputs, KnownLogs { written: vec![LogId(1)], ..KnownLogs::default() })
        .expect("the manifest is written");
}

fn check(root: &Path) -> Output {
    tailwater(&["wal", "check", "--data-dir", root.to_str().expect("UTF-8")])
}

#[test]
fn wal_check_reports_logs_that_a_start_would_miss() {
    type Loss = fn(&Path);
    let losses: [(&str, Loss); 5] = [
        ("the segment is removed", |log| std::fs::remove_file(log.join("0000000000000001.seg")).expect("it is there")),
        ("it is empty", |log| std::fs::write(log.join("0000000000000001.seg"), b"").expect("it is there")),
        ("it is zeroed", |log| {
            std::fs::write(log.join("0000000000000001.seg"), vec![0; 1 << 20]).expect("it is there")
        }),
        ("the log is removed", |log| std::fs::remove_dir_all(log).expect("it is there")),
        ("all logs are", |log| std::fs::remove_dir_all(log.parent().expect("it has one")).expect("it is there")),
    ];
    for (what, lose) in losses {
        let directory = tempfile::tempdir().expect("a directory");
        started(directory.path());
        assert_eq!(check(directory.path()).status.code(), Some(0));
        lose(&directory.path().join("wal/log-00000001"));
        let before = bytes_below(directory.path());
        let found = check(directory.path());
        let (out, err) = (text(&found.stdout), text(&found.stderr));
        assert_eq!(found.status.code(), Some(1), "{what}: {out}{err}");
        assert!(out.contains("log 1: missing: "), "{what}: {out}");
        assert!(out.ends_with("1 damaged place\n"), "{what}: {out}");
        assert!(!out.contains("segment 0") && !err.contains("has not run there yet"), "{what}: {out}{err}");
        assert!(bytes_below(directory.path()) == before, "{what}: a read-only command has written");
    }
}

/// Two readers do not mistake each other for an engine.
#[test]
fn wal_commands_work_on_a_read_only_file_system() {
    let directory = tempfile::tempdir().expect("a directory");
    started(directory.path());
    let root = directory.path().to_str().expect("UTF-8");
    let mount = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"";
    let sealed = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--mount", "sh", "-c", &format!("{mount} && {script}"), root]);
        unshare.arg(env!("CARGO_BIN_EXE_tailwater")).output()
    };
    if !sealed("! touch \"$0/file\" 2>/dev/null").is_ok_and(|output| output.status.success()) {
        eprintln!("not checked: the wal verbs on a read-only file system, which needs the right to mount");
        return;
    }
    for (verb, shown) in [("ls", "6 events"), ("cat", "{\"n\":5}"), ("check", "0 damaged places")] {
        let output = sealed(&format!("exec \"$1\" wal {verb} --data-dir \"$0\"")).expect("it ran before");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{verb}: {out}{err}");
        assert!(out.contains(shown) && err.is_empty(), "{verb}: {out}{err}");
    }
    let held = std::fs::File::open(directory.path().join("lock")).expect("the lock");
    held.try_lock_shared().expect("nobody has it");
    let beside = tailwater(&["wal", "ls", "--data-dir", root]);
    assert!(beside.stderr.is_empty(), "{}", text(&beside.stderr));
}
