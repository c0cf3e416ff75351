//! `enrich`: adds fields from a table or a MaxMind file.
//!
//! Guarantees: the file is read before the first event, and the engine does not start without it. When the file changes, it is
//! read again in the background, and all fields of an event come from one version. No event waits for a file.

pub mod geo;
pub mod table;
#[cfg(test)]
mod tests;
pub mod watched;

use super::key::push_unescaped;
use super::pairs::Pairs;
use super::place::Place;
use super::reasons::Before;
use super::{Opening, Transform, Verb, Verdict};
use crate::codec::json::string_body;
use crate::codec::path::{Path, Segment};
use crate::config::component::{Facts, Mistake, UNREAD_HELP};
use crate::config::types::ByteSize;
use geo::{Database, Renderer, USUAL};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use table::{Table, push_part};
use tailwater_shards::record::{Record, Value};
use watched::{Current, Files, Kept, Watched};

/// Looks up values in a CSV table (`file`) by `key`, or in a MaxMind file (`geoip`) by the IP address in `field`.
///
/// The file is read before the first event. If it cannot be used, Tailwater does not start. When the file has changed and
/// stayed the same for a second, it is read again. If the new version cannot be read, Tailwater logs a warning, continues to
/// use the old version, and retries at least once a minute. To update the file, rename a new version into place, so that it is
/// complete at once.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The path of a CSV table with a header.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Columns of the table, and the field that each is compared with. Strings must be equal; numbers are compared as written.
    #[serde(default)]
    pub key: BTreeMap<String, Path>,
    /// Fields to add, and the columns that they come from. By default, all columns except those of `key`, under their own
    /// names. An empty cell adds nothing.
    #[serde(default)]
    pub add: Option<Pairs<String>>,
    /// Without `add`: a prefix for the names of the added fields. `host_` is a plain prefix; `host.` puts the fields into an
    /// object.
    #[serde(default)]
    pub prefix: String,
    /// The path of a MaxMind file, such as GeoLite2-City.mmdb.
    #[serde(default)]
    pub geoip: Option<PathBuf>,
    /// The field with the IP address. Required with `geoip`.
    #[serde(default)]
    pub field: Option<Path>,
    /// The field for the object with the values from the MaxMind file. Required with `geoip`.
    #[serde(default)]
    pub to: Option<Path>,
    /// Names in that object, and the paths of their values in the records of the file. By default, the usual fields of
    /// MaxMind's own databases: country, city, region, location, ASN.
    #[serde(default)]
    pub fields: Option<Pairs<Path>>,
    /// What happens to events for which nothing is found. By default, `keep`.
    #[serde(default)]
    pub on_miss: OnMiss,
    /// Fields to add to events for which nothing is found, and their values.
    #[serde(default)]
    pub defaults: Option<Pairs<Json>>,
    /// The largest size of the file. By default, 16 MiB for a table and 256 MiB for a MaxMind file.
    #[serde(default)]
    pub max_bytes: Option<ByteSize>,
    /// State that all shards share.
    #[serde(skip)]
    #[schemars(skip)]
    shared: Shared,
}

/// What happens to events for which nothing is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMiss {
    /// The event continues.
    #[default]
    Keep,
    /// The event is dropped.
    Drop,
}

/// The open file of one entry of the configuration and its copies.
#[derive(Clone, Default)]
struct Shared(Arc<OnceLock<Opened>>);

#[derive(Clone)]
enum Opened {
    Table(Arc<Watched<Table>>),
    Geo(Arc<Watched<Database>>),
}

impl PartialEq for Shared {
    /// It shows nothing beyond the settings.
    fn eq(&self, _: &Shared) -> bool {
        true
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

const TABLE_BYTES: u64 = 16 << 20;
const GEO_BYTES: u64 = 256 << 20;

impl Settings {
    fn opened(&self) -> &Opened {
        self.shared.0.get_or_init(|| match &self.geoip {
            Some(path) => {
                let bytes_max = self.max_bytes.map_or(GEO_BYTES, |size| size.0);
                Opened::Geo(Arc::new(Watched::new(path.clone(), bytes_max, Database::read)))
            }
            None => {
                let path = self.file.clone().unwrap_or_default();
                let bytes_max = self.max_bytes.map_or(TABLE_BYTES, |size| size.0);
                let keys: Vec<String> = self.key.keys().cloned().collect();
                let added: Vec<String> =
                    self.add.iter().flat_map(|add| &add.0).map(|(_, column)| column.clone()).collect();
                Opened::Table(Arc::new(Watched::new(path, bytes_max, move |bytes| {
                    let table = Table::read(&bytes, &keys)?;
                    added.iter().try_for_each(|column| table.column(column).map(drop))?;
                    Ok(table)
                })))
            }
        })
    }

    /// The field for a column, without `add`.
    fn place_of(&self, column: &str) -> Option<Path> {
        match self.prefix.rsplit_once('.') {
            Some((object, rest)) => Some(Path::parse(object).ok()?.then(Segment::Field(format!("{rest}{column}")))),
            None => Some(Path::field(format!("{}{column}", self.prefix))),
        }
    }

    /// What does not fit to `file`: the key, what is wrong, and the keys that it is concluded from.
    fn check_table(&self, wrong: &mut dyn FnMut(&str, &str, &[&str])) {
        if self.key.is_empty() {
            wrong("key", "`key` is missing: which column says which row belongs to an event", &["file"]);
        }
        if self.field.is_some() {
            wrong("field", "`field` belongs to `geoip`; a table has `key`", &["file"]);
        }
        if self.to.is_some() {
            wrong("to", "`to` belongs to `geoip`; a table has `add` and `prefix`", &["file"]);
        }
        if self.fields.is_some() {
            wrong("fields", "`fields` belongs to `geoip`; a table has `add`", &["file"]);
        }
        if self.add.is_some() && !self.prefix.is_empty() {
            wrong("prefix", "`prefix` applies only without `add`", &["add"]);
        } else if self.place_of("column").is_none() {
            wrong("prefix", "the part before the last dot is not a path", &[]);
        }
    }

    /// What does not fit to `geoip`.
    fn check_geo(&self, wrong: &mut dyn FnMut(&str, &str, &[&str])) {
        if self.field.is_none() {
            wrong("", "`field` is missing: which field has the IP address", &["field", "geoip"]);
        }
        if self.to.is_none() {
            wrong("", "`to` is missing: which field gets what is found", &["to", "geoip"]);
        }
        if !self.key.is_empty() {
            wrong("key", "`key` belongs to `file`; a MaxMind file has `field`", &["geoip"]);
        }
        if self.add.is_some() {
            wrong("add", "`add` belongs to `file`; a MaxMind file has `fields`", &["geoip"]);
        }
        if !self.prefix.is_empty() {
            wrong("prefix", "`prefix` belongs to `file`; a MaxMind file has `to`", &["geoip"]);
        }
    }
}

impl Verb for Settings {
    const NAME: &'static str = "enrich";
    const SUMMARY: &'static str = "adds fields from a CSV table or a MaxMind file";
    const EXAMPLE: &'static str = "enrich:\n  file: /etc/tailwater/hosts.csv\n  key: {name: host}\n  \
        add: {owner.team: team, owner.room: room}\n";
    const SAMPLE: &'static str = "";
    const FAILURE: &'static str = "the record in the file cannot be read";

    fn check(&self) -> Vec<Mistake> {
        let help = "for a table, write `{file: hosts.csv, key: {name: host}}`; for IP addresses, `{geoip: GeoLite2-City.mmdb, field: ip, \
            to: geo}`";
        let mut mistakes = Vec::new();
        let mut wrong =
            |key: &str, what: &str, needs: &[&str]| mistakes.push(Mistake::new(key, what, help).needing(needs));
        match (&self.file, &self.geoip) {
            (Some(_), Some(_)) => wrong("geoip", "`file` and `geoip` cannot be combined: write two entries", &["file"]),
            (None, None) => {
                let what = "`file` and `geoip` are both missing, so there is nothing to look up in";
                wrong("", what, &["file", "geoip"]);
            }
            (Some(_), None) => self.check_table(&mut wrong),
            (None, Some(_)) => self.check_geo(&mut wrong),
        }
        mistakes
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let defaults = self.defaults.iter().flat_map(|defaults| &defaults.0);
        let miss = Miss {
            verdict: match self.on_miss {
                OnMiss::Keep => Verdict::Keep,
                OnMiss::Drop => Verdict::Drop,
            },
            defaults: defaults.map(|(path, json)| (Place::new(path, opening), json.to_string().into_bytes())).collect(),
        };
        match (self.opened(), &self.field, &self.to) {
            (Opened::Geo(watched), Some(field), Some(to)) => {
                let usual = || USUAL.iter().map(|(to, from)| Some((to.parse().ok()?, from.parse().ok()?)));
                let fields = match &self.fields {
                    Some(fields) => fields.0.clone(),
                    None => usual().collect::<Option<Vec<_>>>().unwrap_or_default(),
                };
                Box::new(ByAddress {
                    current: Current::new(watched.clone()),
                    renderer: Renderer::new(fields),
                    field: Place::new(field, opening),
                    to: Place::new(to, opening),
                    text: Vec::new(),
                    miss,
                })
            }
            (Opened::Geo(_), ..) => unreachable!("settings without `field` and `to` are refused by `check`"),
            (Opened::Table(watched), ..) => Box::new(ByKey {
                settings: self.clone(),
                facts: opening.facts.clone(),
                current: Current::new(watched.clone()),
                keys: self.key.values().map(|path| Place::new(path, opening)).collect(),
                cells: Vec::new(),
                text: Vec::new(),
                miss,
            }),
        }
    }

    fn explain(&self, before: &Before<'_>) -> Option<String> {
        if let Some(missing) = self.field.iter().chain(self.key.values()).find(|path| before.get(path).is_none()) {
            return Some(format!("{missing} is missing"));
        }
        if let Some(field) = &self.field {
            return Some(format!("the MaxMind file has no usable record for {field}: {}", before.shown(field)));
        }
        let keys = self.key.iter().map(|(column, path)| format!("{column} {}", before.shown(path)));
        Some(format!("the table has no row with {}", keys.collect::<Vec<_>>().join(" and ")))
    }

    fn check_files(&self, files: &dyn Files) -> Vec<Mistake> {
        let key = match (&self.file, &self.geoip) {
            (_, Some(_)) => "geoip",
            (Some(_), None) => "file",
            (None, None) => return Vec::new(),
        };
        let load = |kept: Arc<dyn Kept>| kept.load(files).err();
        let unread = self.kept().into_iter().filter_map(load);
        // What can be read and still not be used is not a matter of rights.
        let path = self.geoip.as_ref().or(self.file.as_ref());
        let help = match path.map(|path| files.read(path, self.max_bytes.map_or(GEO_BYTES, |size| size.0))) {
            Some(Ok(_)) if self.geoip.is_some() => {
                "download the file again, or name a file in MaxMind's format (.mmdb)"
            }
            Some(Ok(_)) => "correct the file, or name the columns in `key` and `add` as its first line does",
            _ => UNREAD_HELP,
        };
        unread.map(|what| Mistake::new(key, what, help)).collect()
    }

    fn kept(&self) -> Vec<Arc<dyn Kept>> {
        match self.opened() {
            Opened::Table(watched) => vec![watched.clone()],
            Opened::Geo(watched) => vec![watched.clone()],
        }
    }
}

/// Handles an event for which nothing is found.
struct Miss {
    verdict: Verdict,
    defaults: Vec<(Place, Vec<u8>)>,
}

impl Miss {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        for (place, json) in &mut self.defaults {
            place.put(record, json);
        }
        self.verdict
    }
}

struct ByKey {
    settings: Settings,
    facts: Facts,
    current: Current<Table>,
    keys: Vec<Place>,
    /// Fields, and their columns in the current version of the table.
    cells: Vec<(Place, usize)>,
    text: Vec<u8>,
    miss: Miss,
}

impl ByKey {
    /// The columns of a version that was not used yet.
    #[cold]
    fn prepare(settings: &Settings, facts: &Facts, table: &Table, record: &mut Record<'_>) -> Vec<(Place, usize)> {
        let opening = &mut Opening { shapes: record.shapes(), facts };
        let mut cells = Vec::new();
        match &settings.add {
            Some(add) => {
                for (path, column) in &add.0 {
                    // A table without this column was not accepted.
                    cells.extend(table.column(column).ok().map(|column| (Place::new(path, opening), column)));
                }
            }
            None => {
                for (number, column) in table.columns().iter().enumerate() {
                    let place = settings.place_of(column).filter(|_| !settings.key.contains_key(column));
                    cells.extend(place.map(|path| (Place::new(&path, opening), number)));
                }
            }
        }
        cells
    }
}

impl Transform for ByKey {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let (Some(table), changed) = self.current.get() else { return self.miss.apply(record) };
        if changed {
            self.cells = ByKey::prepare(&self.settings, &self.facts, table, record);
        }
        self.text.clear();
        for key in &self.keys {
            if !push_key(key.get(record), &mut self.text) {
                return self.miss.apply(record);
            }
        }
        let Some(row) = table.find(&self.text) else { return self.miss.apply(record) };
        for (place, column) in &mut self.cells {
            let cell = table.cell(row, *column);
            if !cell.is_empty() {
                place.put(record, cell);
            }
        }
        Verdict::Keep
    }
}

/// Appends the form in which a value is compared. False if it is not a string, number or boolean.
fn push_key(value: Option<Value<'_>>, out: &mut Vec<u8>) -> bool {
    match value {
        None | Some(Value::Json(b"null")) => return false,
        Some(Value::Text(text)) => push_part(out, |out| out.extend_from_slice(text)),
        Some(Value::Json(json)) => match (string_body(json), json.first()) {
            (Some(body), _) => push_part(out, |out| push_unescaped(body, out)),
            (None, Some(b'{' | b'[')) => return false,
            (None, _) => push_part(out, |out| out.extend_from_slice(json)),
        },
    }
    true
}

struct ByAddress {
    current: Current<Database>,
    renderer: Renderer,
    field: Place,
    to: Place,
    text: Vec<u8>,
    miss: Miss,
}

/// The IP address in a value.
fn address(value: Option<Value<'_>>, text: &mut Vec<u8>) -> Option<IpAddr> {
    let bytes = match value? {
        Value::Text(bytes) => bytes,
        Value::Json(json) => {
            text.clear();
            push_unescaped(string_body(json)?, text);
            text
        }
    };
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

impl Transform for ByAddress {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let (Some(database), changed) = self.current.get() else { return self.miss.apply(record) };
        if changed {
            self.renderer.clear();
        }
        let address = address(self.field.get(record), &mut self.text);
        let found = address.and_then(|address| self.renderer.find(database, address));
        match found {
            Some(json) => {
                self.to.put(record, json);
                Verdict::Keep
            }
            None => self.miss.apply(record),
        }
    }

    fn take_failures(&mut self) -> u64 {
        self.renderer.take_failures()
    }
}
