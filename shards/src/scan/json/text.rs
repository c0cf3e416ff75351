//! Decodes JSON strings.
//!
//! Guarantees: accepts exactly valid JSON strings, and in addition unpaired surrogates, which become U+FFFD. The result is
//! UTF-8. Not optimized: called once for each new key.

/// Without the white space around it.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let mut text = text;
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = text {
        text = rest;
    }
    text
}

/// Appends the text of a key: `label` is a quoted string, with white space around it. Returns false if it is not a string;
/// anything may have been appended then.
pub fn unescape_key(label: &[u8], out: &mut Vec<u8>) -> bool {
    match trim(label) {
        [b'"', body @ .., b'"'] => unescape(body, out),
        _ => false,
    }
}

/// Appends the text of a string, given without its quotes. Returns false if it is invalid; anything may have been appended
/// then.
pub fn unescape(body: &[u8], out: &mut Vec<u8>) -> bool {
    if std::str::from_utf8(body).is_err() {
        return false;
    }
    let mut rest = body;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'"' | 0..0x20 => return false,
            b'\\' => match escape(rest, out) {
                Some(behind) => rest = behind,
                None => return false,
            },
            byte => out.push(byte),
        }
    }
    true
}

/// Appends the character of the escape after a backslash, and returns the rest.
fn escape<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&letter, rest) = rest.split_first()?;
    let byte = match letter {
        b'"' | b'\\' | b'/' => letter,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return long_escape(rest, out),
        _ => return None,
    };
    out.push(byte);
    Some(rest)
}

fn long_escape<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (high, mut rest) = four_digits(rest)?;
    let mut code = high;
    if let (0xd800..0xdc00, Some(pair)) = (high, rest.strip_prefix(b"\\u"))
        && let Some((low @ 0xdc00..0xe000, behind)) = four_digits(pair)
    {
        code = 0x10000 + ((high - 0xd800) << 10 | (low - 0xdc00));
        rest = behind;
    }
    let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

fn four_digits(rest: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = rest.split_first_chunk::<4>()?;
    let mut code = 0;
    for digit in digits {
        code = code << 4 | char::from(*digit).to_digit(16)?;
    }
    Some((code, rest))
}
