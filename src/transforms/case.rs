//! `lowercase` and `uppercase`: change the case of strings.

use super::place::{Place, push_json};
use super::text::string;
use super::{Opening, Transform, Verb, Verdict, refuse_empty};
use crate::codec::path::Path;
use crate::config::component::Mistake;
use schemars::JsonSchema;
use serde::Deserialize;
use tailwater_shards::record::{Record, Value};

/// A list of fields. Letters of all alphabets are changed, one by one. Values that are not strings stay unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "Lowercase")]
pub struct Lower(#[schemars(length(min = 1))] pub Vec<Path>);

/// A list of fields. Letters of all alphabets are changed, one by one. Values that are not strings stay unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "Uppercase")]
pub struct Upper(#[schemars(length(min = 1))] pub Vec<Path>);

impl Verb for Lower {
    const NAME: &'static str = "lowercase";
    const SUMMARY: &'static str = "converts strings to lowercase";
    const EXAMPLE: &'static str = "lowercase: [level, user.email]\n";
    const SAMPLE: &'static str = r#"{"level":"WARN","user":{"email":"Zo\u00c9@Example.com"}}"#;

    fn check(&self) -> Vec<Mistake> {
        refuse_empty(&self.0, "nothing would be changed", "lowercase: [level]")
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        Case::open(&self.0, false, opening)
    }
}

impl Verb for Upper {
    const NAME: &'static str = "uppercase";
    const SUMMARY: &'static str = "converts strings to uppercase";
    const EXAMPLE: &'static str = "uppercase: [level]\n";
    const SAMPLE: &'static str = r#"{"level":"warn","message":"disk is nearly full"}"#;

    fn check(&self) -> Vec<Mistake> {
        refuse_empty(&self.0, "nothing would be changed", "uppercase: [level]")
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        Case::open(&self.0, true, opening)
    }
}

struct Case {
    places: Vec<Place>,
    upper: bool,
    unescaped: Vec<u8>,
    changed: Vec<u8>,
    json: Vec<u8>,
    failures: u64,
}

impl Case {
    fn open(paths: &[Path], upper: bool, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let places = paths.iter().map(|path| Place::new(path, opening)).collect();
        Box::new(Case { places, upper, unescaped: Vec::new(), changed: Vec::new(), json: Vec::new(), failures: 0 })
    }
}

impl Transform for Case {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        for place in &mut self.places {
            let Some(value) = place.get(record) else { continue };
            let Some(text) = string(value, &mut self.unescaped) else { continue };
            if !change(text, self.upper, &mut self.changed) {
                continue;
            }
            self.json.clear();
            push_json(Value::Text(&self.changed), &mut self.json);
            self.failures += u64::from(!place.put(record, &self.json));
        }
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}

/// Writes the string in the other case to `out`. False if nothing changes.
fn change(text: &[u8], upper: bool, out: &mut Vec<u8>) -> bool {
    out.clear();
    out.extend_from_slice(text);
    if upper {
        out.make_ascii_uppercase()
    } else {
        out.make_ascii_lowercase()
    }
    if text.is_ascii() {
        return out != text;
    }
    out.clear();
    let mut buffer = [0; 4];
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let mut push = |letter: char| out.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
            if upper { letter.to_uppercase().for_each(&mut push) } else { letter.to_lowercase().for_each(&mut push) }
        }
    }
    out != text
}

#[cfg(test)]
mod tests {
    use crate::transforms::tests::{Bench, one};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn letters_of_all_alphabets_change() {
        let event = r#"{"a":"Zoë ÄÖ","b":"x\n\u00c9\"","c":{"d":"Ab"},"e":5,"f":"straße"}"#;
        assert_eq!(
            one("- uppercase: [a, b, c.d, e, f, x]", event),
            r#"{"a":"ZOË ÄÖ","b":"X\nÉ\"","c":{"d":"AB"},"e":5,"f":"STRASSE"}"#
        );
        assert_eq!(
            one("- lowercase: [a, b, c.d, e, c]", event),
            r#"{"a":"zoë äö","b":"x\né\"","c":{"d":"ab"},"e":5,"f":"straße"}"#
        );
        assert_eq!(one("- uppercase: [message]", "plain \"text\""), r#"{"message":"PLAIN \"TEXT\""}"#);
    }

    #[test]
    fn what_has_the_case_stays_byte_for_byte() {
        let event = r#"{"a":"\u00e9\/","b":"","c":"\u0041"}"#;
        assert_eq!(one("- lowercase: [a, b]", event), event);
        assert_eq!(one("- uppercase: [c]", event), event);
    }

    proptest! {
        #[test]
        fn letters_agree_with_the_reference(text in "\\PC{0,12}|[a-zA-Z\"\\\\\n]{0,12}", upper in any::<bool>()) {
            let each = |letter: char| -> String {
                if upper { letter.to_uppercase().collect() } else { letter.to_lowercase().collect() }
            };
            let expected: String = text.chars().map(each).collect();
            let verb = if upper { "uppercase" } else { "lowercase" };
            let mut bench = Bench::try_new(&format!("- {verb}: [a.b]\n- remove: [file]")).expect("valid");
            let event = json!({"a": {"b": text, "B": "Ab"}});
            let out: Value = serde_json::from_str(&bench.event(&event.to_string()).expect("kept")).expect("JSON");
            prop_assert_eq!(out, json!({"a": {"b": expected, "B": "Ab"}}));
        }
    }
}
