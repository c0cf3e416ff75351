//! Secrets in files that others can read: the configuration itself, and the private keys that it names.
//!
//! Guarantees: only warnings, each with its next step. A file counts as exposed if every user can read it, or a group with more than one
//! user besides root and the owner; the group of a service has one. Looks at the rights of the file alone, not at those of the
//! directories above it or at access control lists, and knows only the groups in `/etc/group`.

use crate::config::problem::Problem;
use crate::config::{Loaded, PrivateFile};
use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The most bytes of a table of users or groups that are read.
const TABLE_BYTES_MAX: u64 = 1 << 20;

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
             `chmod 0600 {shown}` and make the user that runs Tailwater its owner"
        );
        Some(Problem::warning(*span, format!("a secret is written in a file that {who} can read")).label(more).help(help))
    });
    let keys = loaded.private_files.iter().filter_map(|PrivateFile { output, path, span }| {
        let (who, shown) = (readers_of(path)?, path.display());
        let help =
            format!("run `chmod 0600 {shown}`, make the user that runs Tailwater its owner, and create a new key");
        let what = format!("output `{output}`: {who} can read the private key {shown}");
        Some(Problem::warning(*span, what).label("named here").help(help))
    });
    literal.into_iter().chain(keys).collect()
}

/// Who can read a file who should not. None also if it is not there: others report that.
fn readers_of(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    let read = |path: &str| {
        let is_small = fs::metadata(path).is_ok_and(|table| table.len() <= TABLE_BYTES_MAX);
        if is_small { fs::read_to_string(path).unwrap_or_default() } else { String::new() }
    };
    readers(&found, || Tables { users: read("/etc/passwd"), groups: read("/etc/group") })
}

/// The tables of users and groups.
struct Tables {
    users: String,
    groups: String,
}

fn readers(found: &Metadata, tables: impl FnOnce() -> Tables) -> Option<String> {
    match found.mode() {
        mode if mode & 0o004 != 0 => Some("every user".to_owned()),
        mode if mode & 0o040 != 0 => tables().members(found.gid(), found.uid()),
        _ => None,
    }
}

impl Tables {
    /// The group and its members, if there are several besides root and the owner.
    fn members(&self, group: u32, owner: u32) -> Option<String> {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
        let users = self.users.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((name, number(fields.nth(1))?, number(fields.next())?))
        });
        let users: Vec<(&str, u32, u32)> = users.collect();
        let entry = self.groups.lines().find(|line| number(line.split(':').nth(2)) == Some(group));
        let listed = entry.and_then(|line| line.split(':').nth(3)).unwrap_or_default().split(',');
        let is_trusted = |name: &str| {
            users.iter().any(|(known, user, _)| *known == name && [0, owner].contains(user)) || name.is_empty()
        };
        let primary = users.iter().filter(|(_, _, own)| *own == group).map(|(name, ..)| *name);
        let members: BTreeSet<&str> = listed.chain(primary).map(str::trim).filter(|name| !is_trusted(name)).collect();
        let name = entry.and_then(|line| line.split(':').next()).unwrap_or_default();
        (members.len() > 1).then(|| format!("the group {name} ({} users)", members.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_of_a_service_is_no_stranger_and_a_shared_group_is() {
        let tables = Tables {
            users: "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n\
                    tailwater:x:990:990::/:/bin/false\nsyslog:x:991:4::/:/bin/false\n"
                .to_owned(),
            groups: "root:x:0:\ntailwater:x:990:\nadm:x:4:ann,tailwater\nann:x:1000:root\nusers:x:100:ann,bob\n"
                .to_owned(),
        };
        for (group, owner, who) in [
            (990, 0, None),
            (0, 0, None),
            (1000, 1000, None),
            (4, 0, Some("the group adm (3 users)")),
            (100, 0, Some("the group users (2 users)")),
            (100, 1000, None),
            (7777, 0, None),
        ] {
            assert_eq!(tables.members(group, owner).as_deref(), who, "{group} of {owner}");
        }
    }
}
