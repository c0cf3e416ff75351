//! The index names of events: which one an event leads to, and whether it may.
//!
//! Guarantees: a name that the server would reject, or read as something else than one name, is not sent. Neither is one that a value
//! makes begin like the name of a system index, nor one beyond `max_indexes` ([`crate::outputs::distinct`]), which holds for all
//! instances of an output together. Dates around now do not count for it: each value may have its indexes of these days. Any other date
//! counts like a value, because events choose it.
//!
//! If the server refuses events because of an index that events chose, they are rejected after a while ([`super::barred`]), without being
//! sent where the server is slow to say so.
//!
//! A name is judged once in a delivery, and only then is memory allocated and the lock of the output taken: for at most
//! [`NAMES_KEPT_MAX`] names that are remembered at once.

use super::barred::{Barred, Fate, LOOK, Turn};
use crate::codec::template::Template;
use crate::codec::visible::steers;
use crate::outputs::distinct::{Distinct, is_date_counted};
use crate::outputs::letters::Owner;
use crate::outputs::requests::part::{Part, Slice};
use crate::outputs::requests::{BarredItem, Items, Verdict};
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

/// Why an index is given up.
const OTHERS_DO: &str = "the server accepts events for other indexes";

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
    /// Whose an event is, if that decides who shares the places.
    owner: Option<Owner>,
    /// The names of this delivery, as they were rendered, with the places of their actions.
    known: HashMap<Vec<u8>, usize>,
    actions: Vec<Action>,
    /// The action of the last event. Without fields, it is that of all events with a time in `moments`.
    current: usize,
    moments: Range<i64>,
    scratch: Vec<u8>,
    /// The names of this delivery that the server is asked about, with the keys of their places.
    asked: HashMap<Vec<u8>, Vec<u8>>,
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
            owner: None,
            known: HashMap::new(),
            actions: Vec::new(),
            current: 0,
            // Empty range: no event is in it.
            moments: 0..0,
            scratch: Vec::new(),
            asked: HashMap::new(),
            wall: Timestamp(0),
            now: Monotonic(0),
        }
    }

    /// The same with a bound, and those who share it.
    pub fn within(self, indexes: Arc<Indexes>, owner: Option<Owner>) -> Names {
        Names { indexes, owner, ..self }
    }

    /// A new delivery begins at this time.
    pub fn begin(&mut self, wall: Timestamp, now: Monotonic) {
        self.forget();
        self.asked.clear();
        self.moments = 0..0;
        (self.wall, self.now) = (wall, now);
    }

    fn forget(&mut self) {
        self.known.clear();
        self.actions.clear();
    }

    /// The index of an event that was sent.
    fn place(&self, event: &Event<'_>) -> Place {
        let (name, today) = (self.name(event), self.name(&Event { timestamp: self.wall, ..*event }));
        let is_near = name == today || event.timestamp.0.abs_diff(self.wall.0) <= NEAR_NANOS;
        Place { key: if is_near { today } else { name }, is_chosen: self.has_fields || !is_near }
    }

    /// The name of the index of an event.
    fn name(&self, event: &Event<'_>) -> Vec<u8> {
        let mut name = Vec::new();
        self.index.render(event, &mut name);
        String::from_utf8_lossy(&name).to_lowercase().into_bytes()
    }

    /// Whether the name is the same for all events of all times.
    fn is_constant(&self) -> bool {
        !self.has_fields && !self.index.has_dates()
    }

    /// Learns which indexes accepted events and which did not. Events of an index that was given up are rejected.
    pub fn settle(&mut self, delivery: &Delivery<'_>, part: &Part, verdict: &mut Verdict, now: Monotonic) {
        if self.is_constant() {
            return;
        }
        let indexes = self.indexes.clone();
        let mut barred = indexes.barred.lock().unwrap_or_else(PoisonError::into_inner);
        match verdict {
            // A few are enough to know that the server accepts events.
            Verdict::Delivered if self.asked.is_empty() => {
                let ends = [part.indexes().next(), part.indexes().last()];
                let mut ends: Vec<u64> = ends.into_iter().flatten().collect();
                ends.dedup();
                self.accept(&mut barred, delivery, &ends, now);
            }
            Verdict::Delivered => self.accept(&mut barred, delivery, &part.indexes().collect::<Vec<_>>(), now),
            Verdict::Items(items) => self.judge(&mut barred, delivery, part, items, now),
            _ => {}
        }
    }

    /// The server accepted these events.
    fn accept(&mut self, barred: &mut Barred, delivery: &Delivery<'_>, taken: &[u64], now: Monotonic) {
        let output = &self.indexes.output;
        let mut accepts = |key: &[u8]| {
            if barred.accepted(key, now) {
                let index = String::from_utf8_lossy(key).into_owned();
                tracing::info!(
                    component_id = %output, component_kind = "output", %index,
                    "the server accepts events for this index again"
                );
            }
        };
        let some: Vec<u64> = taken.iter().copied().step_by(taken.len() / TAKEN_SEEN_MAX + 1).collect();
        for_each(delivery, &some, |_, event| accepts(&self.place(event).key));
        if self.asked.is_empty() {
            return;
        }
        let mut answered = HashSet::new();
        for_each(delivery, taken, |_, event| {
            let name = self.name(event);
            if self.asked.contains_key(&name) {
                answered.insert(name);
            }
        });
        answered.iter().filter_map(|name| self.asked.remove(name)).for_each(|key| accepts(&key));
    }

    fn judge(&mut self, barred: &mut Barred, delivery: &Delivery<'_>, part: &Part, items: &mut Items, now: Monotonic) {
        let indexes: Vec<u64> = part.indexes().collect();
        let unsaid = items.unsaid_from.unwrap_or(indexes.len()).min(indexes.len());
        let others = items.retry.iter().chain(items.doubtful.iter().chain(&items.rejected).map(|(place, _)| place));
        let others: HashSet<usize> = others.copied().collect();
        let taken: Vec<u64> = (0..unsaid).filter(|place| !others.contains(place)).map(|place| indexes[place]).collect();
        self.accept(barred, delivery, &taken, now);
        let wanted: Vec<(u64, BarredItem)> = std::mem::take(&mut items.barred)
            .into_iter()
            .filter_map(|item| Some((*indexes.get(item.place)?, item)))
            .collect();
        let at: Vec<u64> = wanted.iter().map(|(index, _)| *index).collect();
        let (mut wanted, mut rejected) = (wanted.into_iter(), HashSet::new());
        for_each(delivery, &at, |_, event| {
            let Some((_, BarredItem { place, why, is_late })) = wanted.next() else { return };
            let of = self.place(event);
            if !of.is_chosen {
                return;
            }
            let fate = barred.refused(&of.key, is_late.then_some(&why), now);
            self.say(&of.key, &why, fate);
            let because = match fate {
                Fate::Again => return,
                Fate::Rejected { .. } => OTHERS_DO,
                Fate::PassedOver { .. } => "the server accepted nothing for a while, and others are tried",
            };
            rejected.insert(place);
            items.rejected.push((place, format!("{why}; {because}")));
        });
        items.retry.retain(|place| !rejected.contains(place));
    }

    fn say(&self, key: &[u8], why: &str, fate: Fate) {
        let (output, index) = (&self.indexes.output, String::from_utf8_lossy(key).into_owned());
        match fate {
            Fate::Rejected { is_news: true } => tracing::warn!(
                component_id = %output, component_kind = "output", %index,
                "output {output}: {OTHERS_DO}, but not for this one: its events become dead letters until it does: {why}"
            ),
            Fate::PassedOver { is_news: true } => tracing::warn!(
                component_id = %output, component_kind = "output", %index,
                "output {output}: the server accepted nothing for some minutes. To see whether it accepts events for other indexes than those it \
                 refuses, their events become dead letters for up to {LOOK:?}: {why}"
            ),
            _ => {}
        }
    }

    /// Why the events of a name in this delivery are not even sent.
    fn held_back(&mut self, event: &Event<'_>, name: &str) -> Option<String> {
        if self.is_constant() {
            return None;
        }
        let mut barred = self.indexes.barred.lock().unwrap_or_else(PoisonError::into_inner);
        if barred.is_empty() {
            return None;
        }
        let key = self.place(event).key;
        match barred.turn(&key, self.now) {
            Turn::Send => None,
            Turn::HoldBack(why) => Some(format!("{why}; {OTHERS_DO}, and is asked about this one from time to time")),
            Turn::Ask => {
                self.asked.insert(name.as_bytes().to_vec(), key);
                None
            }
        }
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
            None => self.action(event, &name),
        };
        // The next event for the same name may be of somebody who has places left.
        let is_of_owner = self.owner.is_some() && matches!(action, Action::Refuse { is_excess: true, .. });
        self.actions.push(action);
        if is_of_owner {
            self.moments = 0..0;
        } else {
            self.known.insert(self.scratch.clone(), self.actions.len() - 1);
        }
        self.actions.len() - 1
    }

    /// What happens to events of an index with a name that fits.
    fn action(&mut self, event: &Event<'_>, name: &str) -> Action {
        if let Some(reason) = self.excess(event, name) {
            return Action::Refuse { reason, is_excess: true };
        }
        if let Some(reason) = self.held_back(event, name) {
            return Action::Refuse { reason, is_excess: false };
        }
        let mut line = self.beginning.to_vec();
        escape_json_into(name.as_bytes(), &mut line);
        line.push(b'"');
        Action::Send(line)
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
        let mut owned = Vec::new();
        let group = match &self.owner {
            Some(owner) => {
                owner.of(event, &mut owned);
                owned.as_slice()
            }
            None => values.as_bytes(),
        };
        self.indexes.refuse(group, counted.as_bytes(), name, self.now)
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
    use crate::outputs::letters::DeadLetters;
    use serde_json::json;

    /// 2026-11-23T00:12:34Z.
    const MOMENT: Timestamp = Timestamp(1_795_392_754_000_000_000);
    const DAY: i64 = 24 * 3600 * 1_000_000_000;

    fn template(text: &str) -> Template {
        Template::parse(text).expect("a template")
    }

    /// Names in an output with a bound, at [`MOMENT`].
    fn names(text: &str, indexes: &Arc<Indexes>) -> Names {
        let mut names = Names::new(template(text), b"\"").within(indexes.clone(), None);
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

    /// He writes the index that another user is about to have, too.
    #[test]
    fn values_of_one_owner_leave_places_to_others() {
        let owner = |share_by| {
            serde_json::from_value::<DeadLetters>(json!({ "share_by": share_by })).expect("settings").owner()
        };
        for index in ["l-{{ svc }}", "l-{{ svc }}-%Y.%m.%d"] {
            let indexes = Arc::new(Indexes::new("out", 20));
            let mut names = Names::new(template(index), b"\"").within(indexes, owner("{{ file }}"));
            names.begin(MOMENT, Monotonic(5));
            let mut made = |svc: &str, file: &str| {
                let line = format!("{{\"svc\":\"{svc}\",\"file\":\"{file}\"}}");
                matches!(names.of(&Event { line: line.as_bytes(), timestamp: MOMENT }).1, Action::Send(_))
            };
            let evil = (0..100).filter(|number| made(&number.to_string(), "evil")).count();
            assert_eq!(evil, 10, "half of all");
            assert!(!made("x", "evil") && made("x", "good") && made("x", "evil"), "{index}");
        }
        let indexes = Arc::new(Indexes::new("out", 4));
        let mut names = Names::new(template("l-%Y"), b"\"").within(indexes, owner("{{ svc }}"));
        names.begin(MOMENT, Monotonic(5));
        let years: Vec<bool> = (1..5).map(|year| index_of(&mut names, "evil", 400 * year).is_ok()).collect();
        assert_eq!(years, [true, true, false, false]);
        assert!(index_of(&mut names, "good", 1600).is_ok(), "the same date as before");
    }

    #[test]
    fn nobody_chose_the_index_of_today_and_each_value_has_one_place_for_the_days_around_it() {
        let indexes = Arc::new(Indexes::new("out", 9));
        let place = |text: &str, days: i64| {
            let event = Event { line: b"{\"svc\":\"A\"}", timestamp: Timestamp(MOMENT.0 + days * DAY) };
            let Place { key, is_chosen } = names(text, &indexes).place(&event);
            (String::from_utf8(key).expect("text"), is_chosen)
        };
        let is = |name: &str, is_chosen| (name.to_owned(), is_chosen);
        assert_eq!([place("l-%F", -1), place("l-%F", 1)], [is("l-2026-11-23", false), is("l-2026-11-23", false)]);
        assert_eq!([place("l-%F", -2), place("l-%F", 2)], [is("l-2026-11-21", true), is("l-2026-11-25", true)]);
        assert_eq!([place("l-%Y", -100), place("l-%Y", -400)], [is("l-2026", false), is("l-2025", true)]);
        assert_eq!([place("{{ svc }}-%F", -1), place("{{ svc }}", -9)], [is("a-2026-11-23", true), is("a", true)]);
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
