//! Decides which files are cut to the last commit: those of which everything after it is certain to be delivered again.
//!
//! Guarantees: what is delivered again is spent once, so no more bytes are cut than that, except of files that nobody wrote to after
//! the next commit was due. Files that only this user and root can write to are judged first and together. The others are judged by
//! themselves, by owner: what a stranger appends to his files, or says about their times, never decides about the file of anybody
//! else. Changes nothing.

use super::recover::Found;
use super::target::RAW_STEP;
use super::*;

/// Bytes that a member may have in addition to its content.
const MEMBER_ROOM: u64 = 64;

/// Permission bits: who else may write.
const OTHERS_WRITE: u32 = 0o022;

/// Who can write to a file besides this user and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Writers {
    Nobody,
    /// Its owner, and whom these permission bits name.
    Others {
        owner: u32,
        bits: u32,
    },
}

impl Writers {
    /// The writers of a file, for a process of the user `us`.
    pub(super) fn of(stat: &Stat, us: u32) -> Writers {
        let (owner, bits) = (if stat.owner == 0 { us } else { stat.owner }, stat.mode & OTHERS_WRITE);
        if owner == us && bits == 0 { Writers::Nobody } else { Writers::Others { owner, bits } }
    }
}

/// What is known about a start as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// When the commit was made, ns since 1970; 0 if it is unknown.
    pub(super) made: i64,
    /// See [`Writer::restore`].
    pub(super) again_bytes: Option<u64>,
    pub(super) is_damaged: bool,
    /// The last run ended in an orderly way.
    pub(super) has_ended: bool,
}

fn beyond<'a>(found: impl IntoIterator<Item = &'a &'a Found>) -> u64 {
    found.into_iter().map(|found| found.beyond()).sum()
}

/// Bytes that files may have in addition to what is delivered again: the end of a line that was incomplete, before anything that was
/// written to a file, and what a compressor adds.
fn around(found: &[&Found], bytes: u64) -> u64 {
    let members = found.iter().filter(|found| !found.is_plain()).count() as u64;
    found.len() as u64 + if members > 0 { bytes / RAW_STEP + members * MEMBER_ROOM } else { 0 }
}

impl Start {
    /// Why what was written to these files after the commit is not removed, if so. `again_bytes` are left for them.
    fn why_kept(&self, found: &[&Found], again_bytes: Option<u64>) -> Option<String> {
        match again_bytes {
            _ if beyond(found) == 0 => None,
            None => Some("not everything that was written since then will be delivered again".to_owned()),
            Some(_) if self.is_damaged => Some("the journal of opened files is damaged".to_owned()),
            // If a WAL lost its last frames, or failed to make them durable, the sources repeat their events.
            Some(_) if !self.has_ended && found.iter().all(|found| found.is_of(self.made)) => None,
            Some(bytes) if beyond(found) > bytes.saturating_add(around(found, bytes)) => Some(format!(
                "only {} will be delivered again, so some of them are not its own",
                counted(bytes, "byte")
            )),
            Some(_) => None,
        }
    }

    /// The writers whose files are not cut, with these files and the reason.
    pub(super) fn kept<'a>(&self, found: &'a [Found]) -> BTreeMap<Writers, (Vec<&'a Found>, String)> {
        let mut groups: BTreeMap<Writers, Vec<&Found>> = BTreeMap::new();
        for found in found {
            groups.entry(found.writers).or_default().push(found);
        }
        let mut groups: Vec<(Writers, Vec<&Found>)> = groups.into_iter().collect();
        // Those that nobody else can write to first, and then those that take the least of what is left.
        groups.sort_by_key(|(writers, found)| (*writers != Writers::Nobody, beyond(found)));
        let mut left = self.again_bytes;
        let mut kept = BTreeMap::new();
        for (writers, found) in groups {
            let why = match kept.get(&Writers::Nobody) {
                // The log does not have what it should: this holds for all files.
                Some((_, why)) if beyond(&found) > 0 => Some(String::clone(why)),
                _ => self.why_kept(&found, left),
            };
            match why {
                Some(why) => drop(kept.insert(writers, (found, why))),
                None => left = left.map(|left| left.saturating_sub(beyond(&found))),
            }
        }
        kept
    }
}

impl<D: Disk> Writer<D> {
    /// Reports files that are not cut.
    pub(super) fn tell_of_kept(&self, writers: Writers, found: &[&Found], why: &str) {
        let bytes = counted(beyond(found), "byte");
        let most = found.iter().max_by_key(|found| found.beyond());
        let whose = match (writers, most) {
            (Writers::Others { .. }, Some(most)) => format!(
                "{}{}, which others can write to, has",
                most.at.display(),
                match found.len() {
                    1 => String::new(),
                    count => format!(", with {} of the same owner", counted(count as u64 - 1, "other file")),
                }
            ),
            _ => "its files contain".to_owned(),
        };
        self.warn(&format!(
            "{whose} {bytes} more than its last commit, and {why}: they are not truncated, and the last events in them may be repeated"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u32 = 7;
    const ALL: Start = Start { made: 1, again_bytes: Some(100), is_damaged: false, has_ended: false };

    fn stat(owner: u32, mode: u32) -> Stat {
        let (kind, modified) = (FileKind::Regular, Timestamp(0));
        Stat { kind, device: 1, inode: 2, length: 0, modified, created: None, links: 1, owner, mode }
    }

    #[test]
    fn owner_and_permissions_say_who_else_can_write() {
        for (owner, mode, others) in
            [(US, 0o644, false), (0, 0o640, false), (US, 0o660, true), (0, 0o602, true), (8, 0o600, true)]
        {
            assert_eq!(Writers::of(&stat(owner, mode), US) != Writers::Nobody, others, "{owner} {mode:o}");
        }
        assert_eq!(Writers::of(&stat(US, 0o660), US), Writers::of(&stat(0, 0o660), US));
        assert_ne!(Writers::of(&stat(8, 0o600), US), Writers::of(&stat(9, 0o600), US));
    }

    /// The owners whose files are kept; files have an owner and a number of bytes after the commit.
    fn kept(start: Start, files: &[(u32, u64)], is_late: bool) -> Vec<u32> {
        let modified = if is_late { i64::MAX } else { 0 };
        let found: Vec<Found> = files
            .iter()
            .map(|(owner, beyond)| Found::for_test(Writers::of(&stat(*owner, 0o640), US), *beyond, modified))
            .collect();
        let owner = |writers: &Writers| match writers {
            Writers::Nobody => US,
            Writers::Others { owner, .. } => *owner,
        };
        start.kept(&found).keys().map(owner).collect()
    }

    #[test]
    fn files_of_a_stranger_decide_about_his_files_only() {
        for (files, expected) in [
            (vec![(US, 60), (8, 1000)], vec![8]),
            (vec![(US, 60), (8, 30), (9, 1000)], vec![9]),
            (vec![(8, 30), (8, 1000), (9, 50)], vec![8]),
            // What comes again is spent once, and first for those that nobody else can write to.
            (vec![(8, 50), (9, 49), (US, 60)], vec![8, 9]),
            (vec![(8, 30), (9, 49), (US, 60)], vec![9]),
            (vec![(8, 90), (9, 30)], vec![8]),
            // The log lacks something: nothing is cut.
            (vec![(US, 60), (US, 60), (8, 1), (9, 0)], vec![US, 8]),
        ] {
            assert_eq!(kept(ALL, &files, true), expected, "{files:?}");
        }
    }

    #[test]
    fn nothing_that_was_written_before_the_next_commit_was_due_is_kept_unless_all_is() {
        let files = [(US, 1000), (8, 1000)];
        assert_eq!(kept(ALL, &files, false), [0; 0]);
        for start in
            [Start { again_bytes: None, ..ALL }, Start { is_damaged: true, ..ALL }, Start { has_ended: true, ..ALL }]
        {
            assert_eq!(kept(start, &files, false), [US, 8], "{start:?}");
            assert_eq!(kept(start, &files[1..], false), [8], "{start:?}");
        }
    }
}
