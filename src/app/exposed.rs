//! Secrets in files that others can read: the configuration itself, and the private keys that it names.
//!
//! Guarantees: only warnings, each with its next step. A file counts as exposed if every user can read it, or a group with more than one
//! user besides root and the owner; the group of a service has one. Looks at the rights of the file alone, not at those of the
//! directories above it or at access control lists, and knows only the groups in `/etc/group`.

use super::users;
use crate::config::problem::Problem;
use crate::config::{Loaded, NamedFile};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Warnings about what the configuration in this file says and names. May block.
pub fn warnings(loaded: &Loaded, file: &Path) -> Vec<Problem> {
    let literal = loaded.literals.first().and_then(|span| {
        let who = readers_of(file)?;
        let shown = file.display();
        let more = match loaded.literals.len() {
            1 => "this one".to_owned(),
            count => format!("this one and {} more", count - 1),
        };
        let help = format!(
            "write `${{NAME}}` and set the variable in a file that only root can read (`EnvironmentFile=` of systemd), or run \
             {}", alone(&shown.to_string())
        );
        Some(Problem::warning(*span, format!("a secret is written in a file that {who} can read")).label(more).help(help))
    });
    let keys =
        loaded.files.iter().filter(|file| file.is_secret).filter_map(|NamedFile { whose, path, span, .. }| {
            let (who, shown) = (readers_of(path)?, path.display());
            let help = format!("run {}, and create a new key", alone(&shown.to_string()));
            let what = format!("{whose}: {who} can read the private key {shown}");
            Some(Problem::warning(*span, what).label("named here").help(help))
        });
    literal.into_iter().chain(keys).collect()
}

/// Commands after which only root and the user that runs Tailwater can read a file. Root stays its owner, so that nobody else can change it.
fn alone(shown: &str) -> String {
    format!(
        "`chown root:GROUP {shown} && chmod 0640 {shown}`, where GROUP is the one of the user that runs Tailwater alone (`tailwater` in \
         docs/service.md)"
    )
}

/// Who can read a file who should not. None also if it is not there: others report that.
fn readers_of(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    match found.mode() {
        mode if mode & 0o004 != 0 => Some("every user".to_owned()),
        mode if mode & 0o040 != 0 => users::of_group(found.gid(), found.uid()),
        _ => None,
    }
}
