//! Finds secrets in strings: email addresses, card numbers, IP addresses and tokens.
//!
//! Guarantees: one pass over the string for each kind, in time proportional to its length, without allocation. Patterns of the
//! configuration may take longer, within what [`crate::codec::matches`] allows for an event. Where a string
//! alone cannot tell, it finds too much rather than too little. A long number alone is not a secret, nor is a time of day.

use crate::codec::matches::{Matches, TooMuchWork};
use crate::codec::pattern::Pattern;
use memchr::{memchr, memchr2_iter};
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::Ipv6Addr;
use std::ops::Range;

/// Kinds of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RedactPreset")]
pub enum Preset {
    Email,
    Card,
    Ipv4,
    Ipv6,
    Bearer,
}

impl Preset {
    /// Appends the ranges of the secrets in a string, which is UTF-8.
    pub fn find(self, text: &[u8], found: &mut Vec<Range<usize>>) {
        match self {
            Preset::Email => emails(text, found),
            Preset::Card => cards(text, found),
            Preset::Ipv4 => ipv4(text, found),
            Preset::Ipv6 => ipv6(text, found),
            Preset::Bearer => bearers(text, found),
        }
    }
}

/// Searches for one kind of secret.
pub enum Finder {
    Preset(Preset),
    Pattern(Box<Matches>),
}

impl Finder {
    pub fn pattern(pattern: &Pattern) -> Finder {
        Finder::Pattern(Box::new(Matches::new(pattern)))
    }

    /// Begins an event.
    pub fn begin(&mut self) {
        if let Finder::Pattern(matches) = self {
            matches.begin();
        }
    }

    /// Appends the ranges of the matches. The string is UTF-8.
    pub fn find(&mut self, text: &[u8], found: &mut Vec<Range<usize>>) -> Result<(), TooMuchWork> {
        match self {
            Finder::Preset(preset) => {
                preset.find(text, found);
                Ok(())
            }
            Finder::Pattern(matches) => matches.each(text, false, |hit, _| {
                if !hit.is_empty() {
                    found.push(hit.range());
                }
                true
            }),
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Whether the match at `range` is not part of a word.
fn apart(text: &[u8], range: &Range<usize>) -> bool {
    let before = range.start.checked_sub(1).map(|at| text[at]);
    !before.is_some_and(is_word) && !text.get(range.end).copied().is_some_and(is_word)
}

/// How many bytes at the start, or at the end, of a string satisfy the predicate.
fn leading(text: &[u8], is: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| is(**byte)).count()
}

fn trailing(text: &[u8], is: impl Fn(u8) -> bool) -> usize {
    text.iter().rev().take_while(|byte| is(**byte)).count()
}

fn emails(text: &[u8], found: &mut Vec<Range<usize>>) {
    let is_local = |byte: u8| is_word(byte) || matches!(byte, b'.' | b'%' | b'+' | b'-' | b'\'');
    let is_domain = |byte: u8| is_word(byte) && byte != b'_' || matches!(byte, b'.' | b'-');
    let mut from = 0;
    while let Some(at) = memchr(b'@', &text[from..]).map(|length| from + length) {
        let local = &text[at - trailing(&text[from..at], is_local)..at];
        let local = &local[leading(local, |byte| matches!(byte, b'.' | b'-' | b'\''))..];
        let domain = &text[at + 1..][..leading(&text[at + 1..], is_domain)];
        let domain = &domain[..domain.len() - trailing(domain, |byte| matches!(byte, b'.' | b'-'))];
        let last = domain.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
        let named = last.len() >= 2 && last.len() < domain.len() && !last.iter().all(u8::is_ascii_digit);
        if !local.is_empty() && named && !domain.starts_with(b".") {
            found.push(at - local.len()..at + 1 + domain.len());
        }
        from = at + 1;
    }
}

/// The digits of the longest card number.
const CARD_DIGITS_MAX: usize = 19;

fn cards(text: &[u8], found: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while let Some(start) = text[at..].iter().position(u8::is_ascii_digit).map(|length| at + length) {
        match card_at(text, start) {
            Some(end) => {
                found.push(start..end);
                at = end;
            }
            None => at = start + leading(&text[start..], |byte| byte.is_ascii_digit()),
        }
    }
}

/// The end of the longest card number that begins at `start`, where a group of digits begins.
fn card_at(text: &[u8], start: usize) -> Option<usize> {
    let mut digits = [0; CARD_DIGITS_MAX];
    let mut count = 0;
    let mut best = None;
    let mut at = start;
    loop {
        let byte = *text.get(at)?;
        if count == CARD_DIGITS_MAX {
            return best;
        }
        digits[count] = byte - b'0';
        (count, at) = (count + 1, at + 1);
        match text.get(at..).unwrap_or_default() {
            [b'0'..=b'9', ..] => continue,
            rest => {
                let whole = apart(text, &(start..at)) && !is_fraction(text, start, rest);
                if whole && is_card(&digits[..count]) {
                    best = Some(at);
                }
                match rest {
                    [b' ' | b'-', b'0'..=b'9', ..] => at += 1,
                    _ => return best,
                }
            }
        }
    }
}

/// Whether the digits are part of a number with a decimal point.
fn is_fraction(text: &[u8], start: usize, behind: &[u8]) -> bool {
    let digit_point = matches!(&text[..start], [.., b'0'..=b'9', b'.']);
    digit_point || matches!(behind, [b'.', b'0'..=b'9', ..])
}

/// Whether the digits are a date and time of this century, such as 20261123102030, with or without milliseconds.
fn is_moment(digits: &[u8]) -> bool {
    let number = |from: usize| digits[from] * 10 + digits[from + 1];
    matches!(digits.len(), 14 | 17)
        && number(0) == 20
        && (1..=12).contains(&number(4))
        && (1..=31).contains(&number(6))
        && number(8) < 24
        && number(10) < 60
        && number(12) < 60
}

/// Whether the digits are a card number: the length, the first digit of an industry that issues cards (ISO/IEC 7812-1, section
/// 4.2: 2 to 6), and the check digit (annex B). The ranges of issuers are not checked: they change, and a number that is not
/// recognised would be shown.
fn is_card(digits: &[u8]) -> bool {
    let given_out = digits.len() >= 13 && matches!(digits[0], 2..=6) && !is_moment(digits);
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    given_out && sum.is_multiple_of(10)
}

fn ipv4(text: &[u8], found: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while let Some(start) = text[at..].iter().position(u8::is_ascii_digit).map(|length| at + length) {
        let run = leading(&text[start..], |byte| byte.is_ascii_digit() || byte == b'.');
        at = start + run;
        let run = &text[start..at];
        let run = &run[..run.len() - trailing(run, |byte| byte == b'.')];
        let is_byte = |part: &[u8]| {
            let value = part.iter().take(3).fold(0u16, |value, byte| value * 10 + u16::from(byte - b'0'));
            (1..=3).contains(&part.len()) && value <= 255
        };
        let mut parts = 0;
        let whole = run.split(|byte| *byte == b'.').inspect(|_| parts += 1).all(is_byte);
        let range = start..start + run.len();
        if whole && parts == 4 && apart(text, &range) {
            found.push(range);
        }
    }
}

/// The length in bytes of the longest spelling of an address, with a name and a colon before it.
const IPV6_RUN_MAX: usize = 64;

fn ipv6(text: &[u8], found: &mut Vec<Range<usize>>) {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let mut from = 0;
    while let Some(colon) = memchr(b':', &text[from..]).map(|length| from + length) {
        let start = colon - trailing(&text[from..colon], is_part);
        let end = colon + leading(&text[colon..], is_part);
        from = end;
        let mut range = start..end;
        range.end -= trailing(&text[range.clone()], |byte| byte == b'.');
        if matches!(&text[range.clone()], [.., before, b':'] if *before != b':') {
            range.end -= 1;
        }
        if range.len() > IPV6_RUN_MAX {
            continue;
        }
        let starts = (range.start..range.end).filter(|at| match &text[range.start..*at] {
            [] => true,
            [.., b':', b':'] => false,
            [.., b':'] => true,
            _ => false,
        });
        let mut candidates = starts.map(|start| start..range.end);
        found.extend(candidates.find(|range| is_ipv6(&text[range.clone()]) && apart(text, range)));
    }
}

fn is_ipv6(text: &[u8]) -> bool {
    // `::` alone identifies nobody, and occurs in many strings that are not about hosts.
    text.len() > 2 && std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

fn bearers(text: &[u8], found: &mut Vec<Range<usize>>) {
    const WORD: &[u8] = b"bearer";
    let is_token =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    let mut searched = 0;
    for at in memchr2_iter(b'b', b'B', text) {
        // What is inside a token is a part of it: `bearer=bearer=` would be searched to its end for each word.
        if at < searched {
            continue;
        }
        let Some(word) = text.get(at..at + WORD.len()) else { break };
        if !word.eq_ignore_ascii_case(WORD) || at.checked_sub(1).is_some_and(|before| is_word(text[before])) {
            continue;
        }
        let behind = &text[at + WORD.len()..];
        let gap = leading(behind, |byte| matches!(byte, b' ' | b'\t' | b':' | b'=' | b'"' | b'\'' | b'\\'));
        if gap == 0 {
            continue;
        }
        let token = &behind[gap..][..leading(&behind[gap..], is_token)];
        let token = &token[..token.len() - trailing(token, |byte| byte == b'.')];
        // A short word of letters is part of a sentence.
        if !token.is_empty() && (token.len() >= 8 || token.iter().any(u8::is_ascii_digit)) {
            let start = at + WORD.len() + gap;
            searched = start + token.len();
            found.push(start..searched);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(preset: Preset, text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        preset.find(text.as_bytes(), &mut found);
        found.into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn token_that_holds_the_word_again_is_one() {
        let text = "bearer=".repeat(1000);
        assert_eq!(found(Preset::Bearer, &text), [&text["bearer=".len()..]]);
        assert_eq!(found(Preset::Bearer, &"bearer.".repeat(1000)), [""; 0]);
    }

    #[test]
    fn mail_addresses_are_found() {
        for (text, expected) in [
            ("ann@example.com", &["ann@example.com"][..]),
            ("<a.b+c-d_e%f@mail.example.co.uk>, x", &["a.b+c-d_e%f@mail.example.co.uk"]),
            ("to=ann@example.com;bob@b.de.", &["ann@example.com", "bob@b.de"]),
            ("zoë@bücher.example", &["zoë@bücher.example"]),
            ("o'neil@example.com 'x@y.zz'", &["o'neil@example.com", "x@y.zz"]),
            ("a@b@c.de", &["b@c.de"]),
        ] {
            assert_eq!(found(Preset::Email, text), expected, "{text}");
        }
        for none in
            ["", "@", "a@", "@b.de", "root@localhost", "root@10.0.0.1", "a@b.c", "a @b.de", "a@.de", "git@", ".@b.de"]
        {
            assert_eq!(found(Preset::Email, none), [""; 0], "{none}");
        }
    }

    #[test]
    fn cards_are_found_by_their_check_digit() {
        for (text, expected) in [
            ("4111111111111111", &["4111111111111111"][..]),
            ("card 4111 1111-1111 1111.", &["4111 1111-1111 1111"]),
            ("378282246310005,30569309025904", &["378282246310005", "30569309025904"]),
            ("5555555555554444 2223003122003222", &["5555555555554444", "2223003122003222"]),
            ("4222222222222", &["4222222222222"]),
            ("order 12 4111 1111 1111 1111 99", &["4111 1111 1111 1111"]),
            ("6304000000000000000", &["6304000000000000000"]),
            ("2131000000000008 3209160731596", &["2131000000000008", "3209160731596"]),
            ("20659351699755", &["20659351699755"]),
        ] {
            assert_eq!(found(Preset::Card, text), expected, "{text}");
        }
        for none in [
            "4111111111111112",
            "411111111111111",
            "41111111111111111111111",
            "a4111111111111111",
            "4111111111111111f",
            "0.4111111111111111",
            "4111111111111111.5",
            "1795429230123",
            "1795429230123456789",
            "20261123102030",
            "20261123102034",
            "20261123102030121",
            "4111  1111 1111 1111",
            "0000000000000000",
            "",
        ] {
            assert_eq!(found(Preset::Card, none), [""; 0], "{none}");
        }
    }

    #[test]
    fn addresses_of_hosts_are_found() {
        for (text, expected) in [
            ("from 10.0.0.1:8080, 192.168.100.255/24.", &["10.0.0.1", "192.168.100.255"][..]),
            ("1.2.3.4...", &["1.2.3.4"]),
            ("::ffff:10.0.0.1", &["10.0.0.1"]),
        ] {
            assert_eq!(found(Preset::Ipv4, text), expected, "{text}");
        }
        for none in ["1.2.3", "1.2.3.4.5", "256.1.1.1", "v1.2.3.4", "1.2.3.4a", "1..2.3.4", "1234.1.1.1", "1,2,3,4"] {
            assert_eq!(found(Preset::Ipv4, none), [""; 0], "{none}");
        }
        for (text, expected) in [
            ("[2001:db8::1]:443 and ::1.", &["2001:db8::1", "::1"][..]),
            ("fe80::1%eth0", &["fe80::1"]),
            ("::ffff:10.0.0.1", &["::ffff:10.0.0.1"]),
            ("peer:2001:DB8:0:0:0:0:0:1: gone", &["2001:DB8:0:0:0:0:0:1"]),
            ("2001:db8::", &["2001:db8::"]),
        ] {
            assert_eq!(found(Preset::Ipv6, text), expected, "{text}");
        }
        for none in [
            "10:20:30",
            "2026-11-23T10:20:30.123Z",
            "12:34:56:78:9a:bc",
            "std::vec",
            "std::abc::def",
            "a: b",
            "::",
            ":",
        ] {
            assert_eq!(found(Preset::Ipv6, none), [""; 0], "{none}");
        }
    }

    #[test]
    fn tokens_are_found_behind_their_word() {
        for (text, expected) in [
            ("Authorization: Bearer eyJhbGciOi.J9-_~+/==, x", &["eyJhbGciOi.J9-_~+/=="][..]),
            ("BEARER abc1", &["abc1"]),
            (r#"{\"bearer\":\"abcdefgh\"}"#, &["abcdefgh"]),
            ("bearer=t0k bearer t1k.", &["t0k", "t1k"]),
        ] {
            assert_eq!(found(Preset::Bearer, text), expected, "{text}");
        }
        for none in ["bearer", "bearer ", "bearer of news", "forbearer abc1", "bearers abc1", "basic abc1"] {
            assert_eq!(found(Preset::Bearer, none), [""; 0], "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_looked_through(text in "[a-f0-9:. @é-]{0,60}|\\PC{0,30}") {
            for preset in [Preset::Email, Preset::Card, Preset::Ipv4, Preset::Ipv6, Preset::Bearer] {
                for part in found(preset, &text) {
                    prop_assert!(!part.is_empty());
                }
            }
        }

        #[test]
        fn addresses_are_found_in_every_form(address in any::<u128>(), zeroes in any::<u128>()) {
            let address = Ipv6Addr::from(address & zeroes);
            prop_assume!(address != Ipv6Addr::UNSPECIFIED);
            let text = format!("<{address}>");
            prop_assert_eq!(found(Preset::Ipv6, &text), [address.to_string()]);
        }
    }
}
