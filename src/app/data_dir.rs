//! The data directory of a start: creates it, and finds out who else could change what is in it.
//!
//! Guarantees: a start never uses a directory that belongs to another user, that other users can write to, or to which the link of
//! another user leads: they could change positions and events, or make the process write elsewhere. It begins nothing in one of which it
//! may not write everything, as after a start by root. Root, the user of the process
//! and its group are trusted. A new directory in one like `/tmp`, where only owners may rename, is fine. Does not repair anything,
//! and does not look at access control lists beyond what the mode shows of them.

use super::advice::{STICKY, again_as, or_closing};
use super::users;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tailwater_shards::env::Disk;
use tailwater_shards::glommio_env::{RealDisk, user_and_group};
use tailwater_shards::wal::WalError;

/// Names in the data directory whose owner is checked; a sound one has fewer.
const NAMES_MAX: usize = 64;

/// What Tailwater keeps in the directory. Whatever else is there, nobody needs to write.
const OWN_NAMES: [&str; 6] = ["lock", "manifest", "wal", "dlq", "outputs", "inputs"];

/// Names in these of which it is checked whether they can be written.
const WRITTEN_NAMES_MAX: usize = 1024;

/// Why others could change the directory, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// What is wrong.
    pub what: String,
    /// The next step.
    pub help: String,
}

/// Creates the directory, and refuses one that others could change. Says who could put another one in its place.
pub fn prepare(path: &Path) -> Result<Option<Objection>, WalError> {
    Trusted::own().prepare(path)
}

/// Why a start refuses the directory. None if it does not exist.
pub fn objection(path: &Path) -> Option<Objection> {
    Trusted::own().objection(path)
}

/// How others could change the directory: a part of that.
pub fn exposure(path: &Path) -> Option<Objection> {
    Trusted::own().exposure(path)
}

/// [`objection`] for a command that only checks. It may run as another user than the service, so it says how to check as that one.
pub fn objection_to_check(path: &Path) -> Option<Objection> {
    let Objection { what, help } = objection(path)?;
    let help = match keeper(path) {
        Some(owner) => {
            format!("if that user runs Tailwater, check as that user: {}; otherwise, {help}", again_as(owner, path))
        }
        None if is_roots_for_another(path) => {
            format!("if root runs Tailwater, check as root: {}; otherwise, {help}", again_as(0, path))
        }
        None => help,
    };
    Some(Objection { what, help })
}

/// The user who owns the directory or something in it, if that is neither root nor the user of this process. What this process made there,
/// that user could not open.
pub fn keeper(path: &Path) -> Option<u32> {
    Trusted::own().keeper(path)
}

/// The user who owns any directory, if that is neither root nor the user of this process, and nobody else can write to it.
pub fn keeper_alone(path: &Path) -> Option<u32> {
    let (own, found) = (Trusted::own(), fs::metadata(path).ok()?);
    own.stranger(&found).filter(|_| found.mode() & 0o022 == 0)
}

/// Whether root owns the directory, and this process is not root.
fn is_roots_for_another(path: &Path) -> bool {
    user_and_group().0 != 0 && fs::metadata(path).is_ok_and(|found| found.uid() == 0)
}

/// Who could put another directory in its place.
pub fn doubt(path: &Path) -> Option<Objection> {
    Trusted::own().doubt(path)
}

/// Who may change everything that belongs to the process, besides root.
#[derive(Clone, Copy)]
struct Trusted {
    user: u32,
    group: u32,
}

impl Trusted {
    fn own() -> Trusted {
        let (user, group) = user_and_group();
        Trusted { user, group }
    }

    fn stranger(self, metadata: &Metadata) -> Option<u32> {
        Some(metadata.uid()).filter(|owner| *owner != 0 && *owner != self.user)
    }

    /// Who else can write to a directory.
    fn writers(self, metadata: &Metadata) -> Option<String> {
        let group = metadata.gid();
        match metadata.mode() {
            mode if mode & 0o002 != 0 => Some("every user can".to_owned()),
            mode if mode & 0o020 != 0 && group != 0 && group != self.group => {
                Some(format!("the members of the group {group} can"))
            }
            _ => None,
        }
    }

    fn prepare(self, path: &Path) -> Result<Option<Objection>, WalError> {
        // Nothing is created where the link of a stranger leads.
        self.accept(path)?;
        // A failure is reported when the directory is opened.
        let _ = RealDisk::new().create_dir_all(path);
        self.accept(path)?;
        Ok(self.doubt(path))
    }

    fn accept(self, path: &Path) -> Result<(), WalError> {
        match self.objection(path) {
            Some(Objection { what, help }) => {
                Err(WalError::Unusable { path: path.to_owned(), reason: format!("{what}: {help}") })
            }
            None => Ok(()),
        }
    }

    fn keeper(self, path: &Path) -> Option<u32> {
        let found = fs::metadata(path).ok().filter(Metadata::is_dir)?;
        self.stranger(&found).or_else(|| Some(self.strangers_name(path)?.1))
    }

    /// A name in the directory that belongs to somebody else, and who that is.
    fn strangers_name(self, path: &Path) -> Option<(PathBuf, u32)> {
        let names = fs::read_dir(path).into_iter().flatten().flatten().take(NAMES_MAX).map(|entry| entry.path());
        names.into_iter().find_map(|name| {
            let owner = self.stranger(&fs::symlink_metadata(&name).ok()?)?;
            Some((name, owner))
        })
    }

    fn objection(self, path: &Path) -> Option<Objection> {
        self.exposure(path).or_else(|| self.unwritable(path))
    }

    fn exposure(self, path: &Path) -> Option<Objection> {
        let elsewhere = "set `data_dir` to a directory that only the user that runs Tailwater can write to";
        let whole = std::path::absolute(path).ok()?;
        for name in whole.ancestors() {
            let Some(owner) =
                fs::symlink_metadata(name).ok().filter(Metadata::is_symlink).and_then(|link| self.stranger(&link))
            else {
                continue;
            };
            let what = format!(
                "{} is a symbolic link of the user {}, who can lead it elsewhere",
                name.display(),
                users::shown(owner)
            );
            return Some(Objection { what, help: format!("remove the link, or {elsewhere}") });
        }
        let found = fs::metadata(path).ok().filter(Metadata::is_dir)?;
        if let Some(owner) = self.stranger(&found) {
            let what = format!("it belongs to the user {}, who could change everything in it", users::shown(owner));
            let help = format!(
                "{elsewhere}; or, if that user is the one made for Tailwater, run it as that user (this process is user {})",
                users::shown(self.user)
            );
            return Some(Objection { what, help });
        }
        if let Some(who) = self.writers(&found) {
            let what =
                format!("{who} write to it (its mode is {:04o}) and so change everything in it", found.mode() & 0o7777);
            return Some(Objection { what, help: or_closing(elsewhere, path, path) });
        }
        let (name, owner) = self.strangers_name(path)?;
        let what = format!("{} belongs to the user {}", name.display(), users::shown(owner));
        let help = format!(
            "check what it is; if it is Tailwater's, give it to the user {}, or {elsewhere}",
            users::shown(self.user)
        );
        Some(Objection { what, help })
    }

    /// What in the directory this process may not write, or the directory itself: it would fail at the first one that it needs.
    fn unwritable(self, path: &Path) -> Option<Objection> {
        let (disk, mut left) = (RealDisk::new(), WRITTEN_NAMES_MAX);
        let name = match may_write(&disk, path) {
            true => OWN_NAMES.iter().find_map(|name| first_unwritable(&disk, &path.join(name), &mut left))?,
            false => path.to_owned(),
        };
        let found = fs::symlink_metadata(&name).ok()?;
        let (shown, own) = (name.display(), users::shown(self.user));
        let what = format!(
            "{shown} belongs to the user {} (its mode is {:04o}), and the user {own} cannot write to it",
            users::shown(found.uid()),
            found.mode() & 0o7777
        );
        let owner = users::name_of(self.user).unwrap_or_else(|| self.user.to_string());
        let help = match found.uid() == self.user {
            true => format!("run `chmod u+rwX {shown}`"),
            false => format!(
                "if it is Tailwater's, as after a start by root, run `chown -R {owner}: {}` as root; otherwise, set `data_dir` to \
                 another directory",
                path.display()
            ),
        };
        Some(Objection { what, help })
    }

    fn doubt(self, path: &Path) -> Option<Objection> {
        let elsewhere = "set `data_dir` to a directory below ones of root or of the user that runs Tailwater, such as /var/lib/tailwater";
        let existing = existing(path)?;
        let skipped = usize::from(fs::exists(path).unwrap_or(false));
        for above in existing.ancestors().skip(skipped) {
            let Ok(found) = fs::metadata(above) else { continue };
            let shown = above.display();
            if let Some(owner) = self.stranger(&found) {
                let what = format!(
                    "{shown}, in which the data directory is, belongs to the user {}, who could replace it",
                    users::shown(owner)
                );
                return Some(Objection { what, help: elsewhere.to_owned() });
            }
            if let Some(who) = self.writers(&found).filter(|_| found.mode() & STICKY == 0) {
                let what = format!("{who} write to {shown}, and so replace the data directory in it");
                return Some(Objection { what, help: or_closing(elsewhere, above, path) });
            }
        }
        None
    }
}

/// The first name at or below a path that cannot be written for lack of rights. Looks at no more than `left` names.
fn first_unwritable(disk: &RealDisk, path: &Path, left: &mut usize) -> Option<PathBuf> {
    *left = left.checked_sub(1)?;
    let found = fs::symlink_metadata(path).ok().filter(|found| found.is_dir() || found.is_file())?;
    if !may_write(disk, path) {
        return Some(path.to_owned());
    }
    if !found.is_dir() {
        return None;
    }
    let Ok(names) = fs::read_dir(path) else { return Some(path.to_owned()) };
    names.take(*left).flatten().find_map(|name| first_unwritable(disk, &name.path(), left))
}

fn may_write(disk: &RealDisk, path: &Path) -> bool {
    !disk.check_writable(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The path without links, or that of the nearest directory above it that exists.
fn existing(path: &Path) -> Option<PathBuf> {
    let whole = std::path::absolute(path).ok()?;
    whole.ancestors().find_map(|above| fs::canonicalize(above).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A process that owns nothing here but what root owns, or what the user of the tests owns.
    const OTHERS: Trusted = Trusted { user: 4_000_000_000, group: 4_000_000_000 };

    fn made(parent: &Path, name: &str, mode: u32) -> PathBuf {
        let path = parent.join(name);
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        path
    }

    #[test]
    fn directories_that_others_can_change_are_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        let own = Trusted::own();
        for (name, mode, part) in [
            ("private", 0o700, None),
            ("usual", 0o755, None),
            ("own-group", 0o775, None),
            ("open", 0o777, Some("every user can")),
            // Who made it so needs it so.
            ("sticky", 0o1777, Some("every user can")),
        ] {
            let objection = own.objection(&made(parent.path(), name, mode));
            assert_eq!(objection.is_some(), part.is_some(), "{name}: {objection:?}");
            let said = objection.map(|one| format!("{}: {}", one.what, one.help)).unwrap_or_default();
            assert!(said.contains(part.unwrap_or("")), "{said}");
            assert_eq!(said.contains("chmod o-w"), mode == 0o777, "{said}");
        }
        let group = Trusted { group: OTHERS.group, ..own };
        // Root's group is everyone's friend.
        let of_root = fs::metadata(parent.path()).expect("it is there").gid() == 0;
        assert_eq!(group.objection(&parent.path().join("own-group")).is_none(), of_root);
        assert!(own.objection(&parent.path().join("missing")).is_none());
    }

    #[test]
    fn what_belongs_to_a_stranger_is_refused_and_root_is_none() {
        let parent = tempfile::tempdir().expect("a directory");
        let (own, path) = (Trusted::own(), made(parent.path(), "data", 0o700));
        if own.user != 0 {
            assert!(OTHERS.objection(&path).expect("refused").what.contains("belongs to the user"));
            return;
        }
        assert!(OTHERS.objection(&path).is_none(), "root may do everything anyway");
        std::os::unix::fs::chown(&path, Some(65534), None).expect("a new owner");
        let refused = own.objection(&path).expect("refused");
        assert!(refused.what.contains("belongs to the user 65534"), "{refused:?}");
        let mine = made(parent.path(), "mine", 0o700);
        fs::create_dir(mine.join("wal")).expect("made");
        std::os::unix::fs::chown(mine.join("wal"), Some(65534), None).expect("a new owner");
        assert!(own.objection(&mine).expect("refused").what.contains("mine/wal"));
        let link = parent.path().join("link");
        symlink("/etc", &link).expect("made");
        assert!(own.objection(&link).is_none(), "our own link");
        std::os::unix::fs::lchown(&link, Some(65534), None).expect("a new owner");
        assert!(own.objection(&link.join("x")).expect("refused").what.contains("symbolic link of the user 65534"));
        let (target, led) = (made(parent.path(), "target", 0o700), parent.path().join("led"));
        symlink(&target, &led).expect("made");
        std::os::unix::fs::lchown(&led, Some(65534), None).expect("a new owner");
        own.prepare(&led.join("data")).expect_err("refused");
        assert_eq!(fs::read_dir(&target).expect("there").count(), 0, "nothing is created behind it");
    }

    #[test]
    fn parents_that_others_can_write_to_are_named_unless_only_owners_rename() {
        let parent = tempfile::tempdir().expect("a directory");
        let own = Trusted::own();
        let (open, sticky) = (made(parent.path(), "open", 0o777), made(parent.path(), "sticky", 0o1777));
        for below in ["", "missing/yet"] {
            let doubt = own.doubt(&open.join("data").join(below)).expect("named");
            assert!(doubt.what.contains("open, and so replace") && doubt.help.contains("chmod o-w"), "{doubt:?}");
        }
        assert_eq!(own.doubt(&sticky.join("data")), None);
        assert_eq!(own.objection(&sticky.join("data")), None);
    }
}
