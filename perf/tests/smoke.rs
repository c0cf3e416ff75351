//! Runs every scenario once, with little data, against the product, so that an error in a scenario or its configuration shows
//! here and not when somebody needs figures. Checks only that each figure exists, not its value.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The product: the binary that the caller names, or the one in the folder of this test, built now if necessary.
fn tailwater() -> PathBuf {
    if let Some(binary) = std::env::var_os("TAILWATER_BIN") {
        return binary.into();
    }
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", "tailwater", "--bin", "tailwater"])
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the product does not build");
    let tool = Path::new(env!("CARGO_BIN_EXE_tailwater-perf"));
    let folder = tool.parent().expect("the binary is in a folder").to_owned();
    // Tests may be built in release mode; the binary that was just built is the debug binary beside it.
    let beside = [folder.join("tailwater"), folder.with_file_name("debug").join("tailwater")];
    beside.into_iter().find(|path| path.is_file()).expect("the product was built")
}

#[test]
fn every_scenario_runs_in_small() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kept = folder.path().join("kept");
    let output = Command::new(env!("CARGO_BIN_EXE_tailwater-perf"))
        .arg("run")
        .arg("--tailwater")
        .arg(tailwater())
        .arg("--scenarios")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios"))
        .args(["--programs", "tailwater", "--rounds", "1", "--lines", "2000", "--data", "all", "--keep"])
        .arg(&kept)
        .args([
            "--only",
            "file_to_blackhole,file_to_file,json_to_file,json_to_http,json_to_elasticsearch,two_shards,latency,\
               json_latency,start,recovery,idle,soak",
        ])
        .args(["--latency-seconds", "0.1", "--start-runs", "1", "--recovery-bytes", "1000000"])
        .args(["--idle-seconds", "1", "--idle-settle-seconds", "1", "--soak-seconds", "2"])
        .env("TMPDIR", folder.path())
        .output()
        .expect("the tool runs");
    let (text, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{log}\n{text}");

    let document = std::fs::read_to_string(kept.with_extension("json")).expect("the JSON file is there");
    let document: serde_json::Value = serde_json::from_str(&document).expect("it is JSON");
    let series = document["series"].as_array().expect("it has series");
    let has = |scenario: &str, figure: &str| {
        let measured = |one: &serde_json::Value| {
            one["scenario"] == scenario && one["program"] == "tailwater" && one["samples"][figure].is_array()
        };
        series.iter().any(measured)
    };
    for (scenario, figure) in [
        ("file_to_blackhole", "events_per_cpu_second"),
        ("file_to_file", "events_per_cpu_second"),
        ("json_to_file", "events_per_cpu_second"),
        ("json_to_http", "events_per_cpu_second"),
        ("json_to_elasticsearch", "events_per_cpu_second"),
        ("latency", "latency_p99_ms"),
        ("json_latency", "latency_p99_ms"),
        ("start", "first_event_ms"),
        ("recovery", "ready_ms"),
        ("idle", "cpu_ms_per_second"),
        ("soak", "resident_growth_kib_per_minute"),
        ("soak", "resident_growth_second_half_kib"),
    ] {
        assert!(has(scenario, figure), "{scenario} shows no {figure}:\n{text}\n{log}");
    }
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1) {
        assert!(has("two_shards", "measuring_cpu_ms_per_second"), "{text}\n{log}");
    }
    assert_eq!(document["failures"].as_array().map(Vec::len), Some(0), "{text}");
    assert!(text.contains("| recovery: below 2 s for 1 GB of log, to the first event |"), "{text}");
}

#[test]
fn a_small_crowd_is_measured_and_all_of_its_neighbours_lines_arrive() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(env!("CARGO_BIN_EXE_tailwater-perf"))
        .arg("crowd")
        .arg("--tailwater")
        .arg(tailwater())
        .arg("--scenarios")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios"))
        .args(["--crowd-files", "200", "--crowd-settle-seconds", "1"])
        .env("TMPDIR", folder.path())
        .output()
        .expect("the tool runs");
    let (text, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{log}\n{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("| ")).count(), 11, "{text}");
    // 200 files, 200 in directories, and those of the neighbour.
    let there = text.lines().find(|line| line.starts_with("| directories are there")).expect("the phase");
    let followed: u64 = there.split('|').nth(9).and_then(|cell| cell.trim().parse().ok()).expect("a number");
    assert!((400..450).contains(&followed), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0, "nothing is left");
}
