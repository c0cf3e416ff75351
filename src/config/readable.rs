//! Files and directories that an input would read now, and that this user may not read.
//!
//! Guarantees: only warnings, since the service may be another user. Looks at one directory per pattern, and opens at most
//! [`FILES_MAX`] of the files in it that the pattern matches; a link is not followed, and nothing but a regular file is opened. Does not
//! look deeper below a pattern: the input tells of what it meets there.

use super::node::Node;
use super::plan::Plan;
use super::problem::Problem;
use crate::inputs::InputConfig;
use crate::inputs::file::patterns::Patterns;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tailwater_shards::counted::counted;
use tailwater_shards::env::located::{Links, Located};
use tailwater_shards::env::{Disk, FileKind, Open};

/// Number of files per pattern that are looked at.
const FILES_MAX: usize = 1000;

const HELP: &str = "give the user that runs Tailwater, or a group of it, the right to read (`setfacl`, or the group `adm`), as docs/service.md \
                    says; run `validate` as that user";

/// Warns of each pattern whose files this user may not find or read. May block.
pub fn check<D: Disk>(plan: &Plan, root: &Node, disk: &D, problems: &mut Vec<Problem>) {
    for input in plan.inputs.iter().filter(|input| input.used) {
        let InputConfig::File(settings) = &input.settings else { continue };
        if ["include", "exclude"].iter().any(|key| root.is_assumed(&["inputs", &input.name, key])) {
            continue;
        }
        let here = disk.canonical(Path::new(".")).unwrap_or_else(|_| "/".into());
        let Ok(patterns) = Patterns::new(&settings.include, &settings.exclude, &here) else { continue };
        for index in 0..patterns.bases.len() {
            let span = root.span_at(&["inputs", &input.name, "include", &index.to_string()]);
            let is_name = |pattern: &&String| !pattern.contains(['*', '?', '[', '{']);
            let named = settings.include.get(index).filter(is_name).map(|path| here.join(path));
            let found = match unreadable(index, named, &patterns, disk) {
                Err(directory) => Some((
                    format!("the directory {} cannot be read by this user", directory.display()),
                    "no file is found there",
                )),
                Ok(files) => files.first().map(|first| {
                    let others = match files.len() {
                        1 => String::new(),
                        count => format!(", like {} there", counted(count - 1, "other file")),
                    };
                    (format!("{} cannot be read by this user{others}", first.display()), "matches it")
                }),
            };
            problems
                .extend(found.map(|(what, label)| Problem::warning(span, what).label(label).help(HELP).independent()));
        }
    }
}

/// The files in the directory where a pattern begins that it matches and that may not be read; or the directory, if that may not. A file
/// that is named without wildcards is found in a directory that cannot be listed.
fn unreadable<D: Disk>(
    index: usize,
    named: Option<PathBuf>,
    patterns: &Patterns,
    disk: &D,
) -> Result<Vec<PathBuf>, PathBuf> {
    let base = &patterns.bases[index].1;
    let is_denied = |error: &std::io::Error| error.kind() == ErrorKind::PermissionDenied;
    let listed = if named.is_some() { Ok(Vec::new()) } else { disk.list(base) };
    let entries = match listed {
        Err(error) if is_denied(&error) => return Err(base.clone()),
        entries => entries.unwrap_or_default(),
    };
    let listed = entries.into_iter().filter(|entry| !entry.link && !entry.directory).map(|entry| base.join(entry.name));
    let wanted = listed
        .chain(named)
        .filter(|path| patterns.matches(index, path) && !patterns.excludes.match_path(path))
        .take(FILES_MAX);
    let is_refused = |path: &PathBuf| match disk.locate(base, path, Links::Refuse) {
        Ok(found) => {
            found.stat().is_ok_and(|stat| stat.kind == FileKind::Regular)
                && found.open(Open::Read).is_err_and(|error| is_denied(&error))
        }
        Err(error) => is_denied(&error),
    };
    Ok(wanted.filter(is_refused).collect())
}
