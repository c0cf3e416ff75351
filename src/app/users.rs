//! Names of users and members of groups, as this system knows them.
//!
//! Guarantees: reads at most [`TABLE_BYTES_MAX`] bytes of a table. Knows only the tables in `/etc`: a user of a directory service has a
//! number here, and no name.

use std::collections::BTreeSet;
use std::fs;

/// The most bytes of a table of users or groups that are read.
const TABLE_BYTES_MAX: u64 = 1 << 20;

/// The table of users or groups in this file; empty if it is missing or too large.
fn table(path: &str) -> String {
    let is_small = fs::metadata(path).is_ok_and(|table| table.len() <= TABLE_BYTES_MAX);
    if is_small { fs::read_to_string(path).unwrap_or_default() } else { String::new() }
}

/// The name of the user with this number.
pub fn name_of(user: u32) -> Option<String> {
    named_in(&table("/etc/passwd"), user)
}

/// The number of a user, and the name if there is one.
pub fn shown(user: u32) -> String {
    name_of(user).map_or_else(|| user.to_string(), |name| format!("{user} ({name})"))
}

/// A group and its members, if there are several besides root and the owner of a file, or if they are not known: the group of a directory
/// service may have any. The group of a service has one.
pub fn of_group(group: u32, owner: u32) -> Option<String> {
    Tables { users: table("/etc/passwd"), groups: table("/etc/group"), own: own_groups() }.members(group, owner)
}

/// The groups of this process, besides that of root: an orchestrator gives containers groups that no table knows.
fn own_groups() -> Vec<u32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter_map(|line| line.strip_prefix("Groups:").or_else(|| line.strip_prefix("Gid:")));
    [0].into_iter().chain(lines.flat_map(str::split_whitespace).filter_map(|number| number.parse().ok())).collect()
}

/// The tables of users and groups.
struct Tables {
    users: String,
    groups: String,
    /// Groups of which nothing is said if they are in no table.
    own: Vec<u32>,
}

impl Tables {
    /// The group and its members, if there are several besides root and the owner, or if they are not known.
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
        if entry.is_none() && !self.own.contains(&group) {
            return Some(format!("the group {group} (its users are unknown: it is not in /etc/group)"));
        }
        let name = entry.and_then(|line| line.split(':').next()).unwrap_or_default();
        (members.len() > 1).then(|| format!("the group {name} ({} users)", members.len()))
    }
}

fn named_in(users: &str, user: u32) -> Option<String> {
    let line =
        users.lines().find(|line| line.split(':').nth(2).and_then(|number| number.parse().ok()) == Some(user))?;
    let name = line.split(':').next()?;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.$".contains(&byte));
    (is_plain && !name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names_if_the_table_has_them() {
        let users = "root:x:0:0::/root:/bin/sh\ntailwater:x:990:990::/:/bin/false\na b:x:5:5::/:\n";
        assert_eq!(named_in(users, 990).as_deref(), Some("tailwater"));
        assert_eq!(named_in(users, 5), None, "what a shell could take for something else is no name");
        assert_eq!(named_in(users, 1), None);
    }

    #[test]
    fn group_of_a_service_is_no_stranger_and_a_shared_group_is() {
        let tables = Tables {
            users: "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n\
                    tailwater:x:990:990::/:/bin/false\nsyslog:x:991:4::/:/bin/false\n"
                .to_owned(),
            groups: "root:x:0:\ntailwater:x:990:\nadm:x:4:ann,tailwater\nann:x:1000:root\nusers:x:100:ann,bob\n"
                .to_owned(),
            own: vec![0, 2000],
        };
        for (group, owner, who) in [
            (990, 0, None),
            (0, 0, None),
            (1000, 1000, None),
            (4, 0, Some("the group adm (3 users)")),
            (100, 0, Some("the group users (2 users)")),
            (100, 1000, None),
            (2000, 0, None),
            (7777, 0, Some("the group 7777 (its users are unknown: it is not in /etc/group)")),
        ] {
            assert_eq!(tables.members(group, owner).as_deref(), who, "{group} of {owner}");
        }
    }
}
