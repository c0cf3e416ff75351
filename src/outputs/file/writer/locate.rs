//! Finds files that were renamed within their directory.
//!
//! Guarantees: a file is known by its identity. A rotated one is found among any number of names, and others among the first
//! [`LISTED_MAX`] names of the directory. A directory is listed and looked at once for all its files that follow each other, so that
//! many missing files of a stranger among many names of his delay no start. Does not look in other directories.

use super::*;
use tailwater_shards::env::located::Located;

/// Maximum number of names that are looked at in a directory: a stranger may have made millions.
const LISTED_MAX: usize = if cfg!(test) { 100 } else { 50_000 };

/// The files of the directory that was listed last, by the numbers of their inodes.
#[derive(Default)]
pub(super) struct Listed {
    directory: PathBuf,
    files: BTreeMap<u64, Vec<(OsString, Identity)>>,
}

impl<D: Disk> Writer<D> {
    /// Where a file is now: at its own path, or under another name in the same directory.
    pub(super) fn locate(&self, path: &Path, identity: &Identity, listed: &mut Listed) -> io::Result<Option<PathBuf>> {
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
        if listed.directory != parent(path) {
            let files = match list(&directory) {
                Ok(files) => files,
                Err(error) if is_gone(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            *listed = Listed { directory: parent(path).to_owned(), files };
        }
        let found = listed.files.get(&identity.inode).into_iter().flatten();
        let found = found.filter(|(_, other)| other.fits(identity) && other.device == identity.device);
        // One with its name in front first: it is more likely to stay there.
        let name = found.map(|(name, _)| name).min_by_key(|name| !is_like(own.as_bytes(), name));
        Ok(name.map(|name| parent(path).join(name)))
    }
}

/// The regular files in a directory.
fn list(directory: &impl Located) -> io::Result<BTreeMap<u64, Vec<(OsString, Identity)>>> {
    let mut files: BTreeMap<u64, Vec<(OsString, Identity)>> = BTreeMap::new();
    for entry in directory.list_some(LISTED_MAX)?.into_iter().filter(|entry| !entry.directory && !entry.link) {
        if let Ok(stat) = directory.stat_name(&entry.name)
            && stat.kind == FileKind::Regular
        {
            files.entry(stat.inode).or_default().push((entry.name, Identity::of(&stat)));
        }
    }
    Ok(files)
}

fn is_like(own: &[u8], name: &OsStr) -> bool {
    name.as_bytes().starts_with(own)
}

#[cfg(test)]
mod tests {
    use super::super::alone::tests::writer;
    use super::*;

    #[test]
    fn directory_is_listed_once_for_its_files_and_again_the_next_time() {
        let (disk, writer) = writer(true);
        let outside = disk.outside();
        outside.write("/out/his/y", b"").expect("it is new");
        let identity = |path: &str| Identity::of(&outside.stat(path).expect("it is there"));
        let (x, y, ours) = (identity("/out/his/x"), identity("/out/his/y"), identity("/out/ours/x"));
        for (from, to) in [("/out/his/x", "/out/his/1"), ("/out/his/y", "/out/his/2"), ("/out/ours/x", "/out/ours/1")] {
            outside.rename(from, to).expect("it is there");
        }
        let at = |path: &str, identity: &Identity, listed: &mut Listed| {
            writer.locate(Path::new(path), identity, listed).expect("it can be listed")
        };
        let mut listed = Listed::default();
        assert_eq!(at("/out/his/x", &x, &mut listed).as_deref(), Some(Path::new("/out/his/1")));
        outside.rename("/out/his/2", "/out/his/3").expect("it is there");
        assert_eq!(at("/out/his/y", &y, &mut listed).as_deref(), Some(Path::new("/out/his/2")), "as it was");
        assert_eq!(at("/out/his/z", &ours, &mut listed), None);
        assert_eq!(at("/out/ours/x", &ours, &mut listed).as_deref(), Some(Path::new("/out/ours/1")));
        assert_eq!(at("/out/his/y", &y, &mut listed).as_deref(), Some(Path::new("/out/his/3")));
    }
}
