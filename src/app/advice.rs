//! What to do about a directory that others can change, and about one that belongs to another user.
//!
//! Guarantees: never advises to change a directory that others need as it is: one in which everybody may write and only owners may
//! remove (`/tmp`), one of the system, or the owner of one above the directory that the configuration names. Changes nothing.

use super::users;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tailwater_shards::glommio_env::user_and_group;

/// The bit of directories in which only owners may rename and remove.
pub const STICKY: u32 = 0o1000;

/// Directories of the system that programs share, as the Filesystem Hierarchy Standard names them.
const SHARED: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/etc",
    "/home",
    "/lib",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/run/lock",
    "/sbin",
    "/srv",
    "/tmp",
    "/var",
    "/var/cache",
    "/var/crash",
    "/var/lib",
    "/var/log",
    "/var/mail",
    "/var/opt",
    "/var/spool",
    "/var/tmp",
];

/// The same with everything below them.
const OF_THE_SYSTEM: [&str; 4] = ["/dev", "/proc", "/sys", "/usr"];

/// The advice `elsewhere`, and what else keeps others out of `directory`, if no other program needs it as it is. `named` is the
/// directory that the configuration names, which is this one or below it. May block.
pub fn or_closing(elsewhere: &str, directory: &Path, named: &Path) -> String {
    match closing(directory, named) {
        Some(closing) => format!("{elsewhere}; or, {closing}"),
        None => elsewhere.to_owned(),
    }
}

fn closing(directory: &Path, named: &Path) -> Option<String> {
    let (found, shown) = (fs::metadata(directory).ok()?, directory.display());
    if found.mode() & STICKY != 0 || is_shared(directory) {
        return None;
    }
    let (user, group) = user_and_group();
    let is_open_to_group = found.mode() & 0o020 != 0 && ![0, group].contains(&found.gid());
    let letters =
        [(is_open_to_group, "g"), (found.mode() & 0o002 != 0, "o")].into_iter().filter(|(is_open, _)| *is_open);
    let letters: String = letters.map(|(_, letter)| letter).collect();
    match ![0, user].contains(&found.uid()) {
        true if real(directory) == real(named) => {
            Some(format!("if {shown} is for Tailwater alone, give it to the user that runs Tailwater (`chown`)"))
        }
        true => None,
        false if letters.is_empty() => None,
        false => Some(format!("if no other user has to write there, run `chmod {letters}-w {shown}`")),
    }
}

fn is_shared(directory: &Path) -> bool {
    let real = real(directory);
    [directory, &real].iter().any(|path| {
        SHARED.iter().any(|shared| *path == Path::new(shared))
            || OF_THE_SYSTEM.iter().any(|above| path.starts_with(above))
    })
}

fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Advises to run this command as the user who owns what is at `path`, or the nearest directory above it that can be seen.
pub fn as_owner(path: &Path) -> String {
    let owner = path.ancestors().find_map(|above| fs::symlink_metadata(above).ok()).map(|found| found.uid());
    match owner.filter(|owner| *owner != user_and_group().0) {
        Some(owner) => format!("run this as the user that owns the data directory:\n  {}", again_as(owner, path)),
        None => "run this as the user that owns the data directory".to_owned(),
    }
}

/// The command line of this process, as the user with this number runs it. A user without a name gets the group of what is at `path`.
pub fn again_as(user: u32, path: &Path) -> String {
    let all = std::env::args_os().map(|argument| quoted(&argument.to_string_lossy()));
    let command = all.collect::<Vec<_>>().join(" ");
    match (users::name_of(user), user_and_group().0) {
        (Some(name), 0) => format!("runuser -u {name} -- {command}"),
        (None, 0) => {
            let group = path.ancestors().find_map(|above| fs::metadata(above).ok()).map_or(user, |found| found.gid());
            format!("setpriv --reuid {user} --regid {group} --clear-groups -- {command}")
        }
        (Some(name), _) => format!("sudo -u {name} -- {command}"),
        (None, _) => format!("sudo -u '#{user}' -- {command}"),
    }
}

/// An argument as a shell reads it.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@+%".contains(c);
    match !argument.is_empty() && argument.chars().all(is_plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn directories_that_others_need_are_left_as_they_are() {
        for directory in ["/tmp", "/", "/var/log", "/usr/share", "/dev/shm"] {
            let directory = Path::new(directory);
            assert_eq!(or_closing("move", directory, &directory.join("x")), "move", "{}", directory.display());
            assert_eq!(or_closing("move", directory, directory), "move", "{}", directory.display());
        }
        let parent = tempfile::tempdir().expect("a directory");
        for (mode, said) in [(0o1777, None), (0o777, Some("chmod o-w")), (0o757, Some("chmod o-w")), (0o755, None)] {
            let path = parent.path().join(format!("{mode:o}"));
            fs::create_dir(&path).expect("made");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
            let advice = or_closing("move", &path, &path.join("x"));
            assert_eq!(advice != "move", said.is_some(), "{advice}");
            assert!(advice.contains(said.unwrap_or("")) && advice.starts_with("move"), "{advice}");
        }
    }

    #[test]
    fn owner_above_the_named_directory_stays() {
        if user_and_group().0 != 0 {
            return;
        }
        let parent = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::chown(parent.path(), Some(65534), None).expect("a new owner");
        assert_eq!(or_closing("move", parent.path(), &parent.path().join("x")), "move");
        assert!(or_closing("move", parent.path(), parent.path()).contains("chown"));
    }

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        assert_eq!(quoted("/etc/t.yaml"), "/etc/t.yaml");
        assert_eq!(quoted("it's $x"), "'it'\\''s $x'");
        assert_eq!(quoted(""), "''");
    }
}
