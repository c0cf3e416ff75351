//! Output files on a real disk: compressed and rotated files over kills, removed files, and several outputs of one input.

use crate::case::Case;
use crate::lines::{LINES, LineCount, LineWriter, arrived, block};
use crate::metrics;
use crate::product::{Product, give_away, text, unprivileged};
use crate::wait::wait_for;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

/// Number of lines in cases that decode their output repeatedly.
const FEW_LINES: u64 = 40_000;

/// The files of `out/`.
fn files(case: &Case) -> Vec<PathBuf> {
    fs::read_dir(case.path("out")).expect("out/").map(|entry| entry.expect("an entry").path()).collect()
}

/// The content of a file. Without `whole` it may end in a member that is still being written.
fn decoded(file: &Path, compression: &str, whole: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A rotation may have renamed it since it was listed.
    let Ok(file) = File::open(file) else { return bytes };
    let result = match compression {
        "gzip" => flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes),
        "zstd" => zstd::stream::read::Decoder::new(file).and_then(|mut decoder| decoder.read_to_end(&mut bytes)),
        _ => { file }.read_to_end(&mut bytes),
    };
    assert!(result.is_ok() || !whole, "{compression}: {result:?}");
    bytes
}

fn wait_for_lines(case: &Case, compression: &str, lines: u64, product: &mut Product) {
    wait_for(&format!("{lines} lines in out/"), || {
        let count = |file: &PathBuf| memchr::memchr_iter(b'\n', &decoded(file, compression, false)).count() as u64;
        match files(case).iter().map(count).sum::<u64>() {
            now if now >= lines => Ok(()),
            now => Err(format!("{now} lines; {}", product.state())),
        }
    });
}

fn kills_under_rotation(compression: &'static str, rotate_bytes: u64) {
    let case = Case::new(compression);
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/*.log").display());
    let path = case.output();
    let output = format!(
        "{{type: file, path: \"{}\", compression: {compression}, rotate: {{bytes: {rotate_bytes}, keep: 1000}}}}",
        path.display()
    );
    let config = case.configure(&input, &output);
    let mut writer = LineWriter::create(case.path("logs/app.log"));
    let writing = thread::spawn(move || writer.write_to(FEW_LINES));
    for kill in 1..=4 {
        let mut product = Product::start(&case, &config);
        wait_for_lines(&case, compression, kill * 8_000, &mut product);
        product.kill();
    }
    let mut product = Product::start(&case, &config);
    writing.join().expect("the writer");
    wait_for_lines(&case, compression, FEW_LINES, &mut product);
    product.terminate();
    let files = files(&case);
    assert!(files.len() > 5, "no rotation: {files:?}");
    let mut all = Vec::new();
    for file in &files {
        let length = fs::metadata(file).expect("a file").len();
        assert!(length <= rotate_bytes, "{} has {length} bytes", file.display());
        all.extend(decoded(file, compression, true));
    }
    arrived(&case.write("all.json", &all), FEW_LINES).assert_exactly_once();
}

#[test]
fn rotated_files_hold_each_line_once_over_kills() {
    kills_under_rotation("none", 1_000_000);
}

#[test]
fn gzip_files_decode_and_hold_each_line_once_over_kills() {
    kills_under_rotation("gzip", 60_000);
}

#[test]
fn zstd_files_decode_and_hold_each_line_once_over_kills() {
    kills_under_rotation("zstd", 60_000);
}

/// A removed directory takes its content with it, but nothing that is written later.
#[test]
fn removed_output_directory_is_created_again() {
    let case = Case::new("removed-folder");
    let config = case.files_to_file("logs/*.log");
    let mut product = Product::start(&case, &config);
    for turn in 0..4 {
        let (from, to) = (turn * 1_000 + 1, turn * 1_000 + 1_000);
        case.write(&format!("logs/{turn}.log"), &block(from, to));
        LineCount::of(case.output()).wait(1_000, &mut product);
        let seen = arrived(&case.output(), to);
        assert_eq!((seen.lost().len() as u64, seen.repeated().len()), (from - 1, 0));
        fs::remove_dir_all(case.path("out")).expect("a removal");
    }
    product.terminate();
}

/// The outputs `names`, each with its own file, all fed by one input; the first through one pipeline, the others through
/// another.
fn configure(case: &Case, names: &[&str]) -> PathBuf {
    let (first, rest) = names.split_first().expect("an output");
    let mut pipelines = format!("  one: {{inputs: [app], outputs: [{first}]}}\n");
    if !rest.is_empty() {
        pipelines.push_str(&format!("  two: {{inputs: [app], outputs: [{}]}}\n", rest.join(", ")));
    }
    let output = |name: &&str| {
        let path = case.path(&format!("out/{name}.json"));
        format!("  {name}: {{type: file, path: \"{}\", retry: {{initial: 50ms, max: 500ms}}}}\n", path.display())
    };
    let text = format!(
        "data_dir: \"{}\"\nshards: 2\nadmin: {{listen: \"127.0.0.1:{}\"}}\ninputs:\n  app: {{type: file, include: \
         [\"{}\"]}}\npipelines:\n{pipelines}outputs:\n{}",
        case.path("data").display(),
        case.admin_port,
        case.path("logs/*.log").display(),
        names.iter().map(output).collect::<String>(),
    );
    case.write("tailwater.yaml", text.as_bytes())
}

#[test]
fn each_output_of_two_pipelines_gets_each_line_once_over_kills() {
    let case = Case::new("shared");
    let config = configure(&case, &["a", "b", "c"]);
    let mut writers: Vec<LineWriter> = (0..4)
        .map(|part| LineWriter::create(case.path(&format!("logs/{part}.log"))).starting_at(part * LINES / 4 + 1))
        .collect();
    let mut slowest = LineCount::of(case.path("out/c.json"));
    for turn in 1..=4 {
        for (writer, part) in writers.iter_mut().zip(0..) {
            writer.burst_to(part * LINES / 4 + turn * LINES / 16);
        }
        let mut product = Product::start(&case, &config);
        slowest.wait(turn * LINES / 4 - LINES / 8, &mut product);
        product.kill();
    }
    let mut product = Product::start(&case, &config);
    for name in ["a", "b", "c"] {
        LineCount::of(case.path(&format!("out/{name}.json"))).wait(LINES, &mut product);
    }
    product.terminate();
    for name in ["a", "b", "c"] {
        arrived(&case.path(&format!("out/{name}.json")), LINES).assert_exactly_once();
    }
}

/// A new output gets only later events. A removed one takes its waiting events along, which is counted. The others are not
/// affected.
#[test]
fn outputs_are_added_and_removed_between_runs() {
    let case = Case::new("come-and-go");
    let (a, b) = (case.path("out/a.json"), case.path("out/b.json"));
    case.write("logs/1.log", &block(1, 1_000));
    let mut product = Product::start(&case, &configure(&case, &["a"]));
    LineCount::of(a.clone()).wait(1_000, &mut product);
    product.terminate();

    case.write("logs/2.log", &block(1_001, 2_000));
    let mut product = Product::start(&case, &configure(&case, &["a", "b"]));
    LineCount::of(a.clone()).wait(2_000, &mut product);
    LineCount::of(b.clone()).wait(1_000, &mut product);
    product.terminate();
    let seen = arrived(&b, 2_000);
    assert_eq!((seen.lost(), seen.repeated().len()), ((1..=1_000).collect(), 0));

    fs::remove_file(&b).expect("a removal");
    fs::create_dir(&b).expect("a folder where the file should be");
    case.write("logs/3.log", &block(2_001, 3_000));
    let mut product = Product::start(&case, &configure(&case, &["a", "b"]));
    product.expect("b.json");
    LineCount::of(a.clone()).wait(3_000, &mut product);
    product.kill();

    let config = configure(&case, &["a"]);
    let mut command = std::process::Command::new(crate::product::binary());
    command.args(["run", "-c", config.to_str().expect("UTF-8"), "--discard-removed", "b"]);
    let mut product = Product::start_with(&case, &mut command);
    product.expect("an output was removed from the configuration");
    wait_for("the count of what `b` never got", || {
        let labels = ["component_id=\"b\"", "reason=\"output_removed\""];
        match metrics::sum(case.admin_port, "tailwater_component_discarded_events_total", &labels)? {
            1_000 => Ok(()),
            other => Err(format!("{other}; {}", product.state())),
        }
    });
    product.terminate();
    arrived(&a, 3_000).assert_exactly_once();
}

#[test]
fn directories_without_rights_are_told_before_an_event_waits_for_them() {
    let case = Case::new("rights");
    std::fs::create_dir(case.path("closed")).expect("a directory");
    std::fs::set_permissions(case.path("closed"), PermissionsExt::from_mode(0o555)).expect("rights");
    case.write("owned.log", b"");
    std::fs::set_permissions(case.path("owned.log"), PermissionsExt::from_mode(0o444)).expect("rights");
    give_away(&case.path("data"));
    let shown = |path: &str| case.path(path).display().to_string();
    for (path, told) in [
        ("closed/out.log", format!("no file can be created in {}: Permission denied", shown("closed"))),
        ("closed/{{ host }}/%F.log", format!("no file can be created in {}: Permission denied", shown("closed"))),
        ("owned.log", format!("{} cannot be written: Permission denied", shown("owned.log"))),
    ] {
        let config = case.configure("{type: stdin}", &format!("{{type: file, path: \"{}\"}}", shown(path)));
        let validated = unprivileged(&case).args(["validate", "-c"]).arg(&config).output().expect("the product starts");
        let said = text(&validated.stderr);
        assert!(validated.status.success() && said.contains(&told), "{path}: {said}");
        assert!(said.contains("tailwater.yaml:") && said.contains("chown"), "{path}: {said}");
    }
}
