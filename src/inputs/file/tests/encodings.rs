//! Files in other encodings than UTF-8, byte order marks, and empty or truncated lines.

use super::*;
use crate::codec::encoding::Encoding;

const PATH: &str = "/log/app.log";

fn encode(text: &str, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Utf8 => text.as_bytes().to_vec(),
        Encoding::Latin1 => text.chars().map(|one| u8::try_from(u32::from(one)).expect("Latin-1")).collect(),
        Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    }
}

#[test]
fn file_in_another_encoding_is_read_once_over_kills() {
    check(&[PATH], |world| {
        let seed = world.simulation.seed();
        let encoding = [Encoding::Utf16Le, Encoding::Utf16Be, Encoding::Latin1][seed as usize % 3];
        world.settings.encoding = encoding;
        let mut prng = world.simulation.prng("kills");
        let lines: Vec<String> = (0..9_000).map(|number| format!("ligne {number:08} été")).collect();
        if encoding.is_wide() {
            world.outside.append(PATH, &encode("\u{feff}", encoding)).expect("appended");
        }
        world.start();
        for piece in lines.chunks(1_000) {
            let bytes = encode(&text(piece), encoding);
            let cut = prng.between(0, bytes.len() as u64) as usize;
            world.outside.append(PATH, &bytes[..cut]).expect("appended");
            world.simulation.run_for(Duration::from_micros(prng.between(0, 20_000)));
            world.outside.append(PATH, &bytes[cut..]).expect("appended");
            if prng.percent(50) {
                world.kill();
                world.start();
            }
        }
        world.wait_for(lines.len());
        world.wait(3);
        world.expect(&lines);
        assert_eq!(world.log.borrow().sources.len(), 1);
    });
}

#[test]
fn utf_16_that_is_not_configured_is_not_read() {
    check(&["/log/*"], |world| {
        world.outside.append("/log/marked", &encode("\u{feff}x\n", Encoding::Utf16Le)).expect("appended");
        let long = "2026-11-29 10:00:00 started and ready\n";
        world.outside.append("/log/plain", &encode(long, Encoding::Utf16Be)).expect("appended");
        world.append("/log/later", "");
        world.append("/log/text", "text\n");
        world.start();
        world.wait_for(1);
        world.outside.append("/log/later", &encode(long, Encoding::Utf16Le)).expect("appended");
        world.wait(5);
        world.expect(&["text".to_owned()]);
        assert!(world.sum(|counters| counters.errors.get()) >= 3, "each is told");
    });
}

#[test]
fn utf_8_mark_is_not_part_of_the_first_line() {
    check(&["/log/*"], |world| {
        for (file, content) in ["\u{feff}one\ntwo\n", "\u{feff}\nthree\n", "four\n\u{feff}five\n"].iter().enumerate() {
            world.append(&format!("/log/{file}"), content);
        }
        world.append("/log/later", "");
        world.start();
        world.wait_for(5);
        world.append("/log/later", "\u{feff}");
        world.wait(1);
        world.append("/log/later", "six\n");
        world.wait_for(6);
        world.wait(2);
        world.expect(&["one", "two", "three", "four", "\u{feff}five", "six"].map(str::to_owned));
    });
}

#[test]
fn empty_lines_are_dropped_unless_they_are_wanted() {
    check(&[PATH], |world| {
        let wanted = world.simulation.seed().is_multiple_of(2);
        world.settings.skip_empty = !wanted;
        world.append(PATH, "one\n\n\r\ntwo\n\n");
        world.start();
        world.wait_for(if wanted { 5 } else { 2 });
        world.wait(2);
        let all: &[&str] = if wanted { &["one", "", "", "two", ""] } else { &["one", "two"] };
        assert_eq!(world.log.borrow().lines, all);
    });
}

#[test]
fn event_of_a_truncated_line_says_so() {
    check(&[PATH], |world| {
        world.settings.max_line_bytes = ByteSize(64);
        let long = "z".repeat(65);
        world.append(PATH, &format!("{}\n{long}\nshort\n{}", &long[..64], "y".repeat(200_000)));
        world.start();
        world.wait_for(4);
        world.append(PATH, "\nnext\n");
        world.wait_for(5);
        world.wait(2);
        assert_eq!(world.log.borrow().truncated, [&long[..64], &"y".repeat(64)]);
    });
}
