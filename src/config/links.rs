//! Symbolic links among the files that an input would read now, which it does not follow.
//!
//! Guarantees: only warnings, since the files may be others at the start. Looks at one directory per pattern, and at names only. Does
//! not look at links deeper below a pattern: the input tells of them when it meets them.

use super::node::Node;
use super::plan::Plan;
use super::problem::{Problem, Severity};
use crate::inputs::InputConfig;
use crate::inputs::file::Settings;
use crate::inputs::file::fixed;
use crate::inputs::file::patterns::Patterns;
use crate::inputs::file::scout::Refusal;
use crate::outputs::file::paths::exchanged_by_others;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tailwater_shards::env::Disk;

/// Number of links per pattern that are looked at.
const LINKS_MAX: usize = 1000;

/// Warns of each pattern that matches a link which is not followed. May block.
pub fn check<D: Disk>(plan: &Plan, root: &Node, disk: &D, problems: &mut Vec<Problem>) {
    for input in plan.inputs.iter().filter(|input| input.used) {
        let InputConfig::File(settings) = &input.settings else { continue };
        let keys = ["include", "exclude", "follow_links", "link_targets"];
        if keys.iter().any(|key| root.is_assumed(&["inputs", &input.name, key])) {
            continue;
        }
        let here = disk.canonical(Path::new(".")).unwrap_or_else(|_| "/".into());
        let Ok(patterns) = Patterns::new(&settings.include, &settings.exclude, &here) else { continue };
        for index in 0..patterns.bases.len() {
            let span = root.span_at(&["inputs", &input.name, "include", &index.to_string()]);
            let exchangeable = exchangeable(&patterns.bases[index].1, disk);
            problems.extend(exchangeable.map(|problem| Problem { span: Some(span), ..problem }));
            let Some(link) = unfollowed(index, &patterns, settings, disk) else { continue };
            let problem = match link {
                Link::Off(path) => Problem::warning(span, format!("{} is a symbolic link, and is not read", path.display()))
                    .help(
                        "name the file itself; or, if only users whom you trust make links there, set `follow_links: true`, and in \
                         `link_targets` the directories that links may lead to",
                    ),
                Link::Outside(path, target) => {
                    let what = format!("{} is a symbolic link to {}, and is not read", path.display(), target.display());
                    Problem::warning(span, what).help("if only users whom you trust make links there, add the directory of the target to `link_targets`")
                }
            };
            problems.push(problem.label("matches it"));
        }
    }
}

/// The directories where patterns begin. Relative ones begin in `here`.
pub fn bases(plan: &Plan, here: &Path) -> BTreeSet<PathBuf> {
    let mut bases = BTreeSet::new();
    for input in plan.inputs.iter().filter(|input| input.used) {
        let InputConfig::File(settings) = &input.settings else { continue };
        let patterns = Patterns::new(&settings.include, &settings.exclude, here);
        bases.extend(patterns.into_iter().flat_map(|patterns| patterns.bases).map(|(_, base)| base));
    }
    bases
}

/// Warns of a directory where a pattern begins that others can exchange, or where a link is in the way that is not followed. May block.
pub fn exchangeable<D: Disk>(base: &Path, disk: &D) -> Option<Problem> {
    let warning = |what: String| Problem { severity: Severity::Warning, ..Problem::whole(what) };
    let refused = fixed::resolve(disk, base).err();
    if let Some(refusal) = refused.as_ref().and_then(Refusal::of) {
        let problem = warning(refusal.to_string());
        return Some(problem.label("nothing is read there").help(refusal.help()).independent());
    }
    let (directory, what) = exchanged_by_others(base, disk)?;
    Some(
        warning(format!("{} {what}", directory.display()))
            .label("who can write there decides which directory this is")
            .help("name a directory that only root and the user that runs Tailwater can move or replace")
            .independent(),
    )
}

/// A link that is not followed.
enum Link {
    /// Because none is.
    Off(PathBuf),
    /// Because it leads to this path.
    Outside(PathBuf, PathBuf),
}

/// The first link in the directory where a pattern begins that would be read if it were followed.
fn unfollowed<D: Disk>(index: usize, patterns: &Patterns, settings: &Settings, disk: &D) -> Option<Link> {
    let base = &patterns.bases[index].1;
    let paths = disk.list(base).ok()?.into_iter().filter(|entry| entry.link).map(|entry| base.join(entry.name));
    let mut wanted =
        paths.filter(|path| patterns.matches(index, path) && !patterns.excludes.match_path(path)).take(LINKS_MAX);
    if !settings.follow_links {
        return wanted.next().map(Link::Off);
    }
    let targets = settings.link_targets.iter().map(PathBuf::from);
    let allowed = patterns.bases.iter().map(|base| base.1.clone()).chain(targets);
    let allowed: Vec<PathBuf> = allowed.filter_map(|path| disk.canonical(&path).ok()).collect();
    wanted.find_map(|path| {
        let target = disk.canonical(&path).ok()?;
        let is_allowed = allowed.iter().any(|root| target.starts_with(root));
        (!is_allowed).then_some(Link::Outside(path, target))
    })
}
