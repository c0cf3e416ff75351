//! Looks up IP addresses in a MaxMind file.
//!
//! Guarantees: a file is used only if its structure is valid. An error deeper inside affects only the addresses that it
//! concerns. The JSON of recent records is cached, up to a limit, since many addresses share a record.

use super::super::dedupe::OfKey;
use crate::codec::path::{Path, Segment};
use crate::codec::rewrite::put;
use maxminddb::{PathElement, Reader};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::net::IpAddr;
use std::ops::Range;

/// An open file.
pub struct Database(Reader<Vec<u8>>);

/// Fields, and their paths in the records of MaxMind's own databases. Missing values are omitted.
pub const USUAL: [(&str, &str); 13] = [
    ("continent_code", "continent.code"),
    ("country_iso_code", "country.iso_code"),
    ("country_name", "country.names.en"),
    ("region_iso_code", "subdivisions[0].iso_code"),
    ("region_name", "subdivisions[0].names.en"),
    ("city_name", "city.names.en"),
    ("postal_code", "postal.code"),
    ("timezone", "location.time_zone"),
    ("location.lat", "location.latitude"),
    ("location.lon", "location.longitude"),
    ("asn", "autonomous_system_number"),
    ("as_organization", "autonomous_system_organization"),
    ("connection_type", "connection_type"),
];

impl Database {
    /// Opens a file's content.
    pub fn read(bytes: Vec<u8>) -> Result<Database, String> {
        Reader::from_source(bytes).map(Database).map_err(|error| format!("it is not a MaxMind file: {error}"))
    }
}

/// The limits of the cache: records, and bytes.
const KEPT_MAX: usize = 16 * 1024;
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Converts records to JSON.
pub struct Renderer {
    /// Fields, and their paths in a record.
    fields: Vec<(Path, Path)>,
    /// The JSON of the records at these offsets.
    kept: HashMap<u128, Range<usize>, BuildHasherDefault<OfKey>>,
    bytes: Vec<u8>,
    scratch: Vec<u8>,
    /// The number of lookups that failed because the file is damaged.
    failures: u64,
}

impl Renderer {
    /// With these fields.
    pub fn new(fields: Vec<(Path, Path)>) -> Renderer {
        Renderer { fields, kept: HashMap::default(), bytes: Vec::new(), scratch: Vec::new(), failures: 0 }
    }

    /// Clears the cache after the file changed.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.bytes.clear();
    }

    /// The number of lookups that failed since the last call.
    pub fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    /// An object with the fields that the file has for an address; none if it has none of them.
    pub fn find(&mut self, database: &Database, address: IpAddr) -> Option<&[u8]> {
        let found = match database.0.lookup(address.to_canonical()) {
            Ok(found) => found,
            Err(_) => {
                self.failures += 1;
                return None;
            }
        };
        // Spread over all bits, because the map uses keys as hashes; no two offsets collide.
        let place = u128::from((found.offset()? as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let range = match self.kept.get(&place) {
            Some(range) => range.clone(),
            None => {
                let decode = |path: &Path| {
                    let path: Vec<PathElement<'_>> = path.segments().iter().map(element).collect();
                    found.decode_path::<Json>(&path)
                };
                self.render(place, decode)
            }
        };
        (!range.is_empty()).then(|| &self.bytes[range])
    }

    #[cold]
    fn render<F>(&mut self, place: u128, decode: impl Fn(&Path) -> Result<Option<Json>, F>) -> Range<usize> {
        let mut object = b"{}".to_vec();
        for (to, from) in &self.fields {
            match decode(from) {
                Ok(None | Some(Json::Null)) => {}
                Ok(Some(value)) => {
                    self.scratch.clear();
                    if put(&object, to.segments(), value.to_string().as_bytes(), &mut self.scratch) {
                        std::mem::swap(&mut object, &mut self.scratch);
                    }
                }
                Err(_) => self.failures += 1,
            }
        }
        if self.kept.len() >= KEPT_MAX || self.bytes.len() + object.len() > KEPT_BYTES_MAX {
            self.clear();
        }
        let start = self.bytes.len();
        if object.len() > 2 {
            self.bytes.extend_from_slice(&object);
        }
        self.kept.insert(place, start..self.bytes.len());
        start..self.bytes.len()
    }
}

fn element(segment: &Segment) -> PathElement<'_> {
    match segment {
        Segment::Field(name) => PathElement::Key(name),
        Segment::Index(index) => PathElement::Index(*index),
    }
}
