//! The names that values of events get in a path.
//!
//! ```text
//! value                                                 in the name
//! `/`, `%`, controls, characters that change direction  `%2F` and so on, byte by byte
//! `.` or `-` as its first character                     `%2E`, `%2D`
//! nothing                                               `%empty`
//! more bytes than there is room for                     a beginning, `%~` and 32 hexadecimal digits of the SHA-256 of the value
//! ```
//!
//! Guarantees: two values never have the same name, so no event reaches the file of another value by its spelling. A name has at
//! least one byte and at most as many as there is room for, is one component, is neither hidden nor an option of a command, and
//! does not change what a terminal shows around it. Does not know which file system it is for: one that ignores case, or that
//! normalizes Unicode, may still see two names as one.

use crate::codec::visible::steers;
use ring::digest::{SHA256, digest};

/// The name of the empty value. Nothing else is encoded with these letters.
const EMPTY: &[u8] = b"%empty";

/// Before the hash of a value that was cut.
const CUT: &[u8] = b"%~";

/// Bytes of the hash, which are written as twice as many digits.
const HASH_BYTES: usize = 16;

/// The least room for a value: some of its beginning, and the hash.
pub(super) const ROOM_MIN: usize = 64;

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Replaces the value that `path` has from `start` on by its name of at most `room` bytes.
pub(super) fn encode(path: &mut Vec<u8>, start: usize, room: usize) {
    debug_assert!(room >= ROOM_MIN, "there is room for a hash");
    let value = &path[start..];
    if value.is_empty() {
        return path.extend_from_slice(EMPTY);
    }
    let is_plain = |byte: &u8| (b' '..0x7f).contains(byte) && *byte != b'/' && *byte != b'%';
    if value.len() <= room && !matches!(value[0], b'.' | b'-') && value.iter().all(is_plain) {
        return;
    }
    let value = path.split_off(start);
    let most = start + room - CUT.len() - 2 * HASH_BYTES;
    // The last place where the name may be cut: between two characters.
    let mut end = start;
    for chunk in value.utf8_chunks() {
        for (at, character) in chunk.valid().char_indices() {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).as_bytes();
            let is_first = path.len() == start && at == 0;
            match character {
                '/' | '%' => push_encoded(bytes, path),
                '.' | '-' if is_first => push_encoded(bytes, path),
                character if steers(character) => push_encoded(bytes, path),
                _ => path.extend_from_slice(bytes),
            }
            end = if path.len() <= most { path.len() } else { end };
        }
        push_encoded(chunk.invalid(), path);
        end = if path.len() <= most { path.len() } else { end };
        if path.len() - start > room {
            break;
        }
    }
    if path.len() - start > room {
        path.truncate(end);
        path.extend_from_slice(CUT);
        digest(&SHA256, &value).as_ref()[..HASH_BYTES].iter().for_each(|byte| push_hexadecimal(*byte, path));
    }
}

/// Makes the name begin with no `-`, which a date before 1970 does.
pub(super) fn encode_sign(path: &mut Vec<u8>, start: usize) {
    if path.get(start) == Some(&b'-') {
        path.splice(start..=start, *b"%2D");
    }
}

fn push_encoded(bytes: &[u8], path: &mut Vec<u8>) {
    for byte in bytes {
        path.push(b'%');
        push_hexadecimal(*byte, path);
    }
}

fn push_hexadecimal(byte: u8, path: &mut Vec<u8>) {
    path.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOM: usize = 100;

    fn name(value: &[u8]) -> Vec<u8> {
        let mut path = b"/out/x-".to_vec();
        let start = path.len();
        path.extend_from_slice(value);
        encode(&mut path, start, ROOM);
        path.split_off(start)
    }

    #[test]
    fn values_are_spelled_so_that_nothing_of_them_acts() {
        for (value, expected) in [
            ("web-1.example", "web-1.example"),
            ("a b~c", "a b~c"),
            ("ü/日本", "ü%2F日本"),
            ("100%", "100%25"),
            ("a%2Fb", "a%252Fb"),
            (".bashrc", "%2Ebashrc"),
            ("..", "%2E."),
            ("-rf", "%2Drf"),
            ("", "%empty"),
            ("%empty", "%25empty"),
            ("a\0b\n\u{7f}\u{9b}", "a%00b%0A%7F%C2%9B"),
            ("gpj\u{202e}exe", "gpj%E2%80%AEexe"),
        ] {
            assert_eq!(String::from_utf8(name(value.as_bytes())).expect("text"), expected, "{value:?}");
        }
        assert_eq!(name(b"a\xff"), b"a%FF");
    }

    #[test]
    fn long_values_keep_their_beginning_and_differ() {
        let (one, other) = (format!("{}1", "ü".repeat(60)), format!("{}2", "ü".repeat(60)));
        let (one, other) = (name(one.as_bytes()), name(other.as_bytes()));
        assert!(one != other && one.len() <= ROOM && one.starts_with("ü".repeat(33).as_bytes()));
        assert!(String::from_utf8(one.clone()).expect("it is cut between two characters").contains("ü%~"));
        assert!(name(&one) != one, "a value that looks like a cut name is encoded itself");
        let (fits, cut) = ("x".repeat(ROOM), "x".repeat(ROOM + 1));
        assert_eq!(name(fits.as_bytes()), fits.as_bytes());
        assert_eq!(name(cut.as_bytes()).len(), ROOM);
        assert_eq!(name("x/".repeat(100).as_bytes()).len(), 99, "no cut within an encoded byte");
    }

    /// The value of a name that was not cut.
    fn value(name: &[u8]) -> Vec<u8> {
        if name == EMPTY {
            return Vec::new();
        }
        let mut rest = name.iter();
        let mut value = Vec::new();
        while let Some(byte) = rest.next() {
            let mut digit = || char::from(*rest.next().expect("two digits")).to_digit(16).expect("a digit") as u8;
            value.push(if *byte == b'%' { digit() << 4 | digit() } else { *byte });
        }
        value
    }

    proptest! {
        #[test]
        fn a_name_says_its_value(bytes in proptest::collection::vec(any::<u8>(), 0..30), text in "[-./%~empty0-9F\u{202e}\n]{0,12}") {
            for given in [bytes.as_slice(), text.as_bytes()] {
                let name = name(given);
                prop_assert_eq!(value(&name), given);
                prop_assert!(!name.is_empty() && !name.contains(&b'/') && !matches!(name[0], b'.' | b'-'));
                let shown = String::from_utf8(name).expect("invalid bytes are encoded");
                prop_assert!(!shown.chars().any(steers), "{:?}", shown);
            }
        }
    }
}
