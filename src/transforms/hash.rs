//! `hash`: replaces values with hashes, which can be compared but not read.

use super::place::Place;
use super::reasons::{Before, in_the_way};
use super::text::text;
use super::{Opening, Transform, Verb, Verdict};
use crate::codec::path::Path;
use crate::codec::secret::Secret;
use crate::config::component::Mistake;
use ring::{digest, hmac};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tailwater_shards::record::Record;
use xxhash_rust::xxh3::xxh3_128;

/// The hash is written in lowercase hexadecimal digits. Of a string, its text without escapes is hashed; of any other value,
/// its JSON as written in the event. A missing field stays missing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hash")]
pub struct Settings {
    /// The fields to hash.
    pub fields: Vec<Path>,
    /// The hash function.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// A secret for the hash (HMAC), at least 16 bytes. Without it, anyone who has a list of likely values can hash them and
    /// compare. Take it from the environment: `key: ${HASH_KEY}`.
    #[serde(default)]
    pub key: Option<Secret>,
    /// The field for one hash of all `fields`, whose values then stay unchanged. The values are hashed with a zero byte between
    /// them; a missing value counts as empty. By default, each field is replaced with its own hash.
    #[serde(default)]
    pub to: Option<Path>,
}

/// The hash functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "HashAlgorithm")]
pub enum Algorithm {
    /// Cryptographic, 64 digits: SHA-256, or HMAC-SHA-256 with a key.
    #[default]
    Sha256,
    /// Much faster, 32 digits: XXH3 with 128 bits. Tells values apart, but does not keep them secret.
    Xxh3,
}

/// Shorter keys can be guessed.
const KEY_BYTES_MIN: usize = 16;

impl Verb for Settings {
    const NAME: &'static str = "hash";
    const SUMMARY: &'static str = "replaces values with their hash, or adds one hash of several values";
    const EXAMPLE: &'static str = "hash: {fields: [user.email], key: \"${HASH_KEY}\"}\n";
    const FAILURE: &'static str = "the event is too large for the hash";

    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.fields.is_empty() {
            mistakes.push(Mistake::new("fields", "no field is named", "write `fields: [user.id]`"));
        }
        if self.to.as_ref().is_some_and(|to| self.fields.contains(to)) {
            let what = "`to` names a field that is hashed, and with `to` the hashed fields stay unchanged";
            let help = "name another field for the hash, or remove `to` to replace each value with its own hash";
            mistakes.push(Mistake::new("to", what, help).needing(&["fields"]));
        }
        if self.key.is_some() && self.algorithm == Algorithm::Xxh3 {
            let help = "use `algorithm: sha256`, or remove `key`";
            mistakes.push(Mistake::new("key", "xxh3 does not use a key", help).needing(&["algorithm"]));
        } else if self.key.as_ref().is_some_and(|key| key.expose().len() < KEY_BYTES_MIN) {
            let help = "make a longer key with `openssl rand -hex 32`";
            mistakes.push(Mistake::new("key", "a key of less than 16 bytes can be guessed", help));
        }
        mistakes
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        Box::new(Hash {
            fields: self.fields.iter().map(|path| Place::new(path, opening)).collect(),
            to: self.to.as_ref().map(|path| Place::new(path, opening)),
            how: match (&self.key, self.algorithm) {
                (Some(key), _) => How::Hmac(hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes())),
                (None, Algorithm::Sha256) => How::Sha256,
                (None, Algorithm::Xxh3) => How::Xxh3,
            },
            unescaped: Vec::new(),
            joined: Vec::new(),
            out: Vec::new(),
            failures: 0,
        })
    }

    fn explain(&self, before: &Before<'_>) -> Option<String> {
        in_the_way(self.to.as_ref()?, before)
    }
}

enum How {
    Sha256,
    Hmac(hmac::Key),
    Xxh3,
}

struct Hash {
    fields: Vec<Place>,
    to: Option<Place>,
    how: How,
    unescaped: Vec<u8>,
    /// The input of the hash of several values.
    joined: Vec<u8>,
    out: Vec<u8>,
    failures: u64,
}

impl Transform for Hash {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let Hash { fields, to, how, unescaped, joined, out, failures } = self;
        let Some(to) = to else {
            for place in fields {
                place.leave_last(record);
                let Some(value) = place.get(record) else { continue };
                how.push(text(value, unescaped), out);
                if !place.put(record, out) {
                    // The hash does not fit, and the value that it hides must not leave.
                    place.remove(record);
                    *failures += 1;
                }
            }
            return Verdict::Keep;
        };
        joined.clear();
        let mut found = false;
        for (number, place) in fields.iter().enumerate() {
            if number > 0 {
                joined.push(0);
            }
            if let Some(value) = place.get(record) {
                found = true;
                joined.extend_from_slice(text(value, unescaped));
            }
        }
        if found {
            how.push(joined, out);
            *failures += u64::from(!to.put(record, out));
        }
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}

impl How {
    /// Writes the hash to `out` as a JSON string.
    fn push(&self, text: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.push(b'"');
        match self {
            How::Sha256 => push_hex(digest::digest(&digest::SHA256, text).as_ref(), out),
            How::Hmac(key) => push_hex(hmac::sign(key, text).as_ref(), out),
            How::Xxh3 => push_hex(&xxh3_128(text).to_be_bytes(), out),
        }
        out.push(b'"');
    }
}

fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
}

#[cfg(test)]
mod tests {
    use crate::transforms::tests::{mistake, one};

    /// Of `abc`, from the algorithm's own standard.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn values_become_their_hash() {
        assert_eq!(one("- hash: {fields: [a, x]}", r#"{"a":"abc","b":1}"#), format!(r#"{{"a":"{ABC}","b":1}}"#));
        assert_eq!(one("- hash: {fields: [a.b]}", r#"{"a":{"b":"\u0061bc"}}"#), format!(r#"{{"a":{{"b":"{ABC}"}}}}"#));
        assert_eq!(one("- hash: {fields: [message]}", "abc"), format!(r#"{{"message":"{ABC}"}}"#));
        // What `xxh128sum` says of `abc`, and of nothing.
        let xxh3 = |value: &str| one("- hash: {fields: [a], algorithm: xxh3}", &format!("{{\"a\":{value}}}"));
        assert_eq!(xxh3(r#""abc""#), r#"{"a":"06b05ab6733a618578af5f94892f3950"}"#);
        assert_eq!(xxh3(r#""""#), r#"{"a":"99aa06d3014798d86001c324468d497f"}"#);
        assert_ne!(xxh3("7"), xxh3("7.0"));
        assert_eq!(xxh3("7"), xxh3(r#""7""#));
    }

    #[test]
    fn a_key_makes_another_hash() {
        let list = format!("- hash: {{fields: [a], key: \"{}\"}}", "k".repeat(16));
        let other = format!("- hash: {{fields: [a], key: \"{}\"}}", "l".repeat(16));
        let event = r#"{"a":"abc"}"#;
        // As Python's `hmac` has it.
        let expected = "c344abd1a90e97045a54278fa5268d82d733aabff437dd4c4c93f35294d3b665";
        assert_eq!(one(&list, event), format!(r#"{{"a":"{expected}"}}"#));
        assert_ne!(one(&list, event), one(&other, event));
        assert_ne!(one(&list, event), one("- hash: {fields: [a]}", event));
    }

    #[test]
    fn several_values_make_one_hash() {
        let made = |fields: &str, event: &str| {
            one(&format!("- hash: {{fields: [{fields}], to: id.hash}}\n- keep: [id]"), event)
        };
        assert_eq!(made("a", r#"{"a":"abc"}"#), format!(r#"{{"id":{{"hash":"{ABC}"}}}}"#));
        let event = r#"{"a":"x","b":"y"}"#;
        assert_ne!(made("a, b", event), made("b, a", event));
        assert_ne!(made("a, b", r#"{"a":"xy","b":""}"#), made("a, b", r#"{"a":"x","b":"y"}"#));
        assert_eq!(made("a, b", r#"{"a":"x"}"#), made("a, b", r#"{"a":"x","b":""}"#));
        assert_eq!(one("- hash: {fields: [x], to: y}", event), event, "of nothing there is no hash");
    }

    #[test]
    fn mistakes_are_told() {
        assert!(mistake("- hash: {fields: []}").contains("no field"));
        assert!(
            mistake("- hash: {fields: [a, b.c], to: 'b[\"c\"]'}").contains("to: `to` names a field that is hashed")
        );
        assert!(mistake("- hash: {fields: [a], algorithm: md5}").contains("md5"));
        assert!(mistake("- hash: {fields: [a], key: short}").contains("less than 16 bytes"));
        assert!(
            mistake("- hash: {fields: [a], algorithm: xxh3, key: 0123456789abcdef}").contains("does not use a key")
        );
    }
}
