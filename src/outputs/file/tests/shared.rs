//! A file belongs to one output at a time: two outputs in one process, two processes, two paths of one output.

use super::*;
use crate::config::claims::Claims;
use std::sync::Arc;
use tailwater_shards::env::{Disk as _, File as _, Open};
use tailwater_shards::sim::SimFile;

fn journal_of(name: &str) -> String {
    format!("/data/outputs/{name}.journal")
}

/// Outputs of one process, each with its own journal.
struct Outputs {
    disk: SimDisk,
    claims: Arc<Claims>,
}

impl Outputs {
    fn new() -> Outputs {
        let disk = SimDisk::new(1);
        disk.outside().create_dir_all("/out").expect("it is new");
        disk.outside().create_dir_all("/data").expect("it is new");
        Outputs { disk, claims: Arc::default() }
    }

    fn open(&self, name: &str, options: &Options, state: State, again_bytes: u64) -> std::io::Result<Writer<SimDisk>> {
        restored(self.means(name), options, &journal_of(name), state, Some(again_bytes))
    }

    fn means(&self, name: &str) -> Means<SimDisk> {
        let (disk, claims, counters) = (self.disk.of_this_process(), self.claims.clone(), Arc::default());
        Means { disk, name: name.into(), claims, blocked: Arc::default(), counters }
    }

    /// Who holds a file that a start would restore to this state, if anybody does.
    fn held(&self, name: &str, state: &State) -> Option<String> {
        let journal = journal_of(name);
        let writer = Writer::new(self.means(name), options(), Path::new(&journal), state).expect("it is readable");
        writer.held(state).expect("it is readable").map(|held| held.to_string())
    }

    fn opened(&self, name: &str) -> Writer<SimDisk> {
        self.open(name, &options(), State::default(), 0).expect("nothing is in the way")
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(self.disk.outside().read(path).expect("it is there")).expect("text")
    }

    /// A program that holds the lock of a file.
    fn other_process(&self, path: &str) -> SimFile {
        let file = self.disk.open(Path::new(path), Open::Create).expect("it opens");
        file.try_lock().expect("nobody has it");
        file
    }
}

#[test]
fn two_outputs_take_turns_with_a_file_and_no_line_is_torn_or_lost() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let outputs = Outputs::new();
        let options = Options { compression, ..options() };
        let open = |name| outputs.open(name, &options, State::default(), 0).expect("nothing is in the way");
        let mut writers = [open("one"), open("other")];
        let (mut waits, mut clock) = (0, 0);
        for round in 0..20 {
            for (number, writer) in writers.iter_mut().enumerate() {
                let line = format!("{{\"output\":{number},\"round\":{round}}}\n");
                clock += 100;
                match writer.accept(vec![group("/out/x.log", &line)], now(clock)) {
                    Ok(_) => drop(writer.commit(now(clock)).expect("it commits")),
                    Err(error) => {
                        assert!(error.contains("the output `o"), "{error}");
                        assert!(writer.is_next(), "it is asked for again soon");
                        waits += 1;
                    }
                }
            }
        }
        writers.iter_mut().for_each(|writer| drop(writer.commit(now(clock)).expect("it commits")));
        let text = content(&outputs.disk.outside(), "/out/x.log", compression);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect();
        assert_eq!(lines.len() + waits, 40, "{compression:?}");
        for number in 0..2 {
            let count = lines.iter().filter(|line| line["output"] == number).count();
            assert!(count > 5, "{compression:?}: {count} lines of output {number}");
        }
    }
}

#[test]
fn outputs_that_wait_for_each_other_both_finish() {
    let outputs = Outputs::new();
    let (mut one, mut other) = (outputs.opened("one"), outputs.opened("other"));
    one.accept(vec![group("/out/a", "1\n")], now(1)).expect("nothing is in the way");
    other.accept(vec![group("/out/b", "2\n")], now(1)).expect("nothing is in the way");
    let mut left = [true, true];
    for attempt in 2..100 {
        // No commit while a delivery waits: the engine commits nothing then.
        for (writer, number, path, line) in [(&mut one, 0, "/out/b", "3\n"), (&mut other, 1, "/out/a", "4\n")] {
            left[number] = left[number] && writer.accept(vec![group(path, line)], now(attempt)).is_err();
            if !left[number] {
                writer.commit(now(attempt)).expect("it commits");
                writer.look_after(now(attempt)).expect("nothing is in the way");
            }
        }
    }
    assert_eq!(left, [false, false]);
    assert_eq!((outputs.text("/out/a"), outputs.text("/out/b")), ("1\n4\n".to_owned(), "2\n3\n".to_owned()));
}

#[test]
fn bytes_of_another_output_are_not_removed_after_a_crash() {
    for (commits, last) in [Crash::Process, Crash::Power].into_iter().flat_map(|last| [(false, last), (true, last)]) {
        let outputs = Outputs::new();
        let mut one = outputs.opened("one");
        one.accept(vec![group("/out/x", "a\n")], now(1)).expect("nothing is in the way");
        let state = one.commit(now(1)).expect("it commits");
        let mut other = outputs.opened("other");
        other.accept(vec![group("/out/x", "b\n")], now(2)).expect_err("the first has it");
        if commits {
            // A commit released it, and the WAL then lost this commit in a power loss.
            one.accept(vec![group("/out/y", "c\n")], now(3)).expect("nothing is in the way");
            one.commit(now(3)).expect("it commits");
        } else {
            one.look_after(now(3)).expect("nothing is in the way");
        }
        other.accept(vec![group("/out/x", "b\n")], now(4)).expect("the first has let go");
        other.commit(now(4)).expect("it commits");
        drop((one, other));
        outputs.disk.outside().sync_all();
        outputs.disk.crash(last);
        let mut one = outputs.open("one", &options(), state, 1000).expect("nothing is in the way");
        assert_eq!(outputs.text("/out/x"), "a\nb\n");
        one.accept(vec![group("/out/x", "d\n")], now(5)).expect("nobody has it");
        assert_eq!(outputs.text("/out/x"), "a\nb\nd\n");
    }
}

/// A sync that was cancelled may have the file open for a long time.
#[test]
fn file_of_a_closed_output_is_free_even_if_its_descriptor_is_still_open() {
    let outputs = Outputs::new();
    let mut writer = outputs.opened("one");
    writer.accept(vec![group("/out/x", "a\n")], now(1)).expect("nothing is in the way");
    let in_sync = writer.dirty_files();
    assert_eq!(in_sync.len(), 1);
    drop(writer);
    drop(outputs.other_process("/out/x"));
    drop(in_sync);
}

#[test]
fn file_that_another_process_holds_is_named_and_waited_for() {
    let outputs = Outputs::new();
    let held = outputs.other_process("/out/x");
    let mut writer = outputs.opened("one");
    let error = writer.accept(vec![group("/out/x", "a\n")], now(1)).expect_err("it is held");
    assert!(error.contains("cannot open /out/x: another process has it open for writing"), "{error}");
    assert!(error.contains("Its events wait in the write-ahead log"), "{error}");
    assert!(!writer.is_next(), "there is no saying when another process lets go");
    writer.accept(vec![group("/out/y", "b\n")], now(1)).expect("nobody has the other file");
    drop(held);
    writer.accept(vec![group("/out/x", "a\n")], now(2)).expect("it is free");
    assert_eq!((outputs.text("/out/x"), outputs.text("/out/y")), ("a\n".to_owned(), "b\n".to_owned()));
    let file = outputs.disk.open(Path::new("/out/x"), Open::Write).expect("it opens");
    assert!(file.try_lock().is_err(), "now it is the output's");
    writer.commit(now(2)).expect("it commits");
    drop(writer);
    file.try_lock().expect("it is free again");
}

/// The second of two processes with the same configuration starts, truncates nothing, and continues when the first ends.
#[test]
fn start_truncates_no_file_that_another_process_holds() {
    let outputs = Outputs::new();
    let mut writer = outputs.opened("one");
    writer.accept(vec![group("/out/x", "a\n")], now(1)).expect("nothing is in the way");
    let state = writer.commit(now(1)).expect("it commits");
    writer.accept(vec![group("/out/x", "b\n")], now(2)).expect("nothing is in the way");
    drop(writer);
    outputs.disk.crash(Crash::Process);
    assert_eq!(outputs.held("one", &state), None);
    let held = outputs.other_process("/out/x");
    let told = outputs.held("one", &state).expect("it is held");
    assert_eq!(told, "/out/x: another process has it open for writing");
    let error = outputs.open("one", &options(), state.clone(), 2).err().expect("it is held");
    assert!(error.to_string().contains("has it open for writing"), "{error}");
    assert_eq!(outputs.text("/out/x"), "a\nb\n");
    drop(held);
    assert_eq!(outputs.held("one", &state), None);
    drop(outputs.open("one", &options(), state, 2).expect("it is free"));
    assert_eq!(outputs.text("/out/x"), "a\n");
}

#[test]
fn two_paths_of_an_output_to_one_file_hold_each_line_once() {
    let outputs = Outputs::new();
    let disk = outputs.disk.outside();
    disk.create_dir_all("/out/a").expect("it is new");
    disk.symlink("/out/a", "/out/b").expect("it is new");
    // The administrator's link, not one below the fixed directory.
    let options = Options { fixed: "/out/b".into(), ..options() };
    let mut writer = outputs.open("one", &options, State::default(), 0).expect("nothing is in the way");
    let mut expected = String::new();
    for round in 0..5 {
        let groups = ["a", "b"].map(|name| group(&format!("/out/{name}/x"), &format!("{name}{round}\n"))).into();
        expected.push_str(&format!("a{round}\nb{round}\n"));
        writer.accept(groups, now(round)).expect("nothing is in the way");
        if round == 2 {
            writer.commit(now(round)).expect("it commits");
        }
    }
    writer.commit(now(9)).expect("it commits");
    assert_eq!(outputs.text("/out/a/x"), expected);
}

#[test]
fn file_closed_because_of_the_limit_is_free_for_others_after_the_commit() {
    let outputs = Outputs::new();
    let few = Options { open_files_max: 1, ..options() };
    let mut writer = outputs.open("one", &few, State::default(), 0).expect("nothing is in the way");
    writer.accept(vec![group("/out/x", "a\n")], now(1)).expect("nothing is in the way");
    writer.accept(vec![group("/out/y", "a\n")], now(1)).expect("nothing is in the way");
    // Back before the commit: it still holds the file.
    writer.accept(vec![group("/out/x", "b\n")], now(1)).expect("nothing is in the way");
    writer.commit(now(1)).expect("it commits");
    drop(outputs.other_process("/out/y"));
    assert_eq!((outputs.text("/out/x"), outputs.text("/out/y")), ("a\nb\n".to_owned(), "a\n".to_owned()));
}

/// One process is killed; another one with the same path writes, commits and ends; then the first starts again.
#[test]
fn lines_that_another_process_wrote_meanwhile_are_kept() {
    for uncommitted in ["", "b\n"] {
        let outputs = Outputs::new();
        let mut one = outputs.opened("one");
        one.accept(vec![group("/out/x", "a\n")], now(1)).expect("nothing is in the way");
        let state = one.commit(now(1)).expect("it commits");
        if !uncommitted.is_empty() {
            one.accept(vec![group("/out/x", uncommitted)], now(2)).expect("nothing is in the way");
        }
        drop(one);
        outputs.disk.crash(Crash::Process);
        let elsewhere = Outputs { disk: outputs.disk.clone(), claims: Arc::default() };
        let mut other = elsewhere.opened("other");
        other.accept(vec![group("/out/x", "c\n")], now(3)).expect("nobody has it");
        // The first waits for the lock, with all that comes again.
        let error = outputs.open("one", &options(), state.clone(), 1000).err().expect("it is held");
        assert!(error.to_string().contains("/out/x: another process has it open for writing"), "{error}");
        other.commit(now(3)).expect("it commits");
        other.close(now(3)).expect("it closes");
        drop(other);
        drop(outputs.open("one", &options(), state, 1000).expect("it is free"));
        assert_eq!(outputs.text("/out/x"), format!("a\n{uncommitted}c\n"));
    }
}

/// A killed output is restored, writes nothing and is killed again; then it must not know the file from before the first kill.
#[test]
fn file_that_was_restored_and_not_used_is_left_to_other_outputs() {
    for last in [Crash::Process, Crash::Power] {
        let outputs = Outputs::new();
        let mut other = outputs.opened("other");
        other.accept(vec![group("/out/x", "b\n")], now(1)).expect("nothing is in the way");
        drop(other);
        outputs.disk.crash(Crash::Process);
        let restored = outputs.open("other", &options(), State::default(), 1000).expect("nothing is in the way");
        assert_eq!(outputs.text("/out/x"), "");
        let mut one = outputs.opened("one");
        one.accept(vec![group("/out/x", "a\n")], now(2)).expect("nobody has it");
        one.commit(now(2)).expect("it commits");
        drop((restored, one));
        outputs.disk.outside().sync_all();
        outputs.disk.crash(last);
        drop(outputs.open("other", &options(), State::default(), 1000).expect("nothing is in the way"));
        assert_eq!(outputs.text("/out/x"), "a\n", "{last:?}");
    }
}

#[test]
fn failed_opening_does_not_reserve_files_for_itself() {
    let outputs = Outputs::new();
    let mut one = outputs.opened("one");
    one.accept(vec![group("/out/x", "a\n")], now(1)).expect("nothing is in the way");
    let state = one.commit(now(1)).expect("it commits");
    one.accept(vec![group("/out/x", "b\n")], now(2)).expect("nothing is in the way");
    drop(one);
    let mut holder = outputs.opened("holder");
    holder.accept(vec![group("/out/x", "c\n")], now(3)).expect("nobody has it");
    let error = outputs.open("one", &options(), state.clone(), 1000).err().expect("it is held");
    assert!(error.to_string().contains("the output `holder` has it open"), "{error}");
    let waiting =
        Writer::new(outputs.means("one"), options(), Path::new(&journal_of("one")), &state).expect("readable");
    let held = waiting.held(&state).expect("readable");
    assert!(held.is_none(), "an output of the same process is not waited for here");
    holder.commit(now(4)).expect("it commits");
    holder.accept(vec![group("/out/x", "d\n")], now(5)).expect("nobody was put in line for it");
    drop((holder, waiting));
    outputs.open("one", &options(), state, 1000).expect("it is free, at the first attempt");
}
