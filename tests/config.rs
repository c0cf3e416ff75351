//! Configurations as users write them, good and bad, and exactly what they are told. A case is `tests/config/NAME.yaml` with
//! `NAME.txt` beside it. `TAILWATER_BLESS=1 cargo test --test config` writes the texts anew, to be read before they are committed.

use std::path::{Path, PathBuf};
use tailwater::config::{self, Circumstances};
use tailwater_shards::glommio_env::GlommioEnv;

/// Variables that the cases may use.
fn variable(name: &str) -> Option<String> {
    match name {
        "LOG_DIR" => Some("/var/log/app".to_owned()),
        "EMPTY" => Some(String::new()),
        "SHARDS" => Some("2".to_owned()),
        "SECRET" => Some("hunter2: }{ [".to_owned()),
        _ => None,
    }
}

fn here() -> Circumstances {
    Circumstances { data_dir: None, cpus: 2 }
}

fn told(file: &str, bytes: Vec<u8>) -> String {
    match config::load::<GlommioEnv>(file, bytes, &variable, &here()) {
        Err(refused) => format!("refused\n\n{}", refused.report.render(false)),
        Ok(loaded) => format!("accepted\n\n{}{}", loaded.warnings.render(false), loaded.plan.summary()),
    }
}

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let entries = std::fs::read_dir(directory).expect("tests/config is a directory");
    let paths = entries.map(|entry| entry.expect("an entry of tests/config").path());
    let mut cases: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    cases.sort();
    cases
}

fn check(name: &str, told: &str, expected_path: &Path, wrong: &mut Vec<String>) {
    // Ends of lines carry padding that editors remove.
    let told: String = told.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let told = format!("{}\n", told.trim_end());
    if std::env::var_os("TAILWATER_BLESS").is_some() {
        std::fs::write(expected_path, &told).expect("the expectation can be written");
    }
    let expected = std::fs::read_to_string(expected_path).unwrap_or_default();
    if told != expected {
        wrong.push(format!("---- {name}: expected\n{expected}---- told\n{told}"));
    }
}

#[test]
fn every_case_is_told_exactly_what_is_expected() {
    let cases = cases();
    assert!(cases.len() >= 20, "only {} cases were found", cases.len());
    let mut wrong = Vec::new();
    for path in &cases {
        let name = path.file_name().and_then(|name| name.to_str()).expect("case names are UTF-8");
        let bytes = std::fs::read(path).expect("a case can be read");
        check(name, &told(name, bytes), &path.with_extension("txt"), &mut wrong);
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn the_value_of_a_variable_is_never_shown() {
    for path in cases() {
        let told = told("case.yaml", std::fs::read(&path).expect("a case can be read"));
        assert!(!told.contains("hunter2"), "{}: {told}", path.display());
    }
}

#[test]
fn a_huge_file_is_refused_without_being_read_whole() {
    let path = std::env::temp_dir().join(format!("tailwater-huge-{}.yaml", std::process::id()));
    std::fs::File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a sparse file can be made");
    let result = config::load_file::<GlommioEnv>(&path, &here());
    std::fs::remove_file(&path).expect("the file can be removed");
    let text = result.err().map(|refused| refused.report.render(false)).unwrap_or_default();
    assert!(text.contains("larger than 1048576 bytes"), "{text}");
}

#[test]
fn a_file_that_is_missing_or_a_directory_is_refused() {
    for (path, part) in [("/nonexistent/tailwater.yaml", "check the path given with `-c`"), ("/tmp", "cannot be read")]
    {
        let result = config::load_file::<GlommioEnv>(Path::new(path), &here());
        let text = result.err().map(|refused| refused.report.render(false)).unwrap_or_default();
        assert!(text.contains(part) && text.contains(path), "{text}");
    }
}

#[test]
fn bytes_that_repeat_themselves_by_aliases_are_refused() {
    let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (name, inner) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip(["a", "b", "c", "d", "e", "f", "g"]) {
        text.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{inner}"); 10].join(", ")));
    }
    let told = told("bomb.yaml", text.into_bytes());
    assert!(told.contains("more than 200000 values"), "{told}");
}

#[test]
fn any_cut_of_a_good_file_is_answered_without_a_panic() {
    let good = include_bytes!("config/good_full.yaml");
    for end in 0..good.len() {
        let _ = told("cut.yaml", good[..end].to_vec());
        let mut flipped = good.to_vec();
        flipped[end] ^= 0x15;
        let _ = told("flipped.yaml", flipped);
    }
}
