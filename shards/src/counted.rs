//! Counts in messages: `1 event`, `2 events`.
//!
//! Guarantees: correct for nouns whose plural only adds an `s`. Does not translate.

/// A number and its noun, in the plural unless there is exactly one.
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!([0usize, 1, 2].map(|count| counted(count, "event")), ["0 events", "1 event", "2 events"]);
    }
}
