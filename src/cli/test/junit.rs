//! Results as JUnit XML.
//!
//! Guarantees: well-formed XML 1.0, whatever names and events contain: characters that XML does not allow become U+FFFD.

use super::Result;
use std::fmt::Write as _;
use std::time::Duration;

/// The report of the tests in a file. `text_of` describes a failure.
pub fn report(file: &str, results: &[Result], text_of: impl Fn(&Result) -> String) -> String {
    let failed = results.iter().filter(|result| !result.failures.is_empty()).count();
    let time = seconds(results.iter().map(|result| result.took).sum());
    let (file, count) = (escaped(file), results.len());
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites tests=\"{count}\" failures=\"{failed}\" errors=\"0\" time=\"{time}\">");
    let _ = writeln!(
        out,
        "  <testsuite name=\"{file}\" tests=\"{count}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\" time=\"{time}\">"
    );
    for result in results {
        let (name, pipeline, time) = (escaped(&result.name), escaped(&result.pipeline), seconds(result.took));
        let _ = write!(out, "    <testcase name=\"{name}\" classname=\"{pipeline}\" file=\"{file}\" time=\"{time}\"");
        match result.failures.first() {
            None => out.push_str("/>\n"),
            Some(first) => {
                let what = first.told.first().map(|told| told.what.as_str()).unwrap_or_default();
                let message = escaped(&format!("{}: {what}", first.what));
                let text = escaped(&text_of(result));
                let _ = writeln!(out, " line=\"{}\">", first.line);
                let _ = writeln!(out, "      <failure message=\"{message}\">{text}</failure>\n    </testcase>");
            }
        }
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn seconds(took: Duration) -> String {
    format!("{:.6}", took.as_secs_f64())
}

/// Escapes text for an attribute or between tags.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        assert_eq!(escaped("a<b>&\"c\"\n\u{0}\u{1b}é"), "a&lt;b&gt;&amp;&quot;c&quot;\n\u{fffd}\u{fffd}é");
    }
}
