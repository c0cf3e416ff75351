//! Files that decide what the process does, and who else can change them: the configuration, and what it names.
//!
//! Guarantees: no process runs a configuration that every user can write to: whoever runs it has rights that others do not have, be it to
//! his own files, by a group, or by a secret in the environment. Everything else is a warning: an owner or a directory may look strange
//! where nobody else is (containers, mounted volumes). The configuration is judged by the file that was read, whatever has its name now. A
//! volume that is mounted read-only counts as safe, as containers have them, and a file system that is read-only for everybody. One that
//! only this process cannot write to does not: a service sees the whole host so. Does not look at access control lists.

use super::users;
use crate::config::problem::{Problem, Severity};
use crate::config::{Loaded, NamedFile};
use crate::outputs::file::paths::exchanged_by_others;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tailwater_shards::env::Disk;
use tailwater_shards::glommio_env::{RealDisk, user_and_group};

const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Why a start refuses the configuration in this file. May block.
pub fn refusal(loaded: &Loaded, file: &Path) -> Option<Problem> {
    let is_open = loaded.stat.is_some_and(|stat| stat.mode & OTHERS_WRITE != 0);
    let problem = of_configuration(loaded, file).filter(|_| is_open)?;
    Some(Problem { severity: Severity::Error, ..problem }.label("this process has rights that other users do not have"))
}

/// Warnings about who else can change what the process does. May block.
pub fn warnings(loaded: &Loaded, file: &Path) -> Vec<Problem> {
    let files = loaded.files.iter().filter_map(of_file);
    let places = of_directory(file).filter(|_| loaded.stat.is_some());
    of_configuration(loaded, file).into_iter().chain(places).chain(files).collect()
}

fn of_configuration(loaded: &Loaded, file: &Path) -> Option<Problem> {
    let stat = loaded.stat?;
    let group = fs::metadata(file).ok().map(|found| found.gid());
    let (who, help) = writer(stat.mode, stat.owner, group, file)?;
    let what = format!("{who}; whoever can write to it decides what this process reads and where it sends that");
    Some(Problem { severity: Severity::Warning, ..Problem::whole(what) }.help(help))
}

fn of_directory(file: &Path) -> Option<Problem> {
    let (directory, what) = exchanged_by_others(&std::path::absolute(file).ok()?, &RealDisk::new())?;
    if is_read_only(&directory) {
        return None;
    }
    let what = format!("{} {what}, who can put another file in the place of this one", directory.display());
    let help = "keep the configuration in a directory that only root and the user that runs Tailwater can change, such as /etc/tailwater";
    Some(Problem { severity: Severity::Warning, ..Problem::whole(what) }.help(help))
}

fn of_file(file: &NamedFile) -> Option<Problem> {
    let NamedFile { whose, what, path, span, .. } = file;
    let found = fs::metadata(path).ok()?;
    let (who, help) = writer(found.mode(), found.uid(), Some(found.gid()), path)?;
    let what = format!("{whose}: the {what} {}: {who}", path.display());
    Some(Problem::warning(*span, what).label("named here").help(help))
}

/// Who else can write to a file, as a clause about it, and what to do.
fn writer(mode: u32, owner: u32, group: Option<u32>, path: &Path) -> Option<(String, String)> {
    let shown = path.display();
    let check = "check what it says";
    let of_group = || group.filter(|_| mode & GROUP_WRITES != 0).and_then(|group| users::of_group(group, owner));
    let found = match () {
        () if mode & OTHERS_WRITE != 0 => (
            format!("every user can write to it (its mode is {:04o})", mode & 0o7777),
            format!("{check}, and run `chmod o-w {shown}`"),
        ),
        () if ![0, user_and_group().0].contains(&owner) => (
            format!("it belongs to the user {}", users::shown(owner)),
            format!("{check}, and make root or the user that runs Tailwater its owner"),
        ),
        () => {
            let who = of_group()?;
            (format!("{who} can write to it"), format!("{check}, and run `chmod g-w {shown}`"))
        }
    };
    Some(found).filter(|_| !is_read_only(path))
}

/// Whether nobody is expected to write to a file or directory, whatever its mode says.
fn is_read_only(path: &Path) -> bool {
    let is_refused =
        RealDisk::new().check_writable(path).is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem);
    is_refused
        && fs::canonicalize(path)
            .is_ok_and(|real| is_volume(&fs::read("/proc/self/mountinfo").unwrap_or_default(), &real))
}

/// Whether a path without links is on a file system that is read-only for everybody, or in a volume that is mounted for it: at the path
/// itself, at its directory, or at the one above if a program exchanges that directory as a whole (`..2026_11_30`, as ConfigMaps do).
fn is_volume(mounts: &[u8], path: &Path) -> bool {
    let all = mounts.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let point = unescaped(fields.get(4)?);
        Some((point, fields.last()?.split(|byte| *byte == b',').any(|option| option == b"ro")))
    });
    // Of those at the same place, the last one is seen.
    let on = all.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.components().count());
    on.is_some_and(|(point, is_read_only)| {
        let directory = path.parent();
        let is_exchanged =
            |directory: &&Path| directory.file_name().is_some_and(|name| name.as_bytes().starts_with(b".."));
        let above = directory.filter(is_exchanged).and_then(Path::parent);
        let is_for_it = point == path || [directory, above].contains(&Some(&*point));
        is_read_only || is_for_it && point != Path::new("/")
    })
}

/// A path as mountinfo spells it: spaces and the like as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[3..] } else { behind };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_safe_and_what_a_service_sees_read_only_is_not() {
        let mounts = b"21 1 254:0 / / ro,relatime - ext4 /dev/vda rw,discard\n\
                       22 21 254:1 / /srv ro,relatime - ext4 /dev/vdb rw\n\
                       23 21 0:30 / /iso rw,relatime - squashfs /dev/loop0 ro\n\
                       24 21 254:0 /vol/a /etc/tail\\040water ro master:1 - ext4 /dev/vda rw,discard\n\
                       25 21 254:0 /x.yaml /opt/x.yaml ro - ext4 /dev/vda rw\n\
                       26 23 0:31 / /iso/over ro - tmpfs none rw\n";
        for (path, is_safe) in [
            ("/etc/tailwater/t.yaml", false),
            ("/t.yaml", false),
            ("/srv/tailwater/t.yaml", false),
            ("/iso/conf/t.yaml", true),
            ("/iso/over/conf/t.yaml", false),
            ("/etc/tail water", true),
            ("/etc/tail water/t.yaml", true),
            ("/etc/tail water/..2026_11_30/t.yaml", true),
            ("/etc/tail water/below/t.yaml", false),
            ("/opt/x.yaml", true),
            ("/opt/y.yaml", false),
        ] {
            assert_eq!(is_volume(mounts, Path::new(path)), is_safe, "{path}");
        }
        assert!(!is_volume(b"", Path::new("/t.yaml")));
    }

    #[test]
    fn writers_of_a_file_are_named_with_what_to_do() {
        let path = Path::new("/nonexistent/tailwater.yaml");
        let (own, group) = user_and_group();
        let said = |mode, owner, group| writer(mode, owner, group, path);
        for (mode, owner) in [(0o644, own), (0o600, own), (0o664, own), (0o644, 0), (0o444, 0)] {
            assert_eq!(said(mode, owner, Some(group)), None, "{mode:o} of {owner}");
        }
        let (who, help) = said(0o664, own, Some(4_000_000_000)).expect("users that no table names");
        assert!(who.contains("the group 4000000000") && help.contains("chmod g-w"), "{who} {help}");
        let (who, help) = said(0o666, own, None).expect("every user");
        assert!(
            who.contains("every user can write to it (its mode is 0666)") && help.contains("chmod o-w"),
            "{who} {help}"
        );
        let (who, help) = said(0o644, 4_000_000_000, None).expect("a stranger");
        assert!(who.contains("belongs to the user 4000000000") && help.contains("its owner"), "{who} {help}");
    }
}
