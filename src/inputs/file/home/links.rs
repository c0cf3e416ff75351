//! Names that are not read because of links: counted, and told in moderation.
//!
//! Guarantees: the log names the first one of each kind with the key to set, and again at most once per hour, so whoever makes
//! links does not fill the log. All of them are counted. How many are looked at again is bounded per directory.

use super::super::discover::LinksSeen;
use super::super::scout::Refusal;
use super::Home;
use super::directory::Directory;
use std::mem::{Discriminant, discriminant};
use std::path::Path;
use std::time::Duration;
use tailwater_shards::env::{Env, Monotonic};

/// How long a kind is not told again.
const TELL_AGAIN: Duration = Duration::from_secs(3600);

/// Which kinds were told, and when.
#[derive(Default)]
pub(super) struct Told(Vec<(Discriminant<Refusal>, Monotonic)>);

impl Told {
    /// Whether this kind may be told now. Then it counts as told.
    fn is_due(&mut self, refusal: &Refusal, now: Monotonic) -> bool {
        let kind = discriminant(refusal);
        match self.0.iter_mut().find(|told| told.0 == kind) {
            Some((_, at)) if now.since(*at) < TELL_AGAIN => return false,
            Some((_, at)) => *at = now,
            None => self.0.push((kind, now)),
        }
        true
    }
}

impl<E: Env> Home<'_, E> {
    /// Notes the links in a directory that was just listed, before its entries are applied: those that are still refused are among
    /// these, except `more`.
    pub(super) fn note_links(&mut self, path: &Path, links: LinksSeen, more: u64) {
        let Some(directory) = self.directories.get_mut(path) else { return };
        directory.links_seen = links.count;
        directory.refused.clear();
        directory.refused_more = more;
        if let Some(name) = links.example {
            self.tell_of_link(&path.join(name), &Refusal::Link);
        }
    }

    /// Tells of a name that is not read, if none of its kind was told for a while.
    pub(super) fn tell_of_link(&mut self, path: &Path, refusal: &Refusal) {
        if self.told_of_links.is_due(refusal, self.context.env.now()) {
            tracing::warn!(
                component_id = %self.context.name, component_kind = "input",
                "{}: it is skipped: {refusal}; {}; others like it are only counted, in tailwater_file_links_skipped",
                path.display(), refusal.help()
            );
        }
    }

    /// Shows how many names are not read because of links.
    pub(super) fn count_links(&self) {
        let of = |one: &Directory| one.links_seen + one.refused.len() as u64 + one.refused_more;
        self.context.counters.links_skipped.set(self.directories.values().map(of).sum());
    }
}
