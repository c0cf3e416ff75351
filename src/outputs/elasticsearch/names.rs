//! The index names of events: which one an event leads to, and whether it may.
//!
//! Guarantees: a name that the server would reject, or read as something else than one name, is not sent. Neither is one that a value
//! makes begin like the name of a system index, nor one beyond `max_indexes` ([`crate::outputs::distinct`]), which holds for all
//! instances of an output together. Dates around now do not count for it: each value may have its indexes of these days. Any other date
//! counts like a value, because events choose it.
//!
//! If the server refuses events because of an index that events chose, they are rejected after a while ([`super::barred`]).
//!
//! A name is judged once in a delivery, and only then is memory allocated and the lock of the output taken: for at most
//! [`NAMES_KEPT_MAX`] names that are remembered at once.

use super::barred::{Barred, Fate};
use crate::codec::template::Template;
use crate::codec::visible::steers;
use crate::outputs::distinct::{Distinct, is_date_counted};
use crate::outputs::requests::part::{Part, Slice};
use crate::outputs::requests::{Items, Verdict};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use tailwater_shards::env::{Monotonic, Timestamp};
use tailwater_shards::plugin::{Delivery, Event};
use tailwater_shards::scan::escape_json_into;

/// Longest index name, in bytes.
const INDEX_BYTES_MAX: usize = 255;

/// Of how many accepted events of a response the indexes are looked at.
const TAKEN_SEEN_MAX: usize = 64;

/// Dates that are at most this far from now are those of events that just happened.
const NEAR_NANOS: u64 = 24 * 3600 * 1_000_000_000;

/// Names that are remembered within a delivery: when there are more, all are judged again.
const NAMES_KEPT_MAX: usize = 1024;

/// The indexes of one output: which names its events led to, from all its instances, and which of them the server refuses.
pub struct Indexes {
    output: String,
    distinct: Mutex<Distinct>,
    barred: Mutex<Barred>,
}

impl Indexes {
    /// Those of an output that may have `max` of them.
    pub fn new(output: &str, max: usize) -> Indexes {
        let (distinct, barred) = (Mutex::new(Distinct::new(max)), Mutex::default());
        Indexes { output: output.to_owned(), distinct, barred }
    }

    /// Why an index is one too many, if it is. Says so in the log from time to time.
    fn refuse(&self, group: &[u8], counted: &[u8], name: &str, now: Monotonic) -> Option<String> {
        let mut distinct = self.distinct.lock().unwrap_or_else(PoisonError::into_inner);
        if distinct.admit(group, counted, now) {
            return None;
        }
        let why = format!(
            "`max_indexes` is reached: events led to too many different indexes within a day, and of {} none is left for `{name}`; dates \
             of the last 7 days and of the next one do not count; raise it, or put fields with fewer values, and no dates that events \
             choose, into `index`",
            distinct.max()
        );
        if distinct.is_news() {
            let output = &self.output;
            tracing::warn!(
                component_id = %output, component_kind = "output",
                "output {output}: {why}. Events for such indexes become dead letters"
            );
        }
        Some(why)
    }
}

/// An index in [`Barred`].
struct Place {
    /// The same for all days of a value, as long as they are around now.
    key: Vec<u8>,
    /// Whether events choose it: the fields or a date far from now.
    is_chosen: bool,
}

/// What happens to the events of one index.
pub enum Action {
    /// They are sent, with an action line that begins like this.
    Send(Vec<u8>),
    /// They are left out.
    Refuse {
        /// Why.
        reason: String,
        /// Whether the index is one too many.
        is_excess: bool,
    },
}

/// See the module.
pub struct Names {
    index: Template,
    has_fields: bool,
    /// The action line up to the name.
    beginning: &'static [u8],
    indexes: Arc<Indexes>,
    /// The names of this delivery, as they were rendered, with the places of their actions.
    known: HashMap<Vec<u8>, usize>,
    actions: Vec<Action>,
    /// The action of the last event. Without fields, it is that of all events with a time in `moments`.
    current: usize,
    moments: Range<i64>,
    scratch: Vec<u8>,
    wall: Timestamp,
    now: Monotonic,
}

impl Names {
    /// The names from this template, of which any number is allowed.
    pub fn new(index: Template, beginning: &'static [u8]) -> Names {
        Names {
            has_fields: index.has_fields(),
            index,
            beginning,
            indexes: Arc::new(Indexes::new("", usize::MAX)),
            known: HashMap::new(),
            actions: Vec::new(),
            current: 0,
            // Empty range: no event is in it.
            moments: 0..0,
            scratch: Vec::new(),
            wall: Timestamp(0),
            now: Monotonic(0),
        }
    }

    /// The same with a bound.
    pub fn within(self, indexes: Arc<Indexes>) -> Names {
        Names { indexes, ..self }
    }

    /// A new delivery begins at this time.
    pub fn begin(&mut self, wall: Timestamp, now: Monotonic) {
        self.forget();
        self.moments = 0..0;
        (self.wall, self.now) = (wall, now);
    }

    fn forget(&mut self) {
        self.known.clear();
        self.actions.clear();
    }

    /// The index of an event that was sent.
    fn place(&self, event: &Event<'_>) -> Place {
        let at = |timestamp| {
            let mut name = Vec::new();
            self.index.render(&Event { timestamp, ..*event }, &mut name);
            String::from_utf8_lossy(&name).to_lowercase().into_bytes()
        };
        let (name, today) = (at(event.timestamp), at(self.wall));
        let is_near = name == today || event.timestamp.0.abs_diff(self.wall.0) <= NEAR_NANOS;
        Place { key: if is_near { today } else { name }, is_chosen: self.has_fields || !is_near }
    }

    /// Learns which indexes accepted events and which did not. Events of an index that was given up are rejected.
    pub fn settle(&self, delivery: &Delivery<'_>, part: &Part, verdict: &mut Verdict, now: Monotonic) {
        if !self.has_fields && !self.index.has_dates() {
            return;
        }
        let mut barred = self.indexes.barred.lock().unwrap_or_else(PoisonError::into_inner);
        match verdict {
            // A few are enough to know that the server accepts events.
            Verdict::Delivered => {
                let ends = [part.indexes().next(), part.indexes().last()];
                let mut ends: Vec<u64> = ends.into_iter().flatten().collect();
                ends.dedup();
                for_each(delivery, &ends, |_, event| self.accept(&mut barred, event, now));
            }
            Verdict::Items(items) if !items.barred.is_empty() => self.judge(&mut barred, delivery, part, items, now),
            _ => {}
        }
    }

    fn accept(&self, barred: &mut Barred, event: &Event<'_>, now: Monotonic) {
        let place = self.place(event);
        if barred.accepted(&place.key, now) {
            let (output, index) = (&self.indexes.output, String::from_utf8_lossy(&place.key).into_owned());
            tracing::info!(component_id = %output, component_kind = "output", %index, "the server accepts events for this index again");
        }
    }

    fn judge(&self, barred: &mut Barred, delivery: &Delivery<'_>, part: &Part, items: &mut Items, now: Monotonic) {
        let indexes: Vec<u64> = part.indexes().collect();
        let unsaid = items.unsaid_from.unwrap_or(indexes.len()).min(indexes.len());
        let others = items.retry.iter().chain(items.doubtful.iter().chain(&items.rejected).map(|(place, _)| place));
        let others: HashSet<usize> = others.copied().collect();
        let taken: Vec<u64> = (0..unsaid).filter(|place| !others.contains(place)).map(|place| indexes[place]).collect();
        let some: Vec<u64> = taken.iter().copied().step_by(taken.len() / TAKEN_SEEN_MAX + 1).collect();
        for_each(delivery, &some, |_, event| self.accept(barred, event, now));
        let wanted: Vec<(u64, (usize, String))> = std::mem::take(&mut items.barred)
            .into_iter()
            .filter_map(|(place, why)| Some((*indexes.get(place)?, (place, why))))
            .collect();
        let at: Vec<u64> = wanted.iter().map(|(index, _)| *index).collect();
        let (mut wanted, mut rejected) = (wanted.into_iter(), HashSet::new());
        for_each(delivery, &at, |_, event| {
            let Some((_, (place, why))) = wanted.next() else { return };
            let of = self.place(event);
            if !of.is_chosen {
                return;
            }
            if let Fate::Rejected { is_news } = barred.refused(&of.key, now) {
                if is_news {
                    self.say(&of.key, &why);
                }
                rejected.insert(place);
                items.rejected.push((place, format!("{why}; the server accepts events for other indexes")));
            }
        });
        items.retry.retain(|place| !rejected.contains(place));
    }

    fn say(&self, key: &[u8], why: &str) {
        let (output, index) = (&self.indexes.output, String::from_utf8_lossy(key).into_owned());
        tracing::warn!(
            component_id = %output, component_kind = "output", %index,
            "output {output}: the server accepts events for other indexes, but not for this one: its events become dead letters until it \
             does: {why}"
        );
    }

    /// What happens to an event. First, whether it has each field without a default.
    pub fn of(&mut self, event: &Event<'_>) -> (bool, &Action) {
        let mut is_named = true;
        if self.has_fields || !self.moments.contains(&event.timestamp.0) {
            self.moments = self.index.same_dates(event.timestamp);
            self.scratch.clear();
            is_named = self.index.render(event, &mut self.scratch);
            self.current = match self.known.get(&self.scratch) {
                Some(known) => *known,
                None => self.learn(event),
            };
        }
        (is_named, &self.actions[self.current])
    }

    /// Judges the name in `scratch`, and returns the place of its action.
    fn learn(&mut self, event: &Event<'_>) -> usize {
        if self.actions.len() >= NAMES_KEPT_MAX {
            self.forget();
        }
        let name = String::from_utf8_lossy(&self.scratch).to_lowercase();
        let action = match unfit(&name, &self.index) {
            Some(why) => Action::Refuse { reason: format!("the index name `{name}` {why}"), is_excess: false },
            None => match self.excess(event, &name) {
                Some(reason) => Action::Refuse { reason, is_excess: true },
                None => {
                    let mut line = self.beginning.to_vec();
                    escape_json_into(name.as_bytes(), &mut line);
                    line.push(b'"');
                    Action::Send(line)
                }
            },
        };
        self.actions.push(action);
        self.known.insert(self.scratch.clone(), self.actions.len() - 1);
        self.actions.len() - 1
    }

    /// Why an index is one too many, if it is.
    fn excess(&self, event: &Event<'_>, name: &str) -> Option<String> {
        let is_of_event = self.index.has_dates() && is_date_counted(event.timestamp, self.wall);
        if !self.has_fields && !is_of_event {
            return None;
        }
        // The same for all dates.
        let mut values = Vec::new();
        self.index.render(&Event { timestamp: Timestamp(0), ..*event }, &mut values);
        let values = String::from_utf8_lossy(&values).to_lowercase();
        let counted = if is_of_event { name } else { &values };
        self.indexes.refuse(values.as_bytes(), counted.as_bytes(), name, self.now)
    }
}

/// Calls `visitor` with the events at these ascending indexes, each once and in order.
fn for_each(delivery: &Delivery<'_>, indexes: &[u64], mut visitor: impl FnMut(u64, &Event<'_>)) {
    Part::at(indexes.iter().copied()).visit(delivery, |slice| match slice {
        Slice::Event(event, index) => visitor(index, &event),
        Slice::Piece(piece, first) => (first..).zip(piece.iter()).for_each(|(index, event)| visitor(index, &event)),
    });
}

/// Why the server would reject every index name of this template because of its fixed text. The values of fields are unknown,
/// so for a template with fields only problems that no value can fix are reported.
pub fn never_fit(index: &Template) -> Option<String> {
    let mut name = Vec::new();
    // A field that is missing in an event is rendered as `unknown`, which is always valid, or as its default.
    index.render(&Event { line: b"{}", timestamp: Timestamp(0) }, &mut name);
    let name = String::from_utf8_lossy(&name).to_lowercase();
    let bytes_least = name.len().saturating_sub(index.missing_bytes());
    if index.has_fields() && name.len() > INDEX_BYTES_MAX && bytes_least <= INDEX_BYTES_MAX {
        return None;
    }
    let form = if index.has_fields() { "an index name from this template" } else { "the index name" };
    unfit(&name, index).map(|why| format!("{form} is invalid: `{name}` {why}"))
}

/// Why no event may go to an index with this name: the server would reject it, or read it as something else than one name, or
/// an event's value makes it a system index.
fn unfit(name: &str, index: &Template) -> Option<&'static str> {
    let odd = |c: char| steers(c) || c.is_whitespace() || "\\/*?\"<>|,#:".contains(c);
    match name {
        "" => Some("is empty"),
        "." | ".." => Some("is not allowed"),
        _ if name.starts_with(['-', '_', '+']) => Some("begins with -, _ or +"),
        _ if name.starts_with('.') && !index.begins_fixed() => {
            Some("begins with a dot that an event's field may have chosen: such names are those of system indexes")
        }
        _ if name.len() > INDEX_BYTES_MAX => Some("is longer than 255 bytes"),
        _ if name.contains(odd) => Some("contains white space, a control character, or one of \\ / * ? \" < > | , # :"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23T00:12:34Z.
    const MOMENT: Timestamp = Timestamp(1_795_392_754_000_000_000);
    const DAY: i64 = 24 * 3600 * 1_000_000_000;

    fn template(text: &str) -> Template {
        Template::parse(text).expect("a template")
    }

    /// Names in an output with a bound, at [`MOMENT`].
    fn names(text: &str, indexes: &Arc<Indexes>) -> Names {
        let mut names = Names::new(template(text), b"\"").within(indexes.clone());
        names.begin(MOMENT, Monotonic(5));
        names
    }

    /// The index of an event with this value, so many days later; or why it has none.
    fn index_of(names: &mut Names, value: &str, days: i64) -> Result<String, String> {
        let (line, timestamp) = (format!("{{\"svc\":\"{value}\"}}"), Timestamp(MOMENT.0 + days * DAY));
        match names.of(&Event { line: line.as_bytes(), timestamp }).1 {
            Action::Send(line) => Ok(String::from_utf8_lossy(line).replace('"', "")),
            Action::Refuse { reason, is_excess: true } => Err(reason.clone()),
            Action::Refuse { reason, .. } => panic!("{reason}"),
        }
    }

    #[test]
    fn dates_that_events_choose_take_a_bounded_number_of_indexes_and_not_that_of_today() {
        let indexes = Arc::new(Indexes::new("out", 100));
        let mut names = names("logs-%Y.%m.%d", &indexes);
        let made = (100..1600).filter(|day| index_of(&mut names, "", *day).is_ok()).count();
        assert_eq!(made, 50);
        let why = index_of(&mut names, "", 1700).expect_err("one too many");
        assert!(why.contains("of 100 none is left for `logs-2031.07.20`") && why.contains("raise it"), "{why}");
        assert_eq!(index_of(&mut names, "", 100), Ok("logs-2027.03.03".to_owned()), "what is known passes");
        for day in -7..=1 {
            index_of(&mut names, "", day).expect("the days around now");
        }
    }

    #[test]
    fn values_take_a_bounded_number_of_indexes_with_all_their_days_and_leave_places_to_others() {
        let indexes = Arc::new(Indexes::new("out", 20));
        let mut names = names("logs-{{ svc }}-%F", &indexes);
        let days = |names: &mut Names, svc: &str| (100..200).filter(|day| index_of(names, svc, *day).is_ok()).count();
        assert_eq!((index_of(&mut names, "a", 0).is_ok(), days(&mut names, "a")), (true, 9), "half of all");
        for number in 0..1500 {
            let _ = index_of(&mut names, &format!("x{number}"), 0);
        }
        assert!(index_of(&mut names, "b", 0).is_err());
        for day in -7..=1 {
            assert!(index_of(&mut names, "A", day).is_ok(), "in upper case it is the same index");
        }
    }

    /// Each shard has an instance, and a delivery remembers no more than a part of the names.
    #[test]
    fn all_instances_of_an_output_share_the_bound() {
        let indexes = Arc::new(Indexes::new("out", 3000));
        let mut all = [names("{{ svc }}", &indexes), names("{{ svc }}", &indexes)];
        for number in 0..6000 {
            let made = index_of(&mut all[number % 2], &number.to_string(), 0);
            assert_eq!(made.is_ok(), number < 3000, "{number}");
            assert!(all[number % 2].actions.len() <= NAMES_KEPT_MAX);
        }
        assert!(index_of(&mut all[0], "2999", 0).is_ok() && index_of(&mut all[1], "0", 0).is_ok());
        assert!(!indexes.distinct.lock().expect("no panic").is_news(), "it was said");
    }

    #[test]
    fn names_without_fields_have_no_bound_around_now() {
        let indexes = Arc::new(Indexes::new("out", 1));
        for text in ["logs", "logs-%Y.%m.%d"] {
            let mut names = names(text, &indexes);
            assert!((-7..=1).all(|day| index_of(&mut names, "", day).is_ok()), "{text}");
        }
    }

    #[test]
    fn no_name_can_end_its_line() {
        for name in ["", ".", "..", "a b", "a\nb", "a\"b", "a\\b", "a:b", "+a", "a\u{0}", &"x".repeat(256)] {
            assert!(unfit(name, &template("l")).is_some(), "{name:?}");
        }
        for name in ["a", ".hidden", "a.b-c_d", "ü"] {
            assert_eq!(unfit(name, &template("l")), None);
        }
    }

    #[test]
    fn names_that_no_field_value_can_fix_are_reported() {
        let long = "x".repeat(250);
        let too_long = format!("{long}123456");
        for never in [
            "_logs",
            "-logs",
            "+logs-%Y",
            ".",
            "..",
            "a b",
            "a,b",
            "a#b",
            "a:b",
            "a/b",
            "a*",
            "logs-<now>",
            "_{{ x }}",
            "{{ x }}/y",
            "{{ x }} ",
            "a\\{{ x }}",
            "l-%Y|{{ x }}",
            &too_long,
            "{{ x | default('.security') }}",
            ".{{ x }}",
            &format!("{too_long}{{{{ x }}}}"),
            &format!("{long}%F"),
        ] {
            let what = never_fit(&template(never)).unwrap_or_else(|| panic!("{never} fits"));
            assert!(what.contains(" is invalid: `"), "{what}");
        }
        for fit in [
            "logs",
            "Logs",
            "logs-%Y.%m.%d",
            ".logs",
            "{{ x }}",
            "{{ x }}-",
            ".l-{{ x }}",
            "a-{{ x }}_b",
            &format!("{long}{{{{ x }}}}{{{{ y }}}}"),
        ] {
            assert_eq!(never_fit(&template(fit)), None, "{fit}");
        }
    }
}
