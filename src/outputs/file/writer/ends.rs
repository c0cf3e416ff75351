//! The ends of existing files: what may be appended to them.
//!
//! Guarantees: a line is never appended to half a line, nor a member to half a member or to another format. No byte of an
//! existing file is changed; the file is renamed at most.

use super::whole::Whole;
use super::*;
use tailwater_shards::env::located::Located;

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// More can be appended.
    Whole,
    /// In the middle of a line.
    WithinLine,
    /// Nothing that is appended could be read.
    Unfit,
}

/// What is assumed about a compressed file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It ends as this output left it, if it is in the journal.
    Journal,
    /// Nothing: another program wrote to it.
    Nothing,
}

/// Maximum number of files that are set aside for one path, which also bounds the look for a free name.
const ASIDE_MAX: u32 = 999;

/// The first bytes of compressed files (RFC 1952, section 2.3.1; RFC 8878, section 3.1.1).
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The last byte of a file of `length` bytes, which is at least one.
pub(super) fn last_byte(file: &impl File, length: u64) -> io::Result<u8> {
    let mut last = [0];
    file.read_at(&mut last, length - 1)?;
    Ok(last[0])
}

/// How often the end of a file is looked at that other programs keep writing to.
const LOOKS_MAX: usize = 8;

impl<D: Disk> Writer<D> {
    /// How a file ends to which more is to be appended. A file in the journal was checked when it was first opened. What looks
    /// like an incomplete end may be a write of another program that is under way, or has just been cut: it counts only if the
    /// file still ends there when that is over.
    pub(super) fn end_of(&self, path: &[u8], file: &D::File, stat: &Stat, trust: Trust) -> io::Result<End> {
        let mut stat = *stat;
        for _ in 1..LOOKS_MAX {
            let end = self.end_at(path, file, &stat, trust)?;
            if end == End::Whole {
                return Ok(end);
            }
            file.await_writes()?;
            let now = file.stat()?;
            if now.length == stat.length {
                return Ok(end);
            }
            stat = now;
        }
        self.end_at(path, file, &stat, trust)
    }

    fn end_at(&self, path: &[u8], file: &D::File, stat: &Stat, trust: Trust) -> io::Result<End> {
        if stat.length == 0 {
            return Ok(End::Whole);
        }
        let mut head = [0; 4];
        let count = file.read_at(&mut head, 0)?;
        let head = &head[..count];
        let content = match () {
            () if head.starts_with(GZIP) => Compression::Gzip,
            () if head.starts_with(ZSTD) => Compression::Zstd,
            () => Compression::None,
        };
        if content != self.options.compression {
            return Ok(End::Unfit);
        }
        if content == Compression::None {
            let is_whole = last_byte(file, stat.length)? == b'\n';
            return Ok(if is_whole { End::Whole } else { End::WithinLine });
        }
        let knows = || self.journal.knows(path, &Identity::of(stat), stat.length);
        if trust == Trust::Journal && !self.is_lost && knows() {
            return Ok(End::Whole);
        }
        let whole = self.whole(file, (0, stat.length), content, self.places.writers(stat))?;
        Ok(if whole == Whole::Upto(stat.length) { End::Whole } else { End::Unfit })
    }

    /// Renames a file to which nothing can be appended to `path.aside-1`, or to the next number that is free.
    pub(super) fn set_aside(&mut self, path: &[u8]) -> io::Result<()> {
        let path = as_path(path);
        let Place { directory, name } = self.places.place(path)?;
        for number in 1..=ASIDE_MAX {
            let aside = ending(&name, format_args!(".aside-{number}"));
            match directory.rename_new(&name, &directory, &aside) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                renamed => renamed?,
            }
            directory.sync_names()?;
            if self.options.blames_events && self.places.is_among_others(path) {
                self.offend(path.as_os_str().as_bytes());
            }
            self.warn(&format!(
                "{} is incomplete, has another format, or is too large to be checked, so nothing can be appended to it; it was \
                 renamed to {}",
                path.display(),
                path.with_file_name(aside).display()
            ));
            return Ok(());
        }
        Err(words::unusable(format!("it cannot be set aside: there are {ASIDE_MAX} such files already")))
    }
}
