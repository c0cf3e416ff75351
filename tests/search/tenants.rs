//! Several tenants share a server: what an event can reach of the others, and of the server's own indexes.

use crate::case::Case;
use crate::node::steady;
use crate::product::Product;
use crate::scene::{Scene, to_index};
use crate::wait::wait_for;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use tailwater_services::search::Search;

/// Values, as JSON, that name an index of somebody else, a list of them, or something that the server resolves to one.
const HOSTILE: [&str; 54] = [
    r#"".security-7""#,
    r#""\u002esecurity-7""#,
    r#"".SECURITY-7""#,
    r#""x,.security-7""#,
    r#"",.security-7""#,
    r#"",tenants-other""#,
    r#""x,tenants-other""#,
    r#""*""#,
    r#"".*""#,
    r#"".security-*""#,
    r#""tenants-*""#,
    r#""-tenants-other""#,
    r#""+tenants-other""#,
    r#""_all""#,
    r#""_bulk""#,
    r#""<tenants-{now/d}>""#,
    r#""%3Ctenants-%7Bnow%2Fd%7D%3E""#,
    r#""remote:tenants-other""#,
    r#""../.security-7""#,
    r#""..%2f.security-7""#,
    r#""/tenants-other/_doc""#,
    r#""..""#,
    r#"".""#,
    r#""..security-7""#,
    r#""\\.security-7""#,
    r#""\".security-7""#,
    r#""\"}}\n{\"index\":{\"_index\":\".security-7""#,
    r#""\",\"_id\":\"victim""#,
    r#""x\",\"_index\":\".security-7""#,
    r#""x\n{\"index\":{\"_index\":\".security-7\"}}\n{}""#,
    r#""x\r\n.security-7""#,
    r#""\n.security-7""#,
    r#""\r.security-7""#,
    r#""\u0000.security-7""#,
    r#""x\u0000""#,
    r#""\u0085""#,
    r#""\u2028.security-7""#,
    r#""\u202e7-ytiruces.""#,
    r#""\u200f.security-7""#,
    r#"" .security-7""#,
    r#"".security-7 ""#,
    r#""\t.security-7""#,
    r#""\u00a0.security-7""#,
    "\"#.security-7\"",
    r#""?""#,
    r#""a?""#,
    r#""<""#,
    r#""|""#,
    r#""\ud800.security-7""#,
    r#""-.security-7""#,
    r#""_.security-7""#,
    r#""""#,
    r#"{"x":".security-7"}"#,
    r#"[".security-7"]"#,
];

/// The names of all indexes, also of those that wildcards leave out.
fn indexes(search: &Search) -> BTreeSet<String> {
    let all = search.ask("GET", "/_cat/indices?format=json&expand_wildcards=all", None);
    let name = |index: &Value| index["index"].as_str().expect("a name").to_owned();
    all.as_array().expect("a list").iter().map(name).collect()
}

#[test]
fn events_reach_no_index_of_others_and_replace_no_document() {
    let search = steady().search();
    for index in [".security-7", "tenants-other"] {
        assert_eq!(search.index(index, &[("victim", json!({"owner": "other"}))]), [201]);
    }
    let before = indexes(&search);
    let url = steady().url();
    let small = ", batch: {max_age: 50ms}";
    let outputs = [
        ("fixed", to_index(&url, "tenants-mine-{{ svc }}", small)),
        ("open", to_index(&url, "{{ svc }}", &format!(", allow_any_index: true{small}"))),
        ("named", to_index(&url, "tenants-other", &format!(", op: create, id: \"{{{{ id }}}}\"{small}"))),
    ];
    let scene = Scene::new(Case::new("tenants"), "{type: stdin, parse: json}", &outputs);
    let (mut product, mut input) = Product::start_piped(&scene.case, &scene.config);
    // The last values are no strings, which the mapping of a document before them wants.
    ["the index name", "similar lines", "moved to the dead letter queue"]
        .into_iter()
        .for_each(|part| product.expect(part));
    for value in HOSTILE {
        writeln!(input, "{{\"svc\":{value},\"id\":\"victim\",\"owner\":\"me\"}}").expect("a line");
    }
    let events = HOSTILE.len() as u64;
    wait_for("every event is sent or refused", || {
        let ends = |output: &str| Ok::<u64, String>(scene.sent(output)? + scene.dead_letters(output, "rejected")?);
        match (ends("fixed")?, ends("open")?, ends("named")?) {
            all if all == (events, events, events) => Ok(()),
            all => Err(format!("{all:?}; {}", product.state())),
        }
    });
    drop(input);
    assert_eq!(product.wait().code(), Some(0));
    for index in [".security-7", "tenants-other"] {
        let found = search.documents(index);
        assert_eq!(found.len(), 1, "{index}");
        assert_eq!(found[0].source["owner"], "other", "{index}");
    }
    let made: Vec<String> = indexes(&search).difference(&before).cloned().collect();
    // Other tests make indexes meanwhile, but none with these beginnings.
    assert!(!made.iter().any(|name| name.starts_with(['.', '-', '_', '+'])), "{made:?}");
    assert!(made.iter().any(|name| name.starts_with("tenants-mine-")), "{made:?}");
    let mine = |name: &&String| name.starts_with("tenants-") && !name.starts_with("tenants-mine-");
    assert_eq!(made.iter().find(mine), None, "{made:?}");
}

/// A server allows a number of indexes, for all its tenants together. A user who writes values and dates without number gets some.
#[test]
fn events_make_no_more_indexes_than_are_allowed() {
    const FORGED: u64 = 60;
    let search = steady().search();
    let before = indexes(&search);
    let more = ", max_indexes: 10, batch: {max_age: 50ms}";
    let output = to_index(&steady().url(), "forged-{{ svc }}-%Y", more);
    let scene = Scene::new(Case::new("forged"), "{type: stdin, parse: json}", &[("out", output)]);
    let text = std::fs::read_to_string(&scene.config).expect("the configuration");
    let text = text.replace("outputs: [out]", "transforms: [{timestamp: t}], outputs: [out]");
    std::fs::write(&scene.config, text).expect("the configuration");
    let (mut product, mut input) = Product::start_piped(&scene.case, &scene.config);
    ["`max_indexes` is reached", "similar lines", "moved to the dead letter queue"]
        .into_iter()
        .for_each(|part| product.expect(part));
    writeln!(input, "{{\"svc\":\"good\"}}").expect("a line");
    wait_for("the first event", || match scene.sent("out")? {
        1 => Ok(()),
        sent => Err(format!("{sent} sent; {}", product.state())),
    });
    for number in 0..FORGED {
        writeln!(input, "{{\"svc\":\"evil\",\"t\":\"{}-01-01T00:00:00Z\"}}", 1990 + number).expect("a line");
        writeln!(input, "{{\"svc\":\"evil{number}\"}}").expect("a line");
        writeln!(input, "{{\"svc\":\"good\"}}").expect("a line");
    }
    drop(input);
    assert_eq!(product.wait().code(), Some(0));
    let made: Vec<String> = indexes(&search).difference(&before).cloned().collect();
    let made: Vec<&String> = made.iter().filter(|name| name.starts_with("forged-")).collect();
    assert_eq!(made.len(), 10, "{made:?}");
    let good = made.iter().find(|name| name.starts_with("forged-good-")).expect("an index");
    assert_eq!(search.documents(good).len() as u64, FORGED + 1);
}
