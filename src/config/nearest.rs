//! The nearest name: what a person probably meant.
//!
//! Guarantees: a suggestion only where a slip of the fingers explains the difference, so that no nonsense is suggested.

/// The candidate nearest to `name`, if one is near: at most a third of its letters differ.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count().max(3) / 3).min(3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&normal(name), &normal(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Case and the choice of separator are the commonest slips and cost nothing.
fn normal(name: &str) -> Vec<char> {
    name.chars().map(|c| if c == '-' || c == ' ' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: [Vec<usize>; 3] = [vec![0; b.len() + 1], (0..=b.len()).collect(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        rows[2][0] = i;
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[1][j] + 1).min(rows[2][j - 1] + 1).min(rows[1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = best;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_fingers_find_their_name() {
        let names = ["inputs", "outputs", "pipelines", "data_dir", "when_full"];
        for (typed, meant) in [
            ("input", "inputs"),
            ("ouptuts", "outputs"),
            ("pipelnies", "pipelines"),
            ("data-dir", "data_dir"),
            ("WhenFull", "when_full"),
        ] {
            assert_eq!(nearest(typed, names), Some(meant), "{typed}");
        }
    }

    #[test]
    fn strangers_are_not_suggested() {
        for typed in ["transforms", "x", "", "sources", "a_very_long_key_that_nobody_knows"] {
            assert_eq!(nearest(typed, ["inputs", "outputs", "pipelines"]), None, "{typed}");
        }
    }

    #[test]
    fn distance_counts_each_slip_once() {
        let of = |a: &str, b: &str| distance(&normal(a), &normal(b));
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("abc", "abc"), 0);
        assert_eq!(of("abcd", "acbd"), 1);
        assert_eq!(of("kitten", "sitting"), 3);
    }
}
