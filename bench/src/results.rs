//! Stores raw results: every run of every benchmark, with the machine on which they ran.
//!
//! Guarantees: a file is written once and never changed. Its name contains the time. Draws no conclusions: readers compare
//! figures within one file, because machines differ and drift.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tailwater_shards::scan::Tier;

/// All runs of one benchmark.
pub struct Runs {
    pub name: &'static str,
    pub hash: u64,
    /// Nanoseconds per event, in the order of the runs.
    pub nanoseconds: Vec<f64>,
}

/// The value of the first line of a file that begins with `key`.
fn fact(path: &str, key: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_once(':').map_or(line, |(_, value)| value).trim().replace(['"', '\\'], " ")
}

fn json(events: u64, all: &[Runs]) -> String {
    let load = fact("/proc/loadavg", "");
    let mut out = format!(
        "{{\"cpu\":\"{}\",\"tier\":\"{}\",\"cpus\":{},\"kernel\":\"{}\",\"load\":\"{load}\",\"events\":{events},\"benchmarks\":[\n",
        fact("/proc/cpuinfo", "model name"),
        Tier::best().name(),
        std::thread::available_parallelism().map_or(0, usize::from),
        fact("/proc/sys/kernel/osrelease", ""),
    );
    for (index, runs) in all.iter().enumerate() {
        let values: Vec<String> = runs.nanoseconds.iter().map(|value| format!("{value:.1}")).collect();
        let end = if index + 1 < all.len() { "," } else { "" };
        out.push_str(&format!(
            "  {{\"name\":\"{}\",\"hash\":\"{:016x}\",\"ns_per_event\":[{}]}}{end}\n",
            runs.name,
            runs.hash,
            values.join(",")
        ));
    }
    out.push_str("]}\n");
    out
}

/// Writes the results into `directory` and returns the path.
pub fn keep(directory: &Path, events: u64, all: &[Runs]) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(directory)?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let path = directory.join(format!("bench-{seconds}.json"));
    let mut file = std::fs::File::create_new(&path)?;
    file.write_all(json(events, all).as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_kept_and_never_replaced() {
        let directory = std::env::temp_dir().join(format!("tailwater-bench-results-{}", std::process::id()));
        let runs = [
            Runs { name: "a", hash: 1, nanoseconds: vec![1.5, 2.25] },
            Runs { name: "b", hash: 2, nanoseconds: Vec::new() },
        ];
        let path = keep(&directory, 7, &runs).expect("the directory is writable");
        let text = std::fs::read_to_string(&path).expect("it is there");
        std::fs::remove_dir_all(&directory).expect("the directory can be removed");
        assert!(text.contains("\"events\":7"), "{text}");
        assert!(
            text.contains("{\"name\":\"a\",\"hash\":\"0000000000000001\",\"ns_per_event\":[1.5,2.2]},\n"),
            "{text}"
        );
        assert!(text.ends_with("\"ns_per_event\":[]}\n]}\n"), "{text}");
    }
}
