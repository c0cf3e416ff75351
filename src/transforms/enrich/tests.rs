//! Events that are enriched, and files that change meanwhile.

use super::Settings;
use crate::transforms::Step;
use crate::transforms::tests::{Bench, mistake};

/// A directory with a file, and a bench whose `FILE` is that file.
fn bench(list: &str, content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf, Bench) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file");
    std::fs::write(&path, content).expect("written");
    let bench = Bench::loaded(&list.replace("FILE", &path.to_string_lossy())).expect("valid");
    (directory, path, bench)
}

fn made(bench: &mut Bench, event: &str) -> String {
    let made = bench.event(event);
    made.map_or_else(|| "dropped".to_owned(), |text| text.replacen(r#"{"file":"a.log","#, "{", 1))
}

const HOSTS: &str = "name,team,room\nweb-1,web,12\nweb-2,\"we\"\"b\",\n17,numbers,1\n";

#[test]
fn fields_come_from_the_row_of_the_key() {
    let (_directory, _, mut bench) =
        bench("- enrich: {file: FILE, key: {name: host}, add: {owner.team: team, room: room}}", HOSTS.as_bytes());
    let mut made = |event: &str| made(&mut bench, event);
    assert_eq!(made(r#"{"host":"web-1"}"#), r#"{"host":"web-1","owner":{"team":"web"},"room":"12"}"#);
    assert_eq!(made(r#"{"host":"web\u002d1"}"#), r#"{"host":"web\u002d1","owner":{"team":"web"},"room":"12"}"#);
    assert_eq!(made(r#"{"host":"web-2","room":3}"#), r#"{"host":"web-2","room":3,"owner":{"team":"we\"b"}}"#);
    assert_eq!(made(r#"{"host":17}"#), r#"{"host":17,"owner":{"team":"numbers"},"room":"1"}"#);
    for miss in [r#"{"host":"web-3"}"#, r#"{"host":null}"#, r#"{"host":["web-1"]}"#, r#"{"x":1}"#] {
        assert_eq!(made(miss), miss);
    }
}

#[test]
fn all_columns_are_added_when_none_is_named() {
    let event = r#"{"host":"web-1"}"#;
    for (prefix, expected) in [
        ("", r#"{"host":"web-1","team":"web","room":"12"}"#),
        ("prefix: h_, ", r#"{"host":"web-1","h_team":"web","h_room":"12"}"#),
        ("prefix: h., ", r#"{"host":"web-1","h":{"team":"web","room":"12"}}"#),
        ("prefix: h.i.x_, ", r#"{"host":"web-1","h":{"i":{"x_team":"web","x_room":"12"}}}"#),
    ] {
        let list = format!("- enrich: {{file: FILE, {prefix}key: {{name: host}}}}");
        let (_directory, _, mut bench) = bench(&list, HOSTS.as_bytes());
        assert_eq!(made(&mut bench, event), expected);
    }
}

#[test]
fn misses_are_a_choice() {
    let list = "- enrich: {file: FILE, key: {name: host}, defaults: {team: none, room: 0}}";
    let (_directory, _, mut keeping) = bench(list, HOSTS.as_bytes());
    assert_eq!(made(&mut keeping, r#"{"host":"x"}"#), r#"{"host":"x","team":"none","room":0}"#);
    let (_directory, _, mut dropping) =
        bench("- enrich: {file: FILE, key: {name: host}, on_miss: drop}", HOSTS.as_bytes());
    assert_eq!(made(&mut dropping, r#"{"host":"x"}"#), "dropped");
    assert_ne!(made(&mut dropping, r#"{"host":"web-1"}"#), "dropped");
}

#[test]
fn changed_tables_are_used_and_broken_ones_are_not() {
    let (_directory, path, mut bench) = bench("- enrich: {file: FILE, key: {name: host}}", HOSTS.as_bytes());
    let event = r#"{"host":"web-1"}"#;
    let first = made(&mut bench, event);
    let mut change = |content: &str| {
        std::fs::write(&path, content).expect("written");
        bench.look_twice();
        made(&mut bench, event)
    };
    assert_eq!(change("name,floor\nweb-1,3\n"), r#"{"host":"web-1","floor":"3"}"#);
    assert_eq!(change("name,floor\nweb-1\n"), r#"{"host":"web-1","floor":"3"}"#);
    assert_eq!(change("host,floor\nweb-1,4\n"), r#"{"host":"web-1","floor":"3"}"#, "the key is gone");
    assert_eq!(change(HOSTS), first);
}

#[test]
fn table_that_cannot_be_read_is_an_error_at_the_start() {
    let error = Bench::loaded("- enrich: {file: /nowhere/hosts.csv, key: {name: host}}").err().expect("no file");
    assert!(error.contains("/nowhere/hosts.csv"), "{error}");
    let mut unread = Bench::try_new("- enrich: {file: /nowhere/hosts.csv, key: {name: host}}").expect("valid");
    assert_eq!(made(&mut unread, r#"{"a":1}"#), r#"{"a":1}"#);
}

#[test]
fn instances_of_one_entry_share_its_table() {
    let settings = Settings { file: Some("x".into()), ..Settings::default() };
    let (one, other) = (Step::Enrich(settings.clone()), Step::Enrich(settings));
    assert!(std::ptr::addr_eq(std::sync::Arc::as_ptr(&one.kept()[0]), std::sync::Arc::as_ptr(&other.kept()[0])));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (entry, said) in [
        ("{}", "both missing"),
        ("{file: a, geoip: b}", "cannot be combined"),
        ("{file: a}", "`key` is missing"),
        ("{file: a, key: {k: f}, to: x}", "belongs to `geoip`"),
        ("{file: a, key: {k: f}, add: {x: y}, prefix: z}", "only without `add`"),
        ("{file: a, key: {k: f}, prefix: \"a..b\"}", "not a path"),
        ("{geoip: a, to: geo}", "`field` is missing"),
        ("{geoip: a, field: ip}", "`to` is missing"),
        ("{geoip: a, field: ip, to: geo, key: {k: f}}", "belongs to `file`"),
    ] {
        let found = mistake(&format!("- enrich: {entry}"));
        assert!(found.contains(said), "{entry}: {found}");
    }
}

/// Writes MaxMind files: a tree of 24-bit records over IPv4 addresses, and the data section behind it.
struct Writer {
    /// Two records a node: the number of a node, an offset of data, or nothing.
    nodes: Vec<[Slot; 2]>,
    data: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Slot {
    Nothing,
    Node(usize),
    Data(usize),
}

impl Writer {
    fn new() -> Writer {
        Writer { nodes: vec![[Slot::Nothing; 2]], data: Vec::new() }
    }

    fn insert(&mut self, network: [u8; 4], prefix: u32, record: &serde_json::Value) {
        let at = self.data.len();
        push(record, &mut self.data);
        let (bits, mut node) = (u32::from_be_bytes(network), 0);
        for depth in 0..prefix {
            let bit = (bits >> (31 - depth) & 1) as usize;
            if depth + 1 == prefix {
                self.nodes[node][bit] = Slot::Data(at);
                break;
            }
            node = match self.nodes[node][bit] {
                Slot::Node(next) => next,
                _ => {
                    self.nodes.push([Slot::Nothing; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][bit] = Slot::Node(next);
                    next
                }
            };
        }
    }

    fn finish(&self) -> Vec<u8> {
        let count = self.nodes.len();
        let mut out = Vec::new();
        for slot in self.nodes.iter().flatten() {
            let value = match slot {
                Slot::Nothing => count,
                Slot::Node(node) => *node,
                Slot::Data(at) => count + 16 + at,
            };
            out.extend_from_slice(&(value as u32).to_be_bytes()[1..]);
        }
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(&self.data);
        out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
        push(
            &serde_json::json!({
                "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1_700_000_000,
                "database_type": "Test", "description": {"en": "x"}, "ip_version": 4, "languages": ["en"],
                "node_count": count, "record_size": 24
            }),
            &mut out,
        );
        out
    }
}

fn control(kind: u8, length: usize, out: &mut Vec<u8>) {
    assert!(length < 29, "the tests have no longer values");
    match kind {
        1..=7 => out.push(kind << 5 | length as u8),
        _ => out.extend_from_slice(&[length as u8, kind - 7]),
    }
}

fn push(value: &serde_json::Value, out: &mut Vec<u8>) {
    use serde_json::Value;
    match value {
        Value::String(text) => {
            control(2, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Number(number) => match number.as_u64() {
            Some(number) if number > u64::from(u32::MAX / 8) => {
                control(9, 8, out);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Some(number) => {
                control(5, 2, out);
                out.extend_from_slice(&(number as u16).to_be_bytes());
            }
            None => {
                control(3, 8, out);
                out.extend_from_slice(&number.as_f64().expect("a number").to_be_bytes());
            }
        },
        Value::Object(map) => {
            control(7, map.len(), out);
            for (key, value) in map {
                push(&Value::from(key.as_str()), out);
                match value.as_u64().filter(|_| key == "node_count") {
                    Some(count) => {
                        control(6, 4, out);
                        out.extend_from_slice(&(count as u32).to_be_bytes());
                    }
                    None => push(value, out),
                }
            }
        }
        Value::Array(list) => {
            control(11, list.len(), out);
            list.iter().for_each(|value| push(value, out));
        }
        Value::Bool(yes) => control(14, usize::from(*yes), out),
        Value::Null => panic!("the format has no null"),
    }
}

fn geo_file(city: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.insert(
        [81, 2, 69, 0],
        24,
        &serde_json::json!({
            "city": {"names": {"en": city}}, "country": {"iso_code": "GB", "names": {"en": "United Kingdom"}},
            "location": {"latitude": 51.75, "longitude": -1.25}, "subdivisions": [{"iso_code": "ENG"}]
        }),
    );
    writer.insert([10, 0, 0, 0], 8, &serde_json::json!({"other": true}));
    writer.finish()
}

#[test]
fn addresses_get_their_place() {
    let (_directory, _, mut bench) = bench("- enrich: {geoip: FILE, field: ip, to: geo}", &geo_file("Oxford"));
    let mut made = |event: &str| made(&mut bench, event);
    let geo = r#"{"country_iso_code":"GB","country_name":"United Kingdom","region_iso_code":"ENG","city_name":"Oxford","location":{"lat":51.75,"lon":-1.25}}"#;
    for ip in ["81.2.69.160", "81.2.69.1", "::ffff:81.2.69.7"] {
        assert_eq!(made(&format!("{{\"ip\":\"{ip}\"}}")), format!("{{\"ip\":\"{ip}\",\"geo\":{geo}}}"));
    }
    for miss in [r#"{"ip":"81.2.70.1"}"#, r#"{"ip":"10.1.2.3"}"#, r#"{"ip":"x"}"#, r#"{"ip":7}"#, "{\"a\":1}"] {
        assert_eq!(made(miss), miss);
    }
    assert_eq!(bench.failures(), 0);
}

#[test]
fn fields_of_a_record_are_a_choice() {
    let list = "- enrich: {geoip: FILE, field: client.ip, to: client.geo, fields: {city: city.names.en, none: x.y, \
        where: location}, on_miss: drop}";
    let (_directory, _, mut bench) = bench(list, &geo_file("Oxford"));
    assert_eq!(
        made(&mut bench, r#"{"client":{"ip":"81.2.69.160"}}"#),
        r#"{"client":{"ip":"81.2.69.160","geo":{"city":"Oxford","where":{"latitude":51.75,"longitude":-1.25}}}}"#
    );
    assert_eq!(made(&mut bench, r#"{"client":{"ip":"1.1.1.1"}}"#), "dropped");
}

#[test]
fn changed_databases_are_used_and_broken_ones_are_not() {
    let list = "- enrich: {geoip: FILE, field: ip, to: geo, fields: {city: city.names.en}}";
    let (_directory, path, mut bench) = bench(list, &geo_file("Oxford"));
    let mut change = |content: Option<&[u8]>| {
        if let Some(content) = content {
            std::fs::write(&path, content).expect("written");
            bench.look_twice();
        }
        made(&mut bench, r#"{"ip":"81.2.69.160"}"#)
    };
    assert_eq!(change(None), r#"{"ip":"81.2.69.160","geo":{"city":"Oxford"}}"#);
    let other = geo_file("Cambridge");
    assert_eq!(change(Some(&other)), r#"{"ip":"81.2.69.160","geo":{"city":"Cambridge"}}"#);
    assert_eq!(change(Some(&other[..other.len() / 3])), r#"{"ip":"81.2.69.160","geo":{"city":"Cambridge"}}"#);
}

#[test]
fn damaged_databases_are_survived() {
    let good = geo_file("Oxford");
    for at in 0..good.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let Ok(database) = super::geo::Database::read(bad) else { continue };
            let fields = super::USUAL.iter().map(|(to, from)| (to.parse().expect("path"), from.parse().expect("path")));
            let mut renderer = super::geo::Renderer::new(fields.collect());
            for address in ["81.2.69.160", "10.0.0.1", "255.255.255.255", "0.0.0.0", "::1"] {
                let _ = renderer.find(&database, address.parse().expect("an address"));
            }
        }
    }
}
