//! What is hidden of a file that is not valid YAML: whole lines, by the names of keys.
//!
//! Guarantees: rather too much than too little. From a key with the name of a secret to the end of its line, and then all lines down to one
//! that begins with a key of the configuration, or opens a map, at the same or a lesser indentation. Linear in the size of the file.

use super::Hidden;
use super::marks::MARKS;
use super::tree::is_reference_only;

/// What is hidden of `text`.
pub fn hidden(text: &str) -> Hidden {
    let mut hidden = Hidden::default();
    let (mut start, mut below) = (0, None);
    for line in text.split_inclusive('\n') {
        let indentation = line.len() - line.trim_start().len();
        if below.is_some_and(|outer| !line.trim().is_empty() && ends(line.trim(), indentation, outer)) {
            below = None;
        }
        let from = match below {
            Some(_) => Some(0),
            None => secret_from(line, true),
        };
        if let Some(from) = from {
            hide(line, start, from, &mut hidden);
            below = below.or(Some(indentation));
        }
        users(line).into_iter().for_each(|(from, to)| hidden.push(start + from, start + to));
        start += line.len();
    }
    hidden
}

fn hide(line: &str, start: usize, from: usize, hidden: &mut Hidden) {
    let value = &line[from..];
    if is_reference_only(value.trim().trim_end_matches(['}', ']', ',', ' ']).trim()) || is_reference_and_braces(value) {
        return;
    }
    hidden.push(start + from, start + line.len());
    let words = value.split(|c: char| c.is_whitespace() || ",{}[]\"'`".contains(c));
    hidden.values.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
}

/// Whether a value is a reference without quotes, as in `{password: ${NAME}}`, which is the mistake itself.
fn is_reference_and_braces(value: &str) -> bool {
    let value = value.trim();
    let end = value.find('}').map_or(value.len(), |end| end + 1);
    is_reference_only(&value[..end]) && value[end..].chars().all(|c| "}], ".contains(c))
}

/// What is hidden of the comments of a file that is valid YAML.
pub fn comments(text: &str, hidden: &mut Hidden) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let mark =
            line.match_indices('#').map(|(at, _)| at).find(|at| !line[..*at].ends_with(|c: char| !c.is_whitespace()));
        if let Some(from) = mark.and_then(|at| Some(at + secret_from(&line[at..], false)?)) {
            hide(line, start, from, hidden);
        }
        start += line.len();
    }
}

/// Where on a line a secret begins. If `bare`, the key may lack its colon at the beginning of the line.
fn secret_from(line: &str, bare: bool) -> Option<usize> {
    let is_word = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let (mut at, mut holder) = (0, None);
    let first = line.find(is_word).filter(|_| bare);
    while let Some(start) = line[at..].find(is_word).map(|start| at + start) {
        let word = &line[start..];
        let word = &word[..word.find(|c: char| !is_word(c)).unwrap_or(word.len())];
        at = start + word.len();
        let behind = line[at..].trim_start_matches(['"', '\'']).trim_start();
        let (is_key, value) = match behind.strip_prefix([':', '=']) {
            Some(value) => (true, value),
            None => (false, behind),
        };
        let value = value.trim_start();
        if (is_key || Some(start) == first) && MARKS.is_secret_name(word) {
            return Some(line.len() - value.len());
        }
        if is_key && MARKS.is_holder(word) && !value.is_empty() && !value.starts_with('#') {
            // One of its keys may be the secret; if none can be recognized, anything may be.
            holder = holder.or(Some(line.len() - value.len()));
        }
    }
    holder
}

/// Whether a line, without the blanks around it, ends a secret value that began at the indentation `outer`.
fn ends(line: &str, indentation: usize, outer: usize) -> bool {
    let item = line.trim_start_matches("- ").trim_start();
    let is_item = item.len() != line.len();
    let Some((key, value)) = item.split_once(':') else { return false };
    let key = key.trim_matches(['"', '\'']);
    let is_name = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
    let is_own = MARKS.is_known(key) || is_name && value.trim().is_empty();
    is_own && (indentation < outer || indentation == outer && (!is_item || MARKS.is_known(key)))
}

/// The users and passwords of URLs on a line.
fn users(line: &str) -> Option<(usize, usize)> {
    let from = line.find("://")? + "://".len();
    let to = line.rfind('@').filter(|to| *to > from)?;
    line[from..to].contains(':').then_some((from, to))
}
