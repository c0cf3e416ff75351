//! Failures that concern one file alone: its events become dead letters, and the other files are restored and written.
//!
//! Guarantees: that happens only if events choose the paths, and only where others than this user and root decide about what is at the
//! path. There, what counts is the place and not the error: whatever fails where they decide, and works in the fixed directory at the
//! same time, concerns that file. What may pass by itself is waited for first, for as long as [`super::blocked`] allows. Each file is
//! reported once, with what is in the way. Failures of the disk, of the process and of the configuration concern all files: the output
//! waits.

use super::judge::Writers;
use super::words::{Setting, barred, is_of_path, refusal};
use super::*;

/// Whether an error is not one of a place: the process lacks something, or it comes from this program.
fn is_of_process(error: &io::Error) -> bool {
    use io::ErrorKind::{Other, OutOfMemory};
    let is_setting = error.get_ref().is_some_and(|inner| inner.is::<Setting>());
    is_setting || is_exhausted(error) || matches!(error.kind(), Other | OutOfMemory)
}

impl<D: Disk> Writer<D> {
    /// Whether a failure to use the file at `path` concerns no other file.
    pub(super) fn is_alone(&self, path: &Path, error: &io::Error) -> bool {
        let is_alone = || is_of_path(error) || self.is_of_place(path, error);
        self.options.blames_events && is_alone() && self.places.is_ready()
    }

    /// Whether a failure is one of a place that others decide about: something that they do to one file, an encrypted directory
    /// without its key, one that takes no more names, a file system of theirs.
    fn is_of_place(&self, path: &Path, error: &io::Error) -> bool {
        match error.kind() {
            _ if is_of_process(error) => false,
            // Another output of this process releases it soon. Another process must be able to write to the file.
            io::ErrorKind::WouldBlock => !self.is_next && self.is_of_others(path),
            _ => self.places.is_among_others(path) && self.places.works_without(path, error, self.moment),
        }
    }

    /// Whether others can write to the file at `path` or, if there is none, decide what will be there.
    fn is_of_others(&self, path: &Path) -> bool {
        match self.places.stat(path) {
            Ok(stat) => self.places.writers(&stat) != Writers::Nobody,
            Err(_) => self.places.is_among_others(path),
        }
    }

    /// Why the events of a file are rejected, after a failure to `what` it. None if the output waits instead.
    pub(super) fn why_refused(&mut self, path: &[u8], what: &str, error: &io::Error, now: Now) -> Option<String> {
        let at = as_path(path);
        if !self.is_alone(at, error) || !is_of_path(error) && self.blocked.may_wait(now.monotonic) {
            return None;
        }
        let owner = self.places.stat(at).map(|stat| stat.owner).ok();
        let why = refusal(what, at, owner, error);
        self.refuse(path, &why, now);
        Some(why)
    }

    /// What it means that accepted bytes of a file cannot be written. If that concerns no other file, and was waited for, the output
    /// goes back to its last commit, and the file is left out when that has happened too often.
    pub(super) fn not_written(&mut self, path: &[u8], error: &io::Error, now: Now) -> String {
        match self.why_refused(path, "write to", error, now) {
            Some(why) => self.poison_by(path, why),
            None => explain("write", as_path(path), error),
        }
    }

    /// What it means that an open file cannot be looked at. If that concerns no other file, the output goes back to its last commit,
    /// as when accepted bytes cannot be written.
    pub(super) fn unsure_of(&mut self, path: &[u8], what: &str, error: &io::Error) -> String {
        let reason = explain(what, as_path(path), error);
        if self.is_alone(as_path(path), error) { self.poison_by(path, reason) } else { reason }
    }

    /// What it means that written bytes of a file may not be durable: what was accepted since the last commit is delivered again.
    pub fn not_durable(&mut self, path: &[u8], error: &io::Error) -> String {
        let reason = self.unsure_of(path, "make durable", error);
        self.poison(reason)
    }

    /// Why the events of a file are rejected that interrupted the output too often.
    pub(super) fn why_barred(&mut self, path: &[u8], now: Now) -> Option<String> {
        let tree = || self.places.tree_of_others(as_path(path));
        let why = self.blocked.is_barred(path, tree).then(|| barred(as_path(path)))?;
        self.refuse(path, &why, now);
        Some(why)
    }

    /// Reports and counts a file of which events are rejected.
    pub(super) fn refuse(&self, path: &[u8], why: &str, now: Now) {
        if self.blocked.refuse(path, now.monotonic) {
            self.warn(&format!("{why}. Events for this file become dead letters until it can be used"));
        }
        self.count_refused(now);
    }

    /// Counts the files of which events are rejected.
    pub(super) fn count_refused(&self, now: Now) {
        self.counters.unusable_files.set(self.blocked.count(now.monotonic) as i64);
    }

    /// Goes back to the last commit because of what somebody did to one file.
    pub(super) fn poison_by(&mut self, path: &[u8], reason: String) -> String {
        if self.options.blames_events {
            self.offend(path);
        }
        self.poison(reason)
    }

    /// Notes that somebody interrupted the output by what he did to a file.
    pub(super) fn offend(&self, path: &[u8]) {
        self.blocked.offend(path, self.places.tree_of_others(as_path(path)), self.moment);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use io::ErrorKind;
    use tailwater_shards::sim::SimDisk;

    /// A writer of files below `/out`, and its disk, with a file of its own and one of somebody else.
    pub(in super::super) fn writer(blames_events: bool) -> (SimDisk, Writer<SimDisk>) {
        let disk = SimDisk::new(1);
        for path in ["/out/ours", "/out/his"] {
            disk.outside().create_dir_all(path).expect("it is new");
            disk.outside().write(format!("{path}/x"), b"").expect("it is new");
        }
        disk.outside().set_owner("/out/his/x", 65_534).expect("it is there");
        let means = Means {
            disk: disk.clone(),
            name: "out".into(),
            claims: Arc::default(),
            blocked: Arc::default(),
            counters: Arc::default(),
        };
        let options = Options {
            compression: Compression::None,
            rotate_bytes: None,
            rotate_age: None,
            keep: 1,
            open_files_max: 1,
            state_bytes_max: 1000,
            access: Access::default(),
            fixed: "/out".into(),
            blames_events,
        };
        let writer = Writer::new(means, options, Path::new("/data/1.journal"), &State::default()).expect("it opens");
        (disk, writer)
    }

    #[test]
    fn what_others_can_cause_concerns_one_file_and_the_rest_concerns_all() {
        let (_disk, writer) = writer(true);
        for (kind, is_alone) in [
            (ErrorKind::WouldBlock, true),
            (ErrorKind::PermissionDenied, true),
            (ErrorKind::ExecutableFileBusy, true),
            (ErrorKind::FileTooLarge, true),
            (ErrorKind::QuotaExceeded, true),
            (ErrorKind::NotFound, true),
            (ErrorKind::AlreadyExists, true),
            (ErrorKind::StorageFull, true),
            (ErrorKind::ReadOnlyFilesystem, true),
            (ErrorKind::OutOfMemory, false),
            (ErrorKind::Other, false),
        ] {
            assert_eq!(writer.is_alone(Path::new("/out/his/x"), &kind.into()), is_alone, "{kind:?}");
            assert!(!writer.is_alone(Path::new("/out/ours/x"), &kind.into()), "{kind:?}");
        }
    }

    /// Numbers of Linux: EIO, EBUSY, EROFS, and ENOKEY, which has no kind.
    const OF_PLACES: [i32; 4] = [5, 16, 30, 126];
    const NO_SPACE: i32 = 28;

    #[test]
    fn what_fails_only_where_others_decide_concerns_one_file_whatever_it_is() {
        let (disk, mut writer) = writer(true);
        let mut seconds = 0;
        let mut is_alone = |path: &str, number: i32| {
            seconds += 1;
            writer.moment = Monotonic(0).after(std::time::Duration::from_secs(seconds));
            writer.is_alone(Path::new(path), &io::Error::from_raw_os_error(number))
        };
        let base = Path::new("/out");
        disk.outside().create_dir_all("/out/dir").expect("it is new");
        disk.outside().set_owner("/out/dir", 65_534).expect("it is there");
        for number in OF_PLACES.into_iter().chain([NO_SPACE]) {
            assert!(is_alone("/out/his/x", number) && !is_alone("/out/ours/x", number), "{number}");
            disk.fail_writes(1);
            assert!(!is_alone("/out/his/x", number), "{number}: the disk fails for all");
            disk.fail_syncs(1);
            assert!(!is_alone("/out/his/x", number), "{number}: the disk keeps nothing");
            // Nobody can say more than what the file itself says: its disk has room.
            disk.deny(base, true).expect("it is there");
            assert!(is_alone("/out/his/x", number), "{number}");
            // Its disk may have no number left for a further file, for which nobody is to blame.
            assert_eq!(is_alone("/out/dir/new", number), number != NO_SPACE, "{number}");
            disk.deny(base, false).expect("it is there");
        }
        assert!(!is_alone("/out/his/x", 24), "no descriptor is left");
        disk.set_free_bytes(Some(1 << 20));
        assert!(!is_alone("/out/his/x", NO_SPACE), "the disk is full for all");
        assert!(is_alone("/out/his/x", 126));
        let names = disk.outside().list("/out").expect("it is there");
        assert_eq!(names.len(), 3, "{names:?}: nothing of it stays");
    }

    /// A process was killed while its file was there.
    #[test]
    fn file_of_an_earlier_question_is_no_answer() {
        let (disk, writer) = writer(true);
        let probe = Path::new("/out/.tailwater-probe");
        disk.outside().write(probe, b"").expect("it is new");
        let his = Path::new("/out/his/x");
        disk.fail_writes(1);
        assert!(!writer.is_alone(his, &io::Error::from_raw_os_error(126)), "the disk fails for all");
        assert!(disk.outside().stat(probe).is_err(), "it is gone");
        let stat = disk.outside().stat("/out/his/x").expect("it is there");
        let names = BTreeSet::from(["out".into()]);
        assert_eq!(writer.claims.read(&stat, probe, &names), Err("out".into()), "no input reads it");
    }

    /// A stranger may have thousands of such files.
    #[test]
    fn answer_for_one_file_counts_for_others_for_a_while() {
        let (disk, writer) = writer(true);
        let his = Path::new("/out/his/x");
        let no_key = io::Error::from_raw_os_error(126);
        assert!(writer.is_alone(his, &no_key));
        disk.fail_writes(1);
        assert!(writer.is_alone(his, &no_key));
        assert_eq!(disk.struck().writes, 0, "nothing is written for it");
    }

    #[test]
    fn disk_that_is_full_for_all_is_waited_for() {
        let (disk, mut writer) = writer(true);
        disk.outside().create_dir_all("/out/dir").expect("it is new");
        disk.outside().set_owner("/out/dir", 65_534).expect("it is there");
        let is_alone =
            |writer: &Writer<SimDisk>, path: &str| writer.is_alone(Path::new(path), &ErrorKind::StorageFull.into());
        assert!(is_alone(&writer, "/out/his/x"), "there is room where the paths begin: it is a quota");
        assert!(is_alone(&writer, "/out/dir/new"), "a file can be made where the paths begin: its index is full");
        writer.moment = Monotonic(0).after(std::time::Duration::from_secs(1));
        disk.fail_writes(1);
        assert!(!is_alone(&writer, "/out/dir/new"), "the disk takes no file anywhere");
        disk.set_free_bytes(Some(1 << 20));
        assert!(!is_alone(&writer, "/out/his/x"));
    }

    /// A file system keeps a few blocks back, or somebody left them.
    #[test]
    fn place_that_takes_less_than_the_write_that_failed_shows_nothing() {
        let (disk, mut writer) = writer(true);
        let his = Path::new("/out/his/x");
        let failed = io::Error::from_raw_os_error(5);
        disk.set_free_bytes(Some(32 << 10));
        assert!(writer.is_alone(his, &failed), "it was no write");
        writer.places.failed_to_write(100_000);
        assert!(!writer.is_alone(his, &failed), "the answer to a smaller question is none");
        writer.moment = Monotonic(0).after(std::time::Duration::from_secs(1));
        writer.places.failed_to_write(10_000);
        assert!(writer.is_alone(his, &failed));
        disk.set_free_bytes(None);
        writer.places.failed_to_write(usize::MAX);
        assert!(writer.is_alone(his, &failed), "there is a bound");
        assert_eq!(disk.outside().list("/out").expect("it is there").len(), 2, "nothing of it stays");
    }

    #[test]
    fn settings_and_other_outputs_are_nobody_elses_doing() {
        let (_disk, mut writer) = writer(true);
        let his = Path::new("/out/his/x");
        let denied = io::Error::new(ErrorKind::PermissionDenied, Setting("its `group` cannot be set".to_owned()));
        assert!(!writer.is_alone(his, &denied));
        writer.is_next = true;
        assert!(!writer.is_alone(his, &ErrorKind::WouldBlock.into()), "the other output releases it soon");
    }

    #[test]
    fn path_that_no_event_chose_is_waited_for() {
        let (_disk, writer) = self::writer(false);
        assert!(!writer.is_alone(Path::new("/out/his/x"), &ErrorKind::WouldBlock.into()));
        assert!(!writer.is_alone(Path::new("/out/his/x"), &ErrorKind::IsADirectory.into()));
    }
}
