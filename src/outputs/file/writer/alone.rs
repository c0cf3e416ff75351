//! Failures that concern one file alone: its events become dead letters, and the other files are restored and written.
//!
//! Guarantees: that happens only if events choose the paths, and only where others than this user and root decide about what is at the
//! path. What may pass by itself is waited for first, for as long as [`super::blocked`] allows. Each file is reported once, with what
//! is in the way. Failures of the disk, of the process and of the configuration concern all files: the output waits.

use super::judge::Writers;
use super::words::{Setting, barred, is_of_path, refusal};
use super::*;

impl<D: Disk> Writer<D> {
    /// Whether a failure to use the file at `path` concerns no other file.
    pub(super) fn is_alone(&self, path: &Path, error: &io::Error) -> bool {
        self.options.blames_events && (is_of_path(error) || self.may_pass(path, error)) && self.places.is_ready()
    }

    /// Whether a failure is something that others do to one file, and may stop doing.
    fn may_pass(&self, path: &Path, error: &io::Error) -> bool {
        use io::ErrorKind::{
            AlreadyExists, ExecutableFileBusy, FileTooLarge, NotFound, PermissionDenied, QuotaExceeded, WouldBlock,
        };
        match error.kind() {
            // Another output of this process releases it soon. Another process must be able to write to the file.
            WouldBlock => !self.is_next && self.is_of_others(path),
            PermissionDenied if error.get_ref().is_some_and(|inner| inner.is::<Setting>()) => false,
            AlreadyExists | ExecutableFileBusy | FileTooLarge | NotFound | PermissionDenied | QuotaExceeded => {
                self.places.is_among_others(path)
            }
            _ => false,
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

    /// Why the events of a file are rejected that interrupted the output too often.
    pub(super) fn why_barred(&mut self, path: &[u8], now: Now) -> Option<String> {
        let why = self.blocked.is_barred(path).then(|| barred(as_path(path)))?;
        self.refuse(path, &why, now);
        Some(why)
    }

    fn refuse(&self, path: &[u8], why: &str, now: Now) {
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
            self.blocked.offend(path, self.moment);
        }
        self.poison(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use io::ErrorKind;
    use tailwater_shards::sim::SimDisk;

    fn writer(blames_events: bool) -> (SimDisk, Writer<SimDisk>) {
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
            (ErrorKind::StorageFull, false),
            (ErrorKind::ReadOnlyFilesystem, false),
            (ErrorKind::Other, false),
        ] {
            assert_eq!(writer.is_alone(Path::new("/out/his/x"), &kind.into()), is_alone, "{kind:?}");
            assert!(!writer.is_alone(Path::new("/out/ours/x"), &kind.into()), "{kind:?}");
        }
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
