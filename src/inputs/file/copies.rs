//! Copies of files that were already read, as `copytruncate` creates them when the patterns match the copies too.
//!
//! Guarantees: a file counts as a copy only if three things hold: its name is the name of a followed file plus a number or
//! date, it begins like a file that has ended, and the bytes before the position where that file ended are the same. It is
//! then read from that position. Whatever is not proved to have been read is read. Stores a few words for each file that
//! ended. Pure.

use super::identity::{HEAD_BYTES, Head, TAIL_BYTES, tail_marker};
use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Number of different heads for which ends are kept.
const HEADS_MAX: usize = 16 * 1024;

/// Number of ends that are kept for one head.
const ENDS_MAX: usize = 64;

/// How far a file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// One past the last byte.
    pub position: u64,
    /// The tail marker of the position.
    pub marker: u64,
}

/// Where files ended, by their heads.
#[derive(Clone, Default)]
pub struct Ends {
    by_head: HashMap<Head, VecDeque<End>>,
    by_age: VecDeque<Head>,
}

impl Ends {
    /// Stores the end of a file.
    pub fn add(&mut self, head: Head, end: End) {
        // NULs before a position prove nothing, because any hole has them.
        if end.marker == tail_marker(&[0; TAIL_BYTES]) {
            return;
        }
        if head.length == 0 || end.position < u64::from(head.length) / 2 {
            return;
        }
        if !self.by_head.contains_key(&head) {
            self.by_age.push_back(head);
            if self.by_age.len() > HEADS_MAX
                && let Some(oldest) = self.by_age.pop_front()
            {
                self.by_head.remove(&oldest);
            }
        }
        let ends = self.by_head.entry(head).or_default();
        ends.push_back(end);
        if ends.len() > ENDS_MAX {
            ends.pop_front();
        }
    }

    /// If a file that begins with `bytes` and has `length` bytes is a copy, returns how far its original was read.
    pub fn of_copy(&self, bytes: &[u8], length: u64, mut marker_at: impl FnMut(u64) -> Option<u64>) -> Option<End> {
        let ends = beginnings(bytes).filter_map(|head| self.by_head.get(&head)).flatten();
        let mut ends: Vec<End> = ends.filter(|end| end.position > 0 && end.position <= length).copied().collect();
        ends.sort_by_key(|end| std::cmp::Reverse(end.position));
        ends.into_iter().find(|end| marker_at(end.position) == Some(end.marker))
    }
}

/// The heads under which a file that begins with `bytes` may be known. A head is renewed when the file has doubled in length,
/// and an unfinished line may have followed the bytes that were read.
pub fn beginnings(bytes: &[u8]) -> impl Iterator<Item = Head> {
    let longest = bytes.len().min(HEAD_BYTES);
    let shortest = if longest == HEAD_BYTES { HEAD_BYTES } else { longest.div_ceil(2).max(1) };
    (shortest..=longest).rev().map(|length| Head::of(&bytes[..length]))
}

/// The names whose copy may be called `name`: its parts before a separator and a digit.
pub fn originals(name: &OsStr) -> impl Iterator<Item = OsString> {
    let bytes = name.as_bytes();
    let starts_suffix = |at: &usize| matches!(bytes[*at], b'.' | b'-' | b'_') && bytes[at + 1].is_ascii_digit();
    (1..bytes.len().saturating_sub(1)).filter(starts_suffix).map(|at| OsStr::from_bytes(&bytes[..at]).to_owned())
}

/// Endings of the names that editors and `sed -i.bak` give to a file before they write another one to its path. Rotation uses
/// numbers and dates.
const BACKUP_ENDINGS: [&str; 3] = ["~", ".bak", ".orig"];

/// The names that a backup of the file `name` may have.
pub fn backups(name: &OsStr) -> impl Iterator<Item = OsString> {
    BACKUP_ENDINGS.iter().map(move |ending| [name, OsStr::new(ending)].into_iter().collect())
}

/// The name without a number or date before its extension: `app.log` for `app-2026-11-29.log`.
pub fn undated(name: &OsStr) -> Option<OsString> {
    let bytes = name.as_bytes();
    let is_separator = |byte: &u8| matches!(byte, b'.' | b'-' | b'_');
    let begin =
        (1..bytes.len().saturating_sub(1)).find(|&at| is_separator(&bytes[at]) && bytes[at + 1].is_ascii_digit())?;
    let rest = &bytes[begin..];
    let length = rest
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || is_separator(byte) || matches!(byte, b'T' | b'Z'))
        .count();
    // The separator before the extension belongs to the extension.
    let ending = &rest[length - usize::from(length > 0 && is_separator(&rest[length - 1]))..];
    let is_ending = ending.first() == Some(&b'.') && ending.len() > 1;
    is_ending.then(|| OsString::from_vec([&bytes[..begin], ending].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_named_like_their_original_plus_a_number() {
        let of =
            |name: &str| originals(OsStr::new(name)).map(|one| one.into_string().expect("text")).collect::<Vec<_>>();
        assert_eq!(of("app.log.1"), ["app.log"]);
        assert_eq!(of("app.log-20261123"), ["app.log"]);
        assert_eq!(of("app.log-2026-11-23"), ["app.log", "app.log-2026", "app.log-2026-11"]);
        assert_eq!(of("app.log"), [""; 0]);
        assert_eq!(of("app.log.err"), [""; 0]);
        assert_eq!(of(".1"), [""; 0]);
        assert_eq!(of(""), [""; 0]);
    }

    #[test]
    fn backups_are_named_like_their_original_plus_an_ending() {
        let all: Vec<OsString> = backups(OsStr::new("app.log")).collect();
        assert_eq!(all, ["app.log~", "app.log.bak", "app.log.orig"]);
    }

    #[test]
    fn dates_before_an_extension_are_removed() {
        let of = |name: &str| undated(OsStr::new(name)).map(|one| one.into_string().expect("text"));
        for (name, log) in [
            ("app-2026-11-29.log", Some("app.log")),
            ("app.2026-11-29T10.log", Some("app.log")),
            ("app.1.log", Some("app.log")),
            ("app_20261129.json.log", Some("app.json.log")),
            ("app.log", None),
            ("app.log.1", None),
            ("app-1x.log", None),
            (".1", None),
            ("", None),
        ] {
            assert_eq!(of(name).as_deref(), log, "{name}");
        }
    }

    #[test]
    fn copy_needs_the_same_head_and_tail() {
        let long = [b'x'; 5000];
        let mut ends = Ends::default();
        ends.add(Head::of(&long), End { position: 2000, marker: 1 });
        ends.add(Head::of(&long), End { position: 4000, marker: 2 });
        ends.add(Head::of(b"short\nfile\n"), End { position: 11, marker: 3 });
        let hole = tail_marker(&[0; TAIL_BYTES]);
        ends.add(Head::of(&[0; HEAD_BYTES]), End { position: 2000, marker: hole });
        let find = |bytes: &[u8], length, marker| ends.of_copy(bytes, length, |_| Some(marker)).map(|end| end.position);
        assert_eq!(find(&long, 4000, 2), Some(4000));
        assert_eq!(find(&long, 9000, 2), Some(4000), "its end was never read");
        assert_eq!(find(&long, 3999, 1), Some(2000));
        assert_eq!((find(&long, 1999, 1), find(&long, 4000, 9), find(&[b'y'; 5000], 4000, 2)), (None, None, None));
        assert_eq!(find(b"short\nfile\nand more\n", 20, 3), Some(11));
        assert_eq!(find(&[0; HEAD_BYTES], 9000, hole), None, "a hole is in many files");
        assert_eq!((find(b"short\n", 6, 3), find(b"other\nfile\n", 11, 3), find(b"", 0, 3)), (None, None, None));
    }

    #[test]
    fn stored_ends_are_bounded() {
        let mut ends = Ends::default();
        for number in 0..HEADS_MAX + 10 {
            ends.add(Head::of(&number.to_le_bytes()), End { position: 8, marker: 1 });
        }
        for _ in 0..2 * ENDS_MAX {
            ends.add(Head::of(&20usize.to_le_bytes()), End { position: 8, marker: 1 });
        }
        assert_eq!((ends.by_head.len(), ends.by_age.len()), (HEADS_MAX, HEADS_MAX));
        assert!(ends.by_head.values().all(|ends| ends.len() <= ENDS_MAX));
    }
}
