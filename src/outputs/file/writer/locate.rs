//! Finds files that were renamed within their directory.
//!
//! Guarantees: a file is known by its identity. A rotated one is found among any number of names, and others among at most
//! [`NAMES_MAX`] names with its own in front and as many without. Lists no more than [`LISTED_MAX`] names. Does not look in
//! other directories.

use super::*;
use tailwater_shards::env::located::Located;

/// Maximum number of names that are looked at to find a file that was renamed, and that are listed for it: a stranger may have made
/// millions.
const NAMES_MAX: usize = 10_000;
const LISTED_MAX: usize = 50_000;

impl<D: Disk> Writer<D> {
    /// Where a file is now: at its own path, or under another name in the same directory.
    pub(super) fn locate(&self, path: &Path, identity: &Identity) -> io::Result<Option<PathBuf>> {
        let is_it = |stat: &Stat| stat.kind == FileKind::Regular && Identity::of(stat).fits(identity);
        match self.places.stat(path) {
            Ok(stat) if is_it(&stat) => return Ok(Some(path.to_owned())),
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
        let directory = match self.places.directory(parent(path)) {
            Ok(directory) => directory,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let own = path.file_name().unwrap_or_default();
        let is_there =
            |name: &OsStr| directory.stat_name(name).is_ok_and(|stat| is_it(&stat) && stat.device == identity.device);
        // A file that was rotated is found among any number of others.
        let rotated = (1..=self.options.keep).map(|number| ending(own, format_args!(".{number}")));
        if let Some(name) = rotated.take_while(|name| directory.stat_name(name).is_ok()).find(|name| is_there(name)) {
            return Ok(Some(parent(path).join(name)));
        }
        let entries = match directory.list_some(LISTED_MAX) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Those with its name in front first: strangers cannot hide it behind a mass of others.
        let own = own.as_bytes();
        let files = || entries.iter().filter(|entry| !entry.directory && !entry.link).map(|entry| &entry.name);
        let (like, unlike) = (files().filter(|name| is_like(own, name)), files().filter(|name| !is_like(own, name)));
        for name in like.take(NAMES_MAX).chain(unlike.take(NAMES_MAX)) {
            if is_there(name) {
                return Ok(Some(parent(path).join(name)));
            }
        }
        Ok(None)
    }
}

fn is_like(own: &[u8], name: &OsStr) -> bool {
    name.as_bytes().starts_with(own)
}
